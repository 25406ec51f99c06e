"""Images in a bucket: what is asked of it, what it may answer, and what is left of a failure.

The S3 is moto, over HTTP; what both do with Amazon's own or with R2 is not seen here.
"""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from runware_provider.artifacts import Artifacts, BucketAccess, StoreUnavailable
from runware_provider.errors import ConfigurationError, OutputNotFound, StorageFailed, worth_trying
from tests.artifacts.buckets import KEY_ID, SECRET, Bucket, Reply, answers, hangs_up, stalls
from tests.artifacts.cdn import Cdn, body
from tests.artifacts.conftest import GENERATION, OUTPUT, Opener, content, keep, refusal
from tests.artifacts.pictures import a_jpeg_of, a_picture
from tests.service import eventually

MIB = 1 << 20
LARGE = 12 * MIB
"""Three parts: 5, 5 and 2 MiB."""

PUTS = r"^PUT"
BEGINS = r"^POST .*uploads"
PARTS = r"^PUT .*partNumber"
ENDS = r"^POST .*uploadId"


@pytest.fixture
async def kept(open_artifacts: Opener, bucket: Bucket) -> Artifacts:
    """Artifacts in the bucket; what opening them asked is forgotten."""
    artifacts = await open_artifacts(bucket.url, bucket_access=bucket.access)
    bucket.asked.clear()
    return artifacts


async def storage_failure(artifacts: Artifacts, url: str) -> StorageFailed:
    """The error of a bucket that did not take the image, which tells nothing that is not for everybody."""
    error = (await refusal(artifacts, url)).error
    assert isinstance(error, StorageFailed)
    assert worth_trying(error) == "long"
    assert error.key.startswith(f"generations/{GENERATION}/{OUTPUT}")
    for secret in (KEY_ID, SECRET, "planted", "http", "uploadId", "\n"):
        assert secret not in error.message
    return error


@pytest.mark.parametrize("size", [20_000, 200_000, 2 * MIB, 5 * MIB])
async def test_a_small_image_is_one_request(kept: Artifacts, bucket: Bucket, cdn: Cdn, size: int) -> None:
    """Every request costs money and a round trip."""
    stored = await keep(kept, cdn.says(body(a_jpeg_of(size))))

    assert bucket.asked == [f"PUT /a%20prefix/of%3Dtwo/{stored.key}"]


async def test_a_large_image_goes_in_parts(kept: Artifacts, bucket: Bucket, cdn: Cdn) -> None:
    """So that no more than a part of it must be in memory."""
    await keep(kept, cdn.says(body(a_jpeg_of(LARGE))))

    assert [said.split()[0] for said in bucket.asked] == ["POST", "PUT", "PUT", "PUT", "POST"]
    assert await bucket.uploads() == []


@pytest.mark.parametrize("size", [20_000, LARGE])
async def test_the_bucket_knows_what_it_keeps(kept: Artifacts, bucket: Bucket, cdn: Cdn, size: int) -> None:
    """Whoever it serves the image to is told its type, and may keep it: it never changes."""
    stored = await keep(kept, cdn.says(body(a_jpeg_of(size))))
    (key,) = await bucket.keys()
    status, headers, data = await bucket.ask("GET", f"/{quote(key)}")

    assert (status, data) == (200, a_jpeg_of(size))
    assert key == f"a prefix/of=two/{stored.key}"
    assert headers["Content-Type"] == "image/jpeg"
    assert headers["Cache-Control"] == "private, max-age=31536000, immutable"


async def test_a_piece_is_read_with_one_request(kept: Artifacts, bucket: Bucket, cdn: Cdn) -> None:
    """The size of the whole comes along."""
    stored = await keep(kept, cdn.says(body(a_jpeg_of(2 * MIB + 5))))
    bucket.asked.clear()
    found = await kept.read(stored.key)

    assert found.size == 2 * MIB + 5
    assert [len(piece) async for piece in found] == [MIB, MIB, 5]
    assert [said.split()[0] for said in bucket.asked] == ["GET"] * 3


