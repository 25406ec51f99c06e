"""What is taken for a whole image, by its bytes alone."""

import struct
import time

import pytest

from runware_provider.artifacts import Artifacts
from runware_provider.artifacts.formats import MAX_PARTS
from runware_provider.artifacts.inspect import MAX_PIXELS
from runware_provider.errors import ContentRejected
from tests.artifacts.cdn import Cdn, body
from tests.artifacts.conftest import Opener, keep, refusal
from tests.artifacts.pictures import FORMATS, a_chunk, a_picture, a_png_header, a_png_that_claims


async def rejection(artifacts: Artifacts, cdn: Cdn, data: bytes) -> ContentRejected:
    """What is wrong with `data`, served as a whole."""
    error = (await refusal(artifacts, cdn.says(body(data)))).error
    assert isinstance(error, ContentRejected)
    return error


@pytest.mark.parametrize(
    ("extension", "options"),
    [
        ("jpg", {"progressive": True}),
        ("jpg", {"optimize": True}),
        ("webp", {"lossless": True}),
        ("gif", {"interlace": True}),
        ("png", {"optimize": True}),
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (640, 480), (33, 1)])
async def test_every_kind_of_a_format_is_read(
    artifacts: Artifacts, cdn: Cdn, extension: str, options: dict[str, bool], size: tuple[int, int]
) -> None:
    stored = await keep(artifacts, cdn.says(body(a_picture(extension, size, **options))))

    assert size == (stored.width, stored.height)


def an_extended_webp(width: int, height: int) -> bytes:
    """A WEBP with a VP8X chunk, metadata and a canvas of its own size."""
    inner = a_picture("webp")[12:]
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    chunks = b"VP8X" + struct.pack("<I", 10) + b"\x08\0\0\0" + canvas + inner + b"EXIF\x03\0\0\0abc\0"
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


async def test_an_extended_webp_has_its_canvas_as_size(artifacts: Artifacts, cdn: Cdn) -> None:
    stored = await keep(artifacts, cdn.says(body(an_extended_webp(70_000, 900))))

    assert (stored.width, stored.height) == (70_000, 900)


async def test_a_thumbnail_inside_is_not_the_image(artifacts: Artifacts, cdn: Cdn) -> None:
    """EXIF holds a whole JPEG, end mark and all: neither its size nor its end are the image's."""
    thumbnail, picture = a_picture("jpg", (16, 16)), a_picture()
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(thumbnail)) + thumbnail
    whole = picture[:2] + segment + picture[2:]

    stored = await keep(artifacts, cdn.says(body(whole)))
    assert (stored.width, stored.height) == (64, 48)
    assert (await rejection(artifacts, cdn, whole[: 2 + len(segment)])).reason == "truncated"
    assert (await rejection(artifacts, cdn, whole[: 2 + len(segment)] + b"\xff\xd9")).reason == "not_an_image"


@pytest.mark.parametrize("extension", [name for name in FORMATS if name != "avif"])
@pytest.mark.parametrize("trailer", [b"\n", bytes(1_000), b"\xff" * 9, b"<script>"])
async def test_bytes_after_the_end_are_kept(artifacts: Artifacts, cdn: Cdn, extension: str, trailer: bytes) -> None:
    """The image is whole; what stands behind it is not ours to judge, nor to cut off."""
    picture = a_picture(extension, (640, 480)) + trailer

    assert len(picture) == (await keep(artifacts, cdn.says(body(picture)))).size_bytes


async def test_bytes_after_the_end_of_an_avif_are_not_a_box(artifacts: Artifacts, cdn: Cdn) -> None:
    """Its end is where the last box ends: anything behind looks like a box that is not all there."""
    error = await rejection(artifacts, cdn, a_picture("avif") + b"\0\0\xff\xffmore")

    assert error.reason == "truncated"


@pytest.mark.parametrize("extension", FORMATS)
async def test_no_beginning_of_an_image_is_an_image(artifacts: Artifacts, cdn: Cdn, extension: str) -> None:
    """Cut anywhere, it is truncated, or not even recognisable; never kept and never an exception."""
    picture = a_picture(extension)
    for end in [*range(200), *range(200, len(picture), 101), len(picture) - 1]:
        assert (await rejection(artifacts, cdn, picture[:end])).reason in ("truncated", "not_an_image")


@pytest.mark.parametrize("extension", FORMATS)
async def test_damage_never_raises_anything_else(artifacts: Artifacts, cdn: Cdn, extension: str) -> None:
    """Early bytes at their highest: kept, because only pixels would show it, or rejected as a value."""
    picture = a_picture(extension)
    for at in [*range(40), *range(40, min(len(picture), 400), 7)]:
        damaged = picture[:at] + b"\xff" + picture[at + 1 :]
        try:
            await keep(artifacts, cdn.says(body(damaged)))
        except Exception as error:  # noqa: BLE001 - to name the byte
            assert type(error).__name__ == "NotKept", at  # noqa: PT017


