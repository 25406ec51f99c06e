"""From the CDN into the store, and everything that a CDN can do instead."""

import asyncio
import gzip
import hashlib
import ssl
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from runware_provider.artifacts import Artifacts
from runware_provider.errors import ContentRejected, FetchFailed, worth_trying
from tests.artifacts.cdn import Cdn, body, chunked, closed, endless, head, raw, redirect
from tests.artifacts.conftest import GENERATION, OUTPUT, Opener, content, files, keep, refusal
from tests.artifacts.pictures import CONTENT_TYPES, FORMATS, a_jpeg_of, a_picture, a_png_that_claims

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _nothing_stays_spooled(tmp_path: Path) -> object:
    """Whatever became of the image, no temporary file is left."""
    yield
    assert files(tmp_path / "data") == []


@pytest.mark.parametrize("extension", FORMATS)
async def test_an_image_is_kept_as_what_its_bytes_are(artifacts: Artifacts, cdn: Cdn, extension: str) -> None:
    """The header may claim anything; type and size come from the bytes."""
    picture = a_picture(extension)
    stored = await keep(artifacts, cdn.says(body(picture, Content_Type="text/html")))

    digest = hashlib.sha256(picture).hexdigest()
    assert stored.key == f"generations/{GENERATION}/{OUTPUT}-{digest[:12]}.{extension}"
    assert (stored.output_id, stored.sha256, stored.size_bytes) == (OUTPUT, digest, len(picture))
    assert (stored.content_type, stored.width, stored.height) == (CONTENT_TYPES[extension], 64, 48)
    assert picture == await content(artifacts, stored.key)


@pytest.mark.parametrize("size", [MIB - 1, MIB, MIB + 1, 3 * MIB + 7])
async def test_memory_and_spool_file_give_the_same(artifacts: Artifacts, cdn: Cdn, size: int) -> None:
    """1 MiB is where the spool goes to disk."""
    picture = a_jpeg_of(size)
    stored = await keep(artifacts, cdn.says(body(picture)))

    assert (hashlib.sha256(picture).hexdigest(), size) == (stored.sha256, stored.size_bytes)
    assert picture == await content(artifacts, stored.key)


@pytest.mark.parametrize("answer", [body, chunked, closed])
@pytest.mark.parametrize("size", [5_000, 2 * MIB])
async def test_every_way_to_end_a_body_will_do_when_the_image_is_whole(
    artifacts: Artifacts, cdn: Cdn, answer: type, size: int
) -> None:
    assert size == (await keep(artifacts, cdn.says(answer(a_jpeg_of(size))))).size_bytes


async def test_a_body_that_drips_is_kept(artifacts: Artifacts, cdn: Cdn) -> None:
    picture = a_picture("png")
    url = cdn.says(raw(head(Content_Length=len(picture)), *(picture[at : at + 1] for at in range(len(picture)))))

    assert len(picture) == (await keep(artifacts, url)).size_bytes


async def test_what_is_asked_for_is_the_image_as_it_is(artifacts: Artifacts, cdn: Cdn) -> None:
    """No compression, no cookies, no negotiation; and a signed query arrives as it was given."""
    await keep(artifacts, cdn.says(body(a_picture(), Set_Cookie="a=b"), "/image?sig=a%2Bb%2f"))
    await keep(artifacts, cdn.url("/image?sig=a%2Bb%2f"))

    assert cdn.asked[0] == cdn.asked[1]
    assert cdn.asked[0].startswith("GET /image?sig=a%2Bb%2f HTTP/1.1\r\n")
    assert "Accept-Encoding: identity\r\n" in cdn.asked[0]
    assert "Accept: */*\r\n" in cdn.asked[0]


