"""The CDN: images by URL for as long as they live, and every wrong that is staged in serving them."""

import asyncio
import io
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from PIL import Image

from tests.simulator.simulator_harness import Api, JsonObject, simulated

MIME = {"JPG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp"}


async def _url(api: Api, *rules: JsonObject, **fields: Any) -> str:
    [item] = await api.made(**fields)
    api.stage(*({"on": "cdn", **rule} for rule in rules))
    url: str = item["imageURL"]
    return url


async def _got(api: Api, url: str) -> tuple[int, bytes]:
    async with api.session.get(url, allow_redirects=False) as answer:
        return answer.status, await answer.read()


@pytest.mark.parametrize("kind", MIME)
@pytest.mark.parametrize("size", [(128, 128), (512, 320), (320, 512)])
async def test_an_image_is_what_it_claims_to_be(api: Api, kind: str, size: tuple[int, int]) -> None:
    url = await _url(api, outputFormat=kind, width=size[0], height=size[1])

    async with api.session.get(url) as answer:
        data = await answer.read()
        assert answer.status == 200
        assert answer.content_type == MIME[kind]
        assert int(answer.headers["Content-Length"]) == len(data)

    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.size == size
    assert image.format == {"JPG": "JPEG"}.get(kind, kind)
    assert api.simulator.ledger.totals.cdn_bytes == len(data)


async def test_a_head_request_tells_the_size(api: Api) -> None:
    url = await _url(api)

    async with api.session.head(url) as answer:
        assert answer.status == 200
        size = int(answer.headers["Content-Length"])
    assert size == len((await _got(api, url))[1])


async def test_an_image_that_was_never_made_is_a_404(api: Api) -> None:
    url = await _url(api)

    assert (await _got(api, f"{api.simulator.origin}/image/ws/2/ii/{uuid4()}.jpg"))[0] == 404
    assert (await _got(api, url.replace(".jpg", ".png")))[0] == 404


async def test_an_image_that_is_not_finished_is_a_404() -> None:
    async with simulated(latency=30.0) as api:
        task = api.task(deliveryMethod="async")
        await api.post(task)
        entry = api.simulator.ledger.entry(task["taskUUID"])
        assert entry is not None

        assert (await _got(api, str(entry.results[0].url)))[0] == 404


async def test_a_url_expires() -> None:
    async with simulated(url_ttl=0.5) as api:
        short, long = await _url(api), await _url(api, ttl=60)
        assert (await _got(api, short))[0] == 200
        await asyncio.sleep(0.5)

        assert (await _got(api, short))[0] == 403
        assert (await _got(api, long))[0] == 200


async def test_the_origin_of_urls_is_an_option() -> None:
    async with simulated(public_url="https://im.runware.ai") as api:
        assert (await _url(api)).startswith("https://im.runware.ai/image/ws/")


@pytest.mark.parametrize("status", [403, 404, 429, 500, 503])
async def test_any_status_for_the_first_fetches_of_each_image(api: Api, status: int) -> None:
    fault = {"do": "status", "status": status, "retry_after": 3, "first": 1, "per": "image"}
    url, other = await _url(api), await _url(api, fault)

    for one in (url, other):
        async with api.session.get(one) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (status, "3")
        assert (await _got(api, one))[0] == 200


async def test_a_slow_image_takes_its_time(api: Api) -> None:
    url = await _url(api)
    size = len((await _got(api, url))[1])
    api.stage({"on": "cdn", "do": "slow", "seconds": 0.05, "bytes_per_second": size * 10})
    started = asyncio.get_running_loop().time()

    assert len((await _got(api, url))[1]) == size
    assert asyncio.get_running_loop().time() - started >= 0.09


async def test_a_body_stalls_and_breaks(api: Api) -> None:
    url = await _url(api, {"do": "stall", "after_bytes": 100, "seconds": 0.02})

    async with api.session.get(url) as answer:
        assert answer.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_a_stalled_body_ends_when_its_client_leaves(api: Api) -> None:
    url = await _url(api, {"do": "stall", "seconds": 3600})

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await _got(api, url)


@pytest.mark.parametrize("how", ["length", "chunked"])
async def test_a_truncated_body_is_seen_by_its_length_or_chunks(api: Api, how: str) -> None:
    url = await _url(api, {"do": "truncate", "how": how})

    with pytest.raises(aiohttp.ClientPayloadError):
        await _got(api, url)