async def test_a_damaged_png_is_found_by_its_checksums(artifacts: Artifacts, cdn: Cdn) -> None:
    picture = a_picture("png", (640, 480))
    at = len(picture) // 2
    error = await rejection(artifacts, cdn, picture[:at] + bytes([picture[at] ^ 1]) + picture[at + 1 :])

    assert (error.reason, "wrong checksum of the chunk IDAT" in error.message) == ("not_an_image", True)


NO_PICTURE = {
    "jpeg": b"\xff\xd8\xff\xd9",
    "jpeg without frame": b"\xff\xd8\xff\xda\x00\x02\xff\xd9",
    "jpeg segment of no length": b"\xff\xd8\xff\xe0\x00\x01\xff\xd9",
    "jpeg without marker": b"\xff\xd8\xff\xe0\x00\x02\x00\x00",
    "jpeg of no height": a_picture().replace(b"\x00\x30\x00\x40", b"\x00\x00\x00\x40", 1),
    "png": a_png_header(8, 8) + a_chunk(b"IEND", b""),
    "png without header": b"\x89PNG\r\n\x1a\n" + a_chunk(b"IDAT", bytes(20)),
    "png of no width": a_png_that_claims(0, 8),
    "png with garbage": a_png_header(8, 8) + bytes(40),
    "webp": b"RIFF\x04\0\0\0WEBP",
    "webp that is no key frame": b"RIFF\x16\0\0\0WEBPVP8 \x0a\0\0\0" + bytes(10),
    "webp that is not lossless": b"RIFF\x12\0\0\0WEBPVP8L\x05\0\0\0" + bytes(6),
    "webp with too long a chunk": b"RIFF\x16\0\0\0WEBPVP8 \x99\0\0\0" + bytes(10),
    "gif": b"GIF89a\x08\0\x08\0\0\0\0\x3b",
    "gif with garbage": b"GIF89a\x08\0\x08\0\0\0\0\x99",
    "avif with a box up to the end": b"\0\0\0\x10ftypavif\0\0\0\0" + bytes(8),
    "bmp": b"BM" + bytes(60),
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0heicmif1",
    "wave": b"RIFF\x24\0\0\0WAVEfmt ",
}


@pytest.mark.parametrize("name", NO_PICTURE)
async def test_a_frame_without_picture_is_not_an_image(artifacts: Artifacts, cdn: Cdn, name: str) -> None:
    assert (await rejection(artifacts, cdn, NO_PICTURE[name])).reason == "not_an_image"


async def test_the_pixel_limit_is_the_last_size_that_is_kept(artifacts: Artifacts, cdn: Cdn) -> None:
    width = MAX_PIXELS // 4

    assert (await keep(artifacts, cdn.says(body(a_png_that_claims(width, 4))))).width == width
    assert (await rejection(artifacts, cdn, a_png_that_claims(width + 1, 4))).reason == "too_large"


async def test_the_largest_size_of_every_format_is_too_large(artifacts: Artifacts, cdn: Cdn) -> None:
    jpeg = a_picture().replace(b"\x00\x30\x00\x40", b"\xff\xff\xff\xff", 1)

    for bomb in (jpeg, an_extended_webp(1 << 24, 1 << 24), a_png_that_claims(2**31 - 1, 2**31 - 1)):
        assert (await rejection(artifacts, cdn, bomb)).reason == "too_large"


TINY_PARTS = {
    "jpeg segments": (b"\xff\xd8", b"\xff\xe0\x00\x02"),
    "jpeg padding": (b"\xff\xd8", b"\xff"),
    "jpeg scans": (a_picture()[:-2], b"\xff\xc4\x00\x02"),
    "png": (a_png_header(8, 8), a_chunk(b"teXt", b"")),
    "gif": (b"GIF89a\x08\0\x08\0\0\0\0\x21\xfe", b"\x01a"),
    "avif": (b"\0\0\0\x10ftypavif\0\0\0\0", b"\0\0\0\x08free"),
}


@pytest.mark.parametrize("name", TINY_PARTS)
async def test_an_image_of_tiny_parts_holds_nobody_up(open_artifacts: Opener, cdn: Cdn, name: str) -> None:
    """A walk takes time by the part, so their number has a limit."""
    artifacts = await open_artifacts(max_image_bytes=64 << 20)
    start, part = TINY_PARTS[name]
    data = start + part * (MAX_PARTS + 10) + b"\0"
    began = time.monotonic()
    error = await rejection(artifacts, cdn, data)

    assert (error.reason, f"more than {MAX_PARTS} parts" in error.message) == ("not_an_image", True)
    assert time.monotonic() - began < 5
