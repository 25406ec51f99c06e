"""Clients that are sent to the bucket for the bytes, and those that are not."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from runware_provider.durable.owner import read_owner
from tests.api.conftest import undocumented
from tests.artifacts.buckets import SECRET, Bucket, answers
from tests.service import Answer, Service, a_service, images


def settings(bucket: Bucket, **changes: Any) -> dict[str, Any]:
    """Those of a service that keeps its images in the bucket and sends clients there."""
    access = bucket.access
    given = {
        "artifacts_url": bucket.url,
        "s3_endpoint": access.endpoint,
        "s3_region": access.region,
        "s3_access_key_id": access.access_key_id,
        "s3_secret_access_key": access.secret_access_key,
        "content_redirects": True,
    }
    return given | changes


class Picture:
    """One stored image, its address at the service, and how it is asked for."""

    def __init__(self, service: Service, generation_id: object, output_id: object, digest: str) -> None:
        self.service = service
        self.path = f"/v1/generations/{generation_id}/outputs/{output_id}/content"
        self.digest = digest

    async def ask(self, method: str = "GET", *, follow: bool = False, **headers: str) -> Answer:
        """Ask for it; `_` in header names stands for `-`."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.service.ask(method, self.path, headers=given, allow_redirects=follow)


async def a_picture(service: Service) -> Picture:
    """An image that the service has made and stored."""
    state = await service.made()
    (output,) = images(state)
    return Picture(service, state.id, output.id, output.sha256)


@pytest.fixture
async def service(tmp_path: Path, bucket: Bucket) -> AsyncIterator[Service]:
    async with a_service(tmp_path, **settings(bucket)) as service:
        yield service
        assert undocumented(service) == []


async def test_the_bucket_serves_the_bytes(service: Service, bucket: Bucket) -> None:
    """307, because the answer to the same request may be another one in five minutes; so nobody keeps it."""
    picture = await a_picture(service)
    answer = await picture.ask()

    assert (answer.status, answer.body) == (307, b"")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["location"].startswith(f"{bucket.endpoint}/{bucket.name}/")
    assert "X-Amz-Expires=300&" in answer.headers["location"]
    bucket.asked.clear()
    followed = await picture.ask(follow=True)
    assert sha256(followed.body).hexdigest() == picture.digest
    assert followed.headers["content-type"] == "image/jpeg"
    assert [said.split()[0] for said in bucket.asked] == ["GET"]


async def test_a_range_is_served_there_too(service: Service) -> None:
    """The signature does not cover the header."""
    picture = await a_picture(service)
    whole = await picture.ask(follow=True)
    part = await picture.ask(follow=True, Range="bytes=5-24")

    assert (part.status, part.body) == (206, whole.body[5:25])
    assert part.headers["content-range"] == f"bytes 5-24/{len(whole.body)}"


async def test_head_leads_to_an_address_for_head(service: Service) -> None:
    """What is signed for GET is refused to HEAD."""
    picture = await a_picture(service)
    get, head = await picture.ask(), await picture.ask("HEAD")
    followed = await picture.ask("HEAD", follow=True)

    assert (head.status, head.headers["cache-control"]) == (307, "no-store")
    assert head.headers["location"] != get.headers["location"]
    assert (followed.status, followed.headers["content-type"]) == (200, "image/jpeg")


async def test_what_the_client_has_needs_no_bucket(service: Service) -> None:
    picture = await a_picture(service)

    assert (await picture.ask(If_None_Match=f'"{picture.digest}"')).status == 304


async def test_a_command_gets_the_bytes_themselves(service: Service) -> None:
    """Its connection is the owner's socket, which leads nowhere else."""
    picture = await a_picture(service)
    owner = await asyncio.to_thread(read_owner, service.ctx.settings.data_dir)
    assert owner is not None
    connector = aiohttp.UnixConnector(owner["socket"])
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get(f"http://localhost{picture.path}", allow_redirects=False) as answer,
    ):
        assert answer.status == 200
        assert sha256(await answer.read()).hexdigest() == picture.digest


async def test_without_the_setting_the_service_serves_the_bytes(tmp_path: Path, bucket: Bucket) -> None:
    """Then the bucket need not be reached by clients."""
    async with a_service(tmp_path, **settings(bucket, content_redirects=False)) as service:
        picture = await a_picture(service)
        answer = await picture.ask()
        part = await picture.ask(Range="bytes=5-24")

        assert (answer.status, sha256(answer.body).hexdigest()) == (200, picture.digest)
        assert (part.status, part.body) == (206, answer.body[5:25])


@pytest.mark.parametrize("store", [{}, {"artifacts_url": "memory://"}], ids=["file", "memory"])
async def test_a_store_without_addresses_goes_on_streaming(tmp_path: Path, store: dict[str, Any]) -> None:
    async with a_service(tmp_path, content_redirects=True, **store) as service:
        picture = await a_picture(service)
        answer = await picture.ask()

        assert (answer.status, sha256(answer.body).hexdigest()) == (200, picture.digest)


async def test_a_bucket_that_is_not_well_is_a_problem_that_names_it(tmp_path: Path, bucket: Bucket) -> None:
    async with a_service(tmp_path, **settings(bucket, content_redirects=False)) as service:
        picture = await a_picture(service)
        bucket.fails(answers(503, "SlowDown"))
        answer = await picture.ask()

        assert answer.status == 503
        assert answer.problem["detail"] == f"bucket {bucket.name} answered 503 SlowDown"


async def test_no_log_shows_where_a_client_was_sent(
    service: Service, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whoever has the address has the image."""
    caplog.set_level(logging.DEBUG)
    picture = await a_picture(service)
    signature = (await picture.ask()).headers["location"].rpartition("=")[2]
    told = caplog.text + "".join(capfd.readouterr())

    assert len(signature) == 64
    assert signature not in told
    assert "X-Amz" not in told
    assert SECRET not in told


async def test_whoever_cannot_follow_asks_for_the_bytes_here(tmp_path: Path, bucket: Bucket) -> None:
    """A page whose policy allows nothing from elsewhere, as those of the gallery: their images come from here."""
    async with a_service(tmp_path, **settings(bucket)) as service:
        picture = await a_picture(service)
        page = (await service.get(f"/g/{picture.path.split('/')[3]}")).body.decode()
        (source,) = re.findall(r'<img src="(/v1/[^"]*/content[^"]*)"', page)
        answer = await service.get(source, allow_redirects=False)

        assert (answer.status, sha256(answer.body).hexdigest()) == (200, picture.digest)