async def test_a_truncated_body_without_length_looks_whole(api: Api) -> None:
    url = await _url(api)
    whole = (await _got(api, url))[1]
    api.stage({"on": "cdn", "do": "truncate", "how": "close", "keep": 0.25})

    status, part = await _got(api, url)

    assert (status, part) == (200, whole[: len(whole) // 4])


async def test_a_wrong_content_type(api: Api) -> None:
    url = await _url(api, {"do": "content_type", "content_type": "application/octet-stream"})

    async with api.session.get(url) as answer:
        assert answer.content_type == "application/octet-stream"
        Image.open(io.BytesIO(await answer.read())).load()


@pytest.mark.parametrize("as_image", [False, True])
async def test_html_instead_of_an_image(api: Api, as_image: bool) -> None:
    url = await _url(api, {"do": "html", "as_image": as_image})

    async with api.session.get(url) as answer:
        assert answer.content_type == ("image/jpeg" if as_image else "text/html")
        assert (await answer.read()).startswith(b"<!doctype html>")


async def test_no_bytes_at_all(api: Api) -> None:
    assert await _got(api, await _url(api, {"do": "empty"})) == (200, b"")


@pytest.mark.parametrize("declared", [True, False])
async def test_too_many_bytes_declared_or_not(api: Api, declared: bool) -> None:
    url = await _url(api, {"do": "oversize", "size_bytes": 1_000_000, "declared": declared})

    async with api.session.get(url) as answer:
        assert answer.headers.get("Content-Length") == ("1000000" if declared else None)
        assert len(await answer.read()) == 1_000_000


async def test_an_endless_body_ends_when_its_client_leaves(api: Api) -> None:
    url = await _url(api, {"do": "oversize", "size_bytes": 64 * 1024**3, "declared": False})

    answer = await api.session.get(url)
    await answer.content.readexactly(1_000_000)
    answer.close()

    assert (await api.post(api.task()))[0] == 200


@pytest.mark.parametrize("kind", MIME)
async def test_a_decompression_bomb_claims_to_be_enormous(api: Api, kind: str) -> None:
    url = await _url(api, {"do": "bomb", "width": 16_000, "height": 11_000}, outputFormat=kind)

    data = (await _got(api, url))[1]

    assert len(data) < 2_000
    assert _claimed(kind, data) == (16_000, 11_000)


def _claimed(kind: str, data: bytes) -> tuple[int, int]:
    if kind == "PNG":
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if kind == "WEBP":
        at = data.index(b"VP8X") + 12
        return int.from_bytes(data[at : at + 3], "little") + 1, int.from_bytes(data[at + 3 : at + 6], "little") + 1
    at = data.index(b"\xff\xc0") + 5
    return int.from_bytes(data[at + 2 : at + 4], "big"), int.from_bytes(data[at : at + 2], "big")


async def test_a_redirect_to_a_forbidden_host(api: Api) -> None:
    url = await _url(api, {"do": "redirect", "status": 307})

    async with api.session.get(url, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (307, "http://169.254.169.254/latest/meta-data/")


async def test_a_connection_breaks_or_hangs(api: Api) -> None:
    with pytest.raises(aiohttp.ClientError):
        await _got(api, await _url(api, {"do": "break"}))
    with pytest.raises(aiohttp.ClientError):
        await _got(api, await _url(api, {"do": "hang", "seconds": 0.01}))


@pytest.mark.parametrize("kind", MIME)
@pytest.mark.parametrize("size", [40_000, 200_001, 3_000_000])
async def test_images_of_an_exact_size_are_valid_and_unique(kind: str, size: int) -> None:
    async with simulated(image_bytes=size) as api:
        first, second = await api.made(numberResults=2, outputFormat=kind, width=512, height=768)
        one, other = (await _got(api, first["imageURL"]))[1], (await _got(api, second["imageURL"]))[1]

        # A RIFF file has an even number of bytes.
        assert len(one) == len(other) == (size - size % 2 if kind == "WEBP" else size)
        assert one != other
        assert one == (await _got(api, first["imageURL"]))[1]
        image = Image.open(io.BytesIO(one))
        image.load()
        assert (image.size, image.format) == ((512, 768), {"JPG": "JPEG"}.get(kind, kind))