@pytest.mark.parametrize(
    ("status", "tried"),
    [
        ("404 Not Found", "briefly"),
        ("403 Forbidden", "briefly"),
        ("410 Gone", "briefly"),
        ("204 No Content", "briefly"),
        ("304 Not Modified", "briefly"),
        ("429 Too Many Requests", "long"),
        ("500 Internal Server Error", "long"),
        ("503 Service Unavailable", "long"),
    ],
)
async def test_a_refusal_of_the_cdn_is_told_as_it_was(artifacts: Artifacts, cdn: Cdn, status: str, tried: str) -> None:
    text = b"" if status[:3] in ("204", "304") else b"<Error>gone</Error>" + b"x" * 5_000
    url = cdn.says(raw(head(status, Content_Length=len(text)), text))

    refused = await refusal(artifacts, url, attempt=3)

    assert isinstance(refused.error, FetchFailed)
    assert (url, int(status[:3]), status[4:], 3) == (
        refused.error.url,
        refused.error.status,
        refused.error.reason,
        refused.error.attempts,
    )
    assert text.decode()[:500] == refused.error.body
    assert refused.retry_after is None
    assert tried == worth_trying(refused.error)


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("7", 7, 7),
        ("0", 0, 0),
        ("3601", 3600, 3600),
        ("9" * 400, 3600, 3600),
        ("in 1800 s", 1700, 1800),
        ("in 9999999 s", 3600, 3600),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0, 0),
    ],
)
async def test_retry_after_is_surfaced_and_capped(
    artifacts: Artifacts, cdn: Cdn, header: str, low: int, high: int
) -> None:
    """At most an hour, however long the CDN would like us to wait, in seconds or as a date."""
    if header.startswith("in "):
        header = format_datetime(datetime.now(UTC) + timedelta(seconds=int(header.split()[1])), usegmt=True)
    refused = await refusal(artifacts, cdn.says(body(b"", "429 Too Many Requests", Retry_After=header)))

    assert refused.retry_after is not None
    assert timedelta(seconds=low) <= refused.retry_after <= timedelta(seconds=high)


@pytest.mark.parametrize("header", ["soon", "-1", "1.5", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "\u0663"])
async def test_a_retry_after_that_is_none_is_ignored(artifacts: Artifacts, cdn: Cdn, header: str) -> None:
    refused = await refusal(artifacts, cdn.says(body(b"", "503 Busy", Retry_After=header)))

    assert isinstance(refused.error, FetchFailed)
    assert (refused.error.status, refused.retry_after) == (503, None)


async def network_failure(artifacts: Artifacts, url: str) -> str:
    """The reason of a failure that is the network's, not the image's: tried on for long."""
    error = (await refusal(artifacts, url)).error
    assert isinstance(error, FetchFailed)
    assert error.status is None
    assert worth_trying(error) == "long"
    return error.reason


@pytest.mark.parametrize("size", [20_000, 2 * MIB])
@pytest.mark.parametrize("way", ["length", "chunked", "chunk", "close"])
async def test_a_body_cut_short_is_the_networks_fault(artifacts: Artifacts, cdn: Cdn, way: str, size: int) -> None:
    """By length, between chunks, inside one, and, when nothing says where the body ends, by the image itself."""
    picture = a_jpeg_of(size)
    part = picture[: size - 500]
    answers = {
        "length": raw(head(Content_Length=size), part),
        "chunked": chunked(part, end=False),
        "chunk": raw(head(Transfer_Encoding="chunked"), f"{size:x}\r\n".encode(), part),
        "close": closed(part),
    }
    assert await network_failure(artifacts, cdn.says(answers[way]))


@pytest.mark.parametrize("extension", FORMATS)
async def test_an_image_that_ends_early_in_a_whole_body_is_truncated(
    artifacts: Artifacts, cdn: Cdn, extension: str
) -> None:
    error = (await refusal(artifacts, cdn.says(body(a_picture(extension)[:-20])))).error

    assert isinstance(error, ContentRejected)
    assert error.reason == "truncated"


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [head(Content_Length=20_000)],
        [head(Content_Length=20_000), a_jpeg_of(20_000)[:9_000]],
        [head(Content_Length=2 * MIB), a_jpeg_of(2 * MIB)[: MIB + MIB // 2]],
    ],
    ids=["before the head", "before the body", "in the body", "in the spool file"],
)
async def test_a_stall_ends(open_artifacts: Opener, cdn: Cdn, pieces: list[bytes]) -> None:
    artifacts = await open_artifacts(stall_timeout=timedelta(seconds=0.2))

    assert await network_failure(artifacts, cdn.says(raw(*pieces, stall=True))) == "nothing came for 0.2 s"


async def test_a_slow_body_ends_too(open_artifacts: Opener, cdn: Cdn) -> None:
    """A byte now and then is never a stall, so the whole has its limit."""

    async def slowly(writer: asyncio.StreamWriter) -> None:
        writer.write(head(Content_Length=20_000))
        for at in range(1_000):
            writer.write(a_picture()[at : at + 1])
            await asyncio.sleep(0.05)

    artifacts = await open_artifacts(fetch_timeout=timedelta(seconds=0.3))

    assert await network_failure(artifacts, cdn.says(slowly)) == "not done within 0.3 s"