async def test_an_image_that_is_read_does_not_wait_for_those_that_are_stored(
    kept: Artifacts, bucket: Bucket, cdn: Cdn
) -> None:
    """Uploads may take all their threads for minutes."""
    url = cdn.says(body(a_picture()))
    stored = await keep(kept, url)
    bucket.fails(stalls, PUTS)
    waiting = [asyncio.ensure_future(kept.keep(GENERATION, UUID(int=each), url, attempt=1)) for each in range(20)]
    async with asyncio.timeout(10):
        await eventually(lambda: sum(said.startswith("PUT") for said in bucket.asked) >= 16)
        assert a_picture() == await content(kept, stored.key)
    bucket.recovers()
    await bucket.hang_up()
    await asyncio.gather(*waiting)


@pytest.mark.parametrize("size", [20_000, LARGE])
@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("AccessDenied", 403, "S3_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", 403, "S3_SECRET_ACCESS_KEY"),
        ("InvalidAccessKeyId", 403, "S3_ACCESS_KEY_ID"),
        ("NoSuchBucket", 404, "make it, or correct ARTIFACTS_URL"),
        ("AuthorizationHeaderMalformed", 400, "S3_REGION"),
        ("EntityTooLarge", 400, "400 EntityTooLarge"),
    ],
)
async def test_a_bucket_that_refuses_is_named_with_the_remedy(
    kept: Artifacts, bucket: Bucket, cdn: Cdn, size: int, code: str, status: int, said: str
) -> None:
    """It is asked once: the same question would get the same answer."""
    bucket.fails(answers(status, code), "^(PUT|POST)")
    error = await storage_failure(kept, cdn.says(body(a_jpeg_of(size))))

    assert bucket.name in error.message
    assert said in error.message
    assert len(bucket.asked) == 1
    bucket.recovers()
    assert size == (await keep(kept, cdn.url("/image"))).size_bytes


@pytest.mark.parametrize("size", [20_000, LARGE])
@pytest.mark.parametrize("reply", [answers(500, "InternalError"), answers(503, "SlowDown"), hangs_up])
async def test_a_passing_failure_is_not_noticed(
    kept: Artifacts, bucket: Bucket, cdn: Cdn, size: int, reply: Reply
) -> None:
    """Each request is made up to four times."""
    for on in (BEGINS, PARTS, ENDS) if size == LARGE else (PUTS,):
        bucket.fails(reply, on, times=2)
    stored = await keep(kept, cdn.says(body(a_jpeg_of(size))))

    assert a_jpeg_of(size) == await content(kept, stored.key)
    assert await bucket.uploads() == []


@pytest.mark.parametrize(
    ("on", "size", "asked"),
    [(PUTS, 20_000, 4), (BEGINS, LARGE, 4), ("partNumber=2", LARGE, 6), (ENDS, LARGE, 8)],
    ids=["one request", "begin", "part", "end"],
)
@pytest.mark.parametrize("status", [500, 503])
async def test_a_failure_that_lasts_leaves_nothing(
    kept: Artifacts, bucket: Bucket, cdn: Cdn, on: str, size: int, asked: int, status: int
) -> None:
    """Neither an image nor parts of one, for which the team would pay."""
    bucket.fails(answers(status, "InternalError"), on)
    error = await storage_failure(kept, cdn.says(body(a_jpeg_of(size))))

    assert error.message == f"bucket {bucket.name} answered {status} InternalError"
    assert len([said for said in bucket.asked if not said.startswith("DELETE")]) == asked
    assert (await bucket.keys(), await bucket.uploads()) == ([], [])


async def test_an_upload_that_fails_with_its_last_word_is_not_kept(kept: Artifacts, bucket: Bucket, cdn: Cdn) -> None:
    """S3 may answer 200 and say in the body that it could not put the parts together."""
    bucket.fails(answers(200, "InternalError"), ENDS)
    error = await storage_failure(kept, cdn.says(body(a_jpeg_of(LARGE))))

    assert error.message == f"bucket {bucket.name} answered InternalError"
    assert await bucket.uploads() == []