async def test_the_body_of_a_refusal_is_not_waited_for_long(artifacts: Artifacts, cdn: Cdn) -> None:
    """The status has said it all."""
    began = time.monotonic()
    refused = await refusal(artifacts, cdn.says(raw(head("404 Not Found", Content_Length=99), b"so", stall=True)))

    assert isinstance(refused.error, FetchFailed)
    assert (refused.error.status, time.monotonic() - began < 4) == (404, True)


async def test_nobody_listening_is_a_network_failure(artifacts: Artifacts, cdn: Cdn) -> None:
    await cdn.stop()

    assert "onnect" in await network_failure(artifacts, cdn.url("/image"))


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n", b"\x00" * 100, b""]
)
async def test_what_is_not_http_is_a_network_failure(artifacts: Artifacts, cdn: Cdn, said: bytes) -> None:
    assert await network_failure(artifacts, cdn.says(raw(said)))


async def test_a_header_without_end_is_a_network_failure(artifacts: Artifacts, cdn: Cdn) -> None:
    assert await network_failure(artifacts, cdn.says(raw(b"HTTP/1.1 200 OK\r\nA: " + b"a" * 100_000)))


PAGE = b"<!doctype html><title>Sign in</title>"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (PAGE, "<!doctype html>"),
        (PAGE + b" " * 2 * MIB, "<!doctype html>"),
        (b'{"error": "no"}', '{"error": "no"}'),
        (b"", "empty"),
        (b"\x00\x01\x02" * 500, "00 01 02"),
        (b"BM" + bytes(100), "42 4d"),
    ],
    ids=["page", "long page", "json", "empty", "bytes", "bitmap"],
)
async def test_what_is_no_image_is_rejected_and_shown(artifacts: Artifacts, cdn: Cdn, data: bytes, says: str) -> None:
    error = (await refusal(artifacts, cdn.says(body(data, Content_Type="image/jpeg")))).error

    assert isinstance(error, ContentRejected)
    assert error.reason == "not_an_image"
    assert says in error.message


async def test_an_endless_page_is_left_after_a_mebibyte(open_artifacts: Opener, cdn: Cdn) -> None:
    """Not at the limit, which may be large."""
    artifacts = await open_artifacts(max_image_bytes=1 << 40)
    error = (await refusal(artifacts, cdn.says(endless(PAGE * 1_000)))).error

    assert isinstance(error, ContentRejected)
    assert error.reason == "not_an_image"


async def test_a_compressed_body_is_rejected_as_it_is(artifacts: Artifacts, cdn: Cdn) -> None:
    """Not unpacked: 48 KB of gzip can be 50 MB."""
    error = (await refusal(artifacts, cdn.says(body(b"\x1f\x8b" + bytes(50), Content_Encoding="gzip")))).error

    assert isinstance(error, ContentRejected)
    assert "gzip" in error.message


async def test_a_compressed_refusal_is_not_unpacked_either(artifacts: Artifacts, cdn: Cdn) -> None:
    packed = gzip.compress(b"unpacked" * 1_000)
    error = (await refusal(artifacts, cdn.says(body(packed, "404 Not Found", Content_Encoding="gzip")))).error

    assert isinstance(error, FetchFailed)
    assert (error.status, "unpacked" in error.body) == (404, False)


@pytest.mark.parametrize("size", [300_000, 2 * MIB])
async def test_an_image_at_the_limit_is_kept_and_one_above_is_not(
    open_artifacts: Opener, cdn: Cdn, size: int, tmp_path: Path
) -> None:
    """With a length, in chunks, and without either."""
    artifacts = await open_artifacts(max_image_bytes=size)
    for answer in (body, chunked, closed):
        assert size == (await keep(artifacts, cdn.says(answer(a_jpeg_of(size))))).size_bytes
        before = files(tmp_path / "objects")
        error = (await refusal(artifacts, cdn.says(answer(a_jpeg_of(size + 1))))).error
        assert isinstance(error, ContentRejected)
        assert (error.reason, worth_trying(error)) == ("too_large", "no")
        assert before == files(tmp_path / "objects")


async def test_a_length_over_the_limit_is_believed(artifacts: Artifacts, cdn: Cdn) -> None:
    """Nothing of the body is waited for."""
    error = (await refusal(artifacts, cdn.says(raw(head(Content_Length=10**12), stall=True)))).error

    assert isinstance(error, ContentRejected)
    assert (error.reason, True) == ("too_large", "1000000000000 bytes" in error.message)


async def test_an_endless_body_is_left_at_the_limit(artifacts: Artifacts, cdn: Cdn) -> None:
    error = (await refusal(artifacts, cdn.says(endless(a_jpeg_of(100_000)[:-2])))).error

    assert isinstance(error, ContentRejected)
    assert error.reason == "too_large"


async def test_a_decompression_bomb_is_known_by_its_header(artifacts: Artifacts, cdn: Cdn) -> None:
    error = (await refusal(artifacts, cdn.says(body(a_png_that_claims(100_000, 100_000))))).error

    assert isinstance(error, ContentRejected)
    assert (error.reason, True) == ("too_large", "100000 by 100000" in error.message)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_a_redirect_within_the_list_is_followed(artifacts: Artifacts, cdn: Cdn, status: str) -> None:
    cdn.says(body(a_picture()), "/b/there?x")

    assert (await keep(artifacts, cdn.says(redirect("../b/there?x#y", status), "/a/image"))).size_bytes


@pytest.mark.parametrize(
    "location",
    [
        "https://example.com/image",
        "http://169.254.169.254/latest/meta-data",
        "//[::1]/image",
        "https://user:secret@127.0.0.1/image",
        "http://127.0.0.2/image",
    ],
)
async def test_a_redirect_off_the_list_is_refused(artifacts: Artifacts, cdn: Cdn, location: str) -> None:
    error = (await refusal(artifacts, cdn.says(redirect(location)))).error

    assert isinstance(error, ContentRejected)
    assert (error.reason, False) == ("host_not_allowed", "secret" in error.message)
    assert cdn.connections == 1


@pytest.mark.parametrize("location", ["http://[", "http://127.0.0.1:99999/", "http://127.0.0.1:x/"])
async def test_a_redirect_to_nowhere_is_a_failed_fetch(artifacts: Artifacts, cdn: Cdn, location: str) -> None:
    error = (await refusal(artifacts, cdn.says(redirect(location)))).error

    assert isinstance(error, FetchFailed)
    assert error.status == 302


async def test_a_redirect_without_location_is_a_refusal(artifacts: Artifacts, cdn: Cdn) -> None:
    error = (await refusal(artifacts, cdn.says(body(b"hm", "302 Found")))).error

    assert isinstance(error, FetchFailed)
    assert (error.status, error.body) == (302, "hm")


async def test_five_redirects_are_followed_and_six_are_not(artifacts: Artifacts, cdn: Cdn) -> None:
    cdn.says(body(a_picture()), "/0")
    for hops in range(1, 7):
        cdn.says(redirect(f"/{hops - 1}"), f"/{hops}")

    assert (await keep(artifacts, cdn.url("/5"))).size_bytes
    error = (await refusal(artifacts, cdn.url("/6"))).error
    assert isinstance(error, FetchFailed)
    assert "more than 5 redirects" in error.reason


async def test_no_more_than_the_given_number_are_fetched_at_once(open_artifacts: Opener, cdn: Cdn) -> None:
    artifacts = await open_artifacts(concurrency=3)
    now = most = 0

    async def counted(writer: asyncio.StreamWriter) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.02)
        now -= 1
        await body(a_picture())(writer)

    url = cdn.says(counted)
    await asyncio.gather(*(keep(artifacts, url) for _ in range(12)))

    assert most == 3


@pytest.mark.parametrize("size", [20_000, 2 * MIB])
async def test_a_cancelled_fetch_leaves_nothing(artifacts: Artifacts, cdn: Cdn, tmp_path: Path, size: int) -> None:
    arrived = asyncio.Event()

    async def half(writer: asyncio.StreamWriter) -> None:
        writer.write(head(Content_Length=size) + a_jpeg_of(size)[: size * 3 // 4])
        await writer.drain()
        arrived.set()
        await asyncio.Event().wait()

    keeping = asyncio.ensure_future(keep(artifacts, cdn.says(half)))
    await arrived.wait()
    await asyncio.sleep(0.05)
    keeping.cancel()

    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert files(tmp_path) == []


async def test_https_needs_a_certificate_that_is_trusted(
    open_artifacts: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = Path(__file__).with_name("loopback.pem")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(pem)
    cdn = Cdn()
    await cdn.start(tls)
    url = cdn.says(body(a_picture()))

    assert "certificate" in await network_failure(await open_artifacts(), url)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    assert (await keep(await open_artifacts(), url)).size_bytes

    await cdn.stop()


async def test_a_proxy_of_the_environment_is_not_used(
    artifacts: Artifacts, cdn: Cdn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind one, the address check would check the proxy."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert (await keep(artifacts, cdn.says(body(a_picture())))).size_bytes