@pytest.mark.parametrize("size", [20_000, LARGE])
async def test_a_bucket_that_says_nothing_is_given_up(
    open_artifacts: Opener, bucket: Bucket, cdn: Cdn, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """After 30 s, or what obstore is told in AWS_TIMEOUT."""
    monkeypatch.setenv("AWS_TIMEOUT", "200ms")
    artifacts = await open_artifacts(bucket.url, bucket_access=bucket.access)
    bucket.fails(stalls, PUTS)
    error = await storage_failure(artifacts, cdn.says(body(a_jpeg_of(size))))

    assert error.message == f"bucket {bucket.name} cannot be reached: it did not answer in time"
    assert await bucket.uploads() == []


async def test_a_bucket_that_is_away_is_a_failure_of_every_call(
    open_artifacts: Opener, bucket: Bucket, cdn: Cdn
) -> None:
    access = BucketAccess("http://127.0.0.1:1", "auto", KEY_ID, SecretStr(SECRET))
    artifacts = await open_artifacts(bucket.url, bucket_access=access)
    error = await storage_failure(artifacts, cdn.says(body(a_picture())))

    assert error.message == f"bucket {bucket.name} cannot be reached: the connection was refused"
    for call in (
        artifacts.purge(GENERATION),
        artifacts.read(error.key),
        artifacts.delete(error.key),
        artifacts.probe(),
    ):
        with pytest.raises(StoreUnavailable, match="the connection was refused"):
            await call


async def test_a_bucket_that_is_gone_is_not_taken_for_an_image_that_is(
    kept: Artifacts, bucket: Bucket, cdn: Cdn
) -> None:
    """Both are 404, but nothing is known about the image."""
    stored = await keep(kept, cdn.says(body(a_picture())))
    bucket.fails(answers(404, "NoSuchBucket"))
    for call in (kept.read(stored.key), kept.delete(stored.key), kept.purge(GENERATION)):
        with pytest.raises(StoreUnavailable, match=f"there is no bucket {bucket.name}"):
            await call
    bucket.recovers()
    await kept.delete(stored.key)
    with pytest.raises(OutputNotFound):
        await kept.read(stored.key)


async def test_a_delete_that_is_refused_for_one_key_is_no_delete(kept: Artifacts, bucket: Bucket, cdn: Cdn) -> None:
    """S3 answers 200 to the request and refuses in its body."""
    stored = await keep(kept, cdn.says(body(a_picture())))

    async def refuse(request: web.Request) -> web.StreamResponse:
        text = (
            "<DeleteResult><Error>"
            f"<Key>a prefix/of=two/{stored.key}</Key><Code>AccessDenied</Code><Message>No.</Message>"
            "</Error></DeleteResult>"
        )
        return web.Response(text=text, content_type="application/xml")

    bucket.fails(refuse, r"\?delete")
    with pytest.raises(StoreUnavailable, match=f"bucket {bucket.name} refused"):
        await kept.delete(stored.key)
    with pytest.raises(StoreUnavailable, match=f"bucket {bucket.name} refused"):
        await kept.purge(GENERATION)
    assert len(await bucket.keys()) == 1


async def test_a_cancelled_upload_leaves_no_parts(kept: Artifacts, bucket: Bucket, cdn: Cdn) -> None:
    """obstore itself would leave them, were its own call cancelled."""
    arrived, go_on = asyncio.Event(), asyncio.Event()
    passed = bucket.passes

    async def wait(request: web.Request) -> web.StreamResponse:
        arrived.set()
        await go_on.wait()
        return await passed(request)

    bucket.fails(wait, "partNumber=1")
    keeping = asyncio.ensure_future(keep(kept, cdn.says(body(a_jpeg_of(LARGE)))))
    await arrived.wait()
    assert await bucket.uploads() != []
    keeping.cancel()
    await asyncio.sleep(0.02)
    go_on.set()

    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert bucket.asked[-1].startswith("DELETE")
    assert (await bucket.keys(), await bucket.uploads()) == ([], [])


async def test_a_large_image_that_waits_for_its_turn_can_be_cancelled(
    kept: Artifacts, bucket: Bucket, cdn: Cdn
) -> None:
    """Only a few are on their way at once, because each takes memory."""
    url = cdn.says(body(a_jpeg_of(LARGE)))
    bucket.fails(stalls, PARTS)
    outputs = [UUID(int=each) for each in range(8)]
    keeping = {each: asyncio.ensure_future(kept.keep(GENERATION, each, url, attempt=1)) for each in outputs}
    async with asyncio.timeout(10):
        await eventually(lambda: len(bucket.asked) >= 12)
        await asyncio.sleep(0.1)
        assert len(bucket.asked) == 12  # six have begun, and sent a part
        for waiting in [each for each in outputs if str(each) not in str(bucket.asked)]:
            keeping[waiting].cancel()
            with pytest.raises(asyncio.CancelledError):
                await keeping.pop(waiting)
        bucket.recovers()
        await bucket.hang_up()
        await asyncio.gather(*keeping.values())
    assert len(await bucket.keys()) == 6


async def test_a_generation_of_any_size_is_purged(kept: Artifacts, bucket: Bucket, cdn: Cdn) -> None:
    """A thousand keys are listed at once, and deleted at once; others stay."""
    other = await kept.keep(UUID(int=7), OUTPUT, cdn.says(body(a_picture())), attempt=1)
    folder = f"/a%20prefix/of%3Dtwo/generations/{GENERATION}"
    for start in range(0, 1_005, 50):
        puts = (bucket.ask("PUT", f"{folder}/{each}.jpg", data=b"x") for each in range(start, min(start + 50, 1_005)))
        await asyncio.gather(*puts)
    bucket.asked.clear()

    assert await kept.purge(GENERATION) == 1_005
    assert sorted(said.split()[0] for said in bucket.asked) == ["GET"] * 2 + ["POST"] * 2
    assert await bucket.keys() == [f"a prefix/of=two/{other.key}"]


async def test_nothing_is_left_of_a_probe(kept: Artifacts, bucket: Bucket) -> None:
    await kept.probe()

    assert [said.split()[0] for said in bucket.asked] == ["PUT", "GET", "POST"]
    assert await bucket.keys() == []


async def test_processes_share_a_bucket(open_artifacts: Opener, bucket: Bucket, cdn: Cdn, tmp_path: Path) -> None:
    """Each spools into its own folder; they probe at the same time, and one reads what the other kept."""
    one, two = [
        await open_artifacts(bucket.url, bucket_access=bucket.access, data_dir=tmp_path / name) for name in ("1", "2")
    ]
    await asyncio.gather(*(each.probe() for each in (one, two) * 10))
    url = cdn.says(body(a_jpeg_of(LARGE)))
    first, second = await asyncio.gather(keep(one, url), keep(two, url))

    assert first == second
    assert len(await bucket.keys()) == 1
    assert a_jpeg_of(LARGE) == await content(two, first.key)
    assert [await one.purge(GENERATION), await two.purge(GENERATION)] == [1, 0]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (answers(404, "NoSuchBucket"), "there is no bucket {name} .*: make it, or correct ARTIFACTS_URL"),
        (answers(403, "AccessDenied"), "bucket {name} refused .*: check its keys"),
        (answers(301, "PermanentRedirect"), "bucket {name} is in another region: set S3_REGION"),
    ],
)
async def test_a_bucket_that_refuses_stops_the_start(
    open_artifacts: Opener, bucket: Bucket, reply: Reply, said: str
) -> None:
    """What is paid for must have a place to go to."""
    bucket.fails(reply)
    with pytest.raises(ConfigurationError, match=said.format(name=bucket.name)):
        await open_artifacts(bucket.url, bucket_access=bucket.access)


async def test_a_bucket_that_does_not_exist_stops_the_start(open_artifacts: Opener, bucket: Bucket) -> None:
    with pytest.raises(ConfigurationError, match="there is no bucket no-such-bucket"):
        await open_artifacts("s3://no-such-bucket", bucket_access=bucket.access)


@pytest.mark.parametrize("reply", [answers(503, "SlowDown"), hangs_up, stalls])
async def test_a_bucket_that_is_not_well_does_not_stop_the_start(
    open_artifacts: Opener, bucket: Bucket, cdn: Cdn, reply: Reply
) -> None:
    """Webhooks must be taken meanwhile; images wait."""
    bucket.fails(reply)
    async with asyncio.timeout(6):
        artifacts = await open_artifacts(bucket.url, bucket_access=bucket.access)
    bucket.recovers()

    stored = await keep(artifacts, cdn.says(body(a_picture())))
    assert a_picture() == await content(artifacts, stored.key)


async def test_a_bucket_without_keys_stops_the_start(
    open_artifacts: Opener, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing set, nothing in the environment, and a machine without a role."""
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=f"no keys for bucket {bucket.name}: set S3_ACCESS_KEY_ID"):
        await open_artifacts(bucket.url, bucket_access=BucketAccess(bucket.endpoint))


async def test_what_is_not_set_comes_from_the_environment(
    open_artifacts: Opener, bucket: Bucket, cdn: Cdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As other programs on the machine have it."""
    environment = {
        "ENDPOINT_URL": bucket.endpoint,
        "ALLOW_HTTP": "true",
        "ACCESS_KEY_ID": "from-the-environment",
        "SECRET_ACCESS_KEY": SECRET,
        "SESSION_TOKEN": "a-token",
        "REGION": "eu-somewhere-1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    await keep(await open_artifacts(bucket.url), cdn.says(body(a_picture())))

    assert "Credential=from-the-environment/" in bucket.headers["Authorization"]
    assert "/eu-somewhere-1/s3/" in bucket.headers["Authorization"]
    assert bucket.headers["x-amz-security-token"] == "a-token"


async def test_what_is_set_wins_over_the_environment(
    open_artifacts: Opener, bucket: Bucket, cdn: Cdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also over the rest of another identity: a token that belongs to other keys would make every request fail."""
    environment = {
        "ENDPOINT_URL": "http://127.0.0.1:1",
        "ENDPOINT_URL_S3": "http://127.0.0.1:1",
        "VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "ACCESS_KEY_ID": "other",
        "SECRET_ACCESS_KEY": "other",
        "SESSION_TOKEN": "other",
        "REGION": "other",
    }
    for name, value in environment.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    artifacts = await open_artifacts(bucket.url, bucket_access=bucket.access)
    await keep(artifacts, cdn.says(body(a_picture())))

    assert f"Credential={KEY_ID}/" in bucket.headers["Authorization"]
    assert "/eu-test-1/s3/" in bucket.headers["Authorization"]
    assert "other" not in str(bucket.headers)


async def test_r2_is_an_s3_at_the_address_of_the_account(
    open_artifacts: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen by the proxy through which it is asked."""
    asked: list[str] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readline()).decode())
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    monkeypatch.setenv("AWS_PROXY_URL", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await open_artifacts("r2://0123456789abcdef/images", bucket_access=BucketAccess(None, None, "k", SecretStr("s")))
    server.close()
    await server.wait_closed()

    assert asked
    assert set(asked) == {"CONNECT 0123456789abcdef.r2.cloudflarestorage.com:443 HTTP/1.1\r\n"}


async def test_r2_has_the_region_auto(open_artifacts: Opener, bucket: Bucket, cdn: Cdn) -> None:
    """An endpoint that is set is used instead of the account's, as a jurisdiction has one of its own."""
    access = BucketAccess(bucket.endpoint, None, KEY_ID, SecretStr(SECRET))
    artifacts = await open_artifacts(f"r2://0123456789abcdef/{bucket.name}/a/b", bucket_access=access)
    stored = await keep(artifacts, cdn.says(body(a_picture())))

    assert "/auto/s3/" in bucket.headers["Authorization"]
    assert await bucket.keys() == [f"a/b/{stored.key}"]


A_KEY_ID = {"access_key_id": "AKIAPLANTED"}
A_SECRET = {"secret_access_key": SecretStr("planted/secret")}


@pytest.mark.parametrize(
    ("url", "access", "said"),
    [
        ("s3://AKIAPLANTED:planted@images/prefix", {}, "carries a user name or password; set S3_ACCESS_KEY_ID"),
        ("s3://AKIAPLANTED:plan/ted@images/prefix", {}, "S3_ENDPOINT"),
        ("r2://AKIAPLANTED@account/images", {}, "carries a user name or password"),
        ("gs://planted@images", {}, "carries a user name or password"),
        ("AKIAPLANTED:planted@images", {}, "not a kind of store"),
        ("s3:AKIAPLANTED:planted@images", {}, "not a kind of store"),
        ("s3://", {}, "s3://bucket/prefix"),
        ("s3:///prefix", {}, "s3://bucket/prefix"),
        ("s3://im", {}, "s3://bucket/prefix"),
        ("s3://images:9000/prefix", {}, "S3_ENDPOINT"),
        ("s3://images/prefix?secret=planted", {}, "s3://bucket/prefix"),
        ("s3://images/prefix#planted", {}, "s3://bucket/prefix"),
        ("s3://images/a//b", {}, "prefix"),
        ("s3://images/a/../b", {}, "prefix"),
        ("s3://images/a%00b", {}, "prefix"),
        ("s3://images/" + "a" * 513, {}, "at most 512 characters"),
        ("s3://[images/prefix", {}, "cannot be read"),
        ("r2://account", {}, "r2://account/bucket/prefix"),
        ("r2://Account_/images", {}, "account's id"),
        ("gs://images/a/../b", {}, "gs://bucket/prefix"),
        ("s3://images", A_KEY_ID, "S3_SECRET_ACCESS_KEY is not set"),
        ("s3://images", A_SECRET, "S3_ACCESS_KEY_ID is not set"),
        ("gs://images", {"region": "auto"}, "S3_REGION: only s3:// and r2://"),
        ("file:///srv/images", A_KEY_ID | A_SECRET, "S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY: set for a bucket"),
        ("memory://", {"endpoint": "https://planted"}, "S3_ENDPOINT: set for a bucket"),
    ],
)
async def test_an_address_that_names_no_bucket_stops_the_start(
    open_artifacts: Opener, url: str, access: dict[str, Any], said: str
) -> None:
    """Nothing of it is told: what was typed in the wrong place may be a password."""
    with pytest.raises(ConfigurationError) as refused:
        await open_artifacts(url, bucket_access=BucketAccess(**access))

    assert said in str(refused.value)
    assert "planted" not in str(refused.value).lower()


def test_the_secret_is_not_shown_with_the_rest() -> None:
    assert "planted" not in repr(BucketAccess(None, None, "a-key-id", SecretStr("planted")))


async def test_a_signed_address_serves_the_image_and_its_ranges(kept: Artifacts, bucket: Bucket, cdn: Cdn) -> None:
    """For five minutes, to whoever has it; and only as it was signed."""
    stored = await keep(kept, cdn.says(body(a_jpeg_of(20_000))))
    bucket.asked.clear()
    get, head = await kept.sign(stored.key, "GET"), await kept.sign(stored.key, "HEAD")

    assert get is not None
    assert head is not None
    assert get != head
    assert get.startswith(f"{bucket.endpoint}/{bucket.name}/a%20prefix/of%3Dtwo/{stored.key}?")
    assert "X-Amz-Expires=300&" in get
    assert SECRET not in get
    assert bucket.asked == []  # signing is arithmetic
    async with aiohttp.ClientSession() as session:
        async with session.get(get) as answer:
            assert (answer.status, await answer.read()) == (200, a_jpeg_of(20_000))
            assert answer.content_type == "image/jpeg"
        async with session.get(get, headers={"Range": "bytes=5-9"}) as answer:
            assert (answer.status, await answer.read()) == (206, a_jpeg_of(20_000)[5:10])
        async with session.head(head) as answer:
            assert (answer.status, answer.headers["Content-Length"]) == (200, "20000")


@pytest.mark.parametrize("url", [None, "memory://"])
async def test_a_store_without_addresses_signs_nothing(open_artifacts: Opener, cdn: Cdn, url: str | None) -> None:
    artifacts = await (open_artifacts() if url is None else open_artifacts(url))
    stored = await keep(artifacts, cdn.says(body(a_picture())))

    assert await artifacts.sign(stored.key, "GET") is None


async def test_only_a_key_of_ours_is_signed(kept: Artifacts) -> None:
    """A signature opens whatever it names."""
    for key in ("", "generations", "../secret", f"generations/{GENERATION}/../../secret.jpg"):
        with pytest.raises(OutputNotFound):
            await kept.sign(key, "GET")


async def test_no_log_shows_a_secret_or_a_signature(
    open_artifacts: Opener,
    bucket: Bucket,
    cdn: Cdn,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """At any level, also when something fails."""
    caplog.set_level(logging.DEBUG)
    artifacts = await open_artifacts(bucket.url, bucket_access=bucket.access)
    stored = await keep(artifacts, cdn.says(body(a_picture())))
    await artifacts.sign(stored.key, "GET")
    bucket.fails(answers(403, "SignatureDoesNotMatch"))
    await storage_failure(artifacts, cdn.url("/image"))
    told = caplog.text + "".join(capfd.readouterr())

    for secret in (SECRET, "X-Amz-Signature", "StringToSign"):
        assert secret not in told


MEMORY = """
import asyncio, multiprocessing, sys
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID
from pydantic import SecretStr
from benchmarks.keep import most_memory, serve
from runware_provider.artifacts import Artifacts, BucketAccess
from runware_provider.tuning import tune

async def main(port, size, endpoint, bucket, folder):
    artifacts = await Artifacts.open(
        f"s3://{bucket}", data_dir=Path(folder), image_hosts=["127.0.0.1"], max_image_bytes=64 << 20,
        bucket_access=BucketAccess(endpoint, "auto", "a-key-id", SecretStr("a-secret")),
    )
    await asyncio.gather(*(
        artifacts.keep(UUID(int=1), UUID(int=each), f"http://127.0.0.1:{port}/", attempt=1) for each in range(32)
    ))
    await artifacts.aclose()
    print(most_memory())

if __name__ == "__main__":
    tune()
    ours, theirs = multiprocessing.Pipe()
    size = int(sys.argv[1])
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(size, theirs), daemon=True)
    server.start()
    asyncio.run(main(ours.recv(), *sys.argv[1:]))
    server.terminate()
"""


@pytest.mark.parametrize("size", [4 * MIB, 16 * MIB], ids=["in one request", "in parts"])
async def test_memory_stays_flat(bucket: Bucket, moto_url: str, tmp_path: Path, size: int) -> None:
    """32 images, 16 at once, in a process of its own: half a gigabyte goes through it."""
    script = tmp_path / "memory.py"
    script.write_text(MEMORY)
    command = [sys.executable, str(script), str(size), moto_url, bucket.name, str(tmp_path)]
    run: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run
    done = await asyncio.to_thread(
        run, command, capture_output=True, text=True, timeout=100, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )

    assert int(done.stdout) < 150_000_000
