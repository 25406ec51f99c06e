"""Pictures to serve: real ones by Pillow, broken ones by hand."""

import io
import struct
import zlib
from functools import cache

from PIL import Image

FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "avif": "AVIF"}
CONTENT_TYPES = {extension: f"image/{name.lower()}" for extension, name in FORMATS.items()}


@cache
def a_picture(extension: str = "jpg", size: tuple[int, int] = (64, 48), **options: bool) -> bytes:
    """A whole image of noise."""
    made = io.BytesIO()
    noise = Image.effect_noise(size, 60)
    (noise.convert("RGB") if extension != "gif" else noise).save(made, FORMATS[extension], **options)
    return made.getvalue()


def a_jpeg_of(size: int) -> bytes:
    """A JPEG of exactly `size` bytes: its scan is made longer, which only a decoder of pixels could tell."""
    small = a_picture()
    return small[:-2] + b"\x55" * (size - len(small)) + small[-2:]


def a_chunk(name: bytes, data: bytes) -> bytes:
    """A PNG chunk with its right checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def a_png_header(width: int, height: int) -> bytes:
    """A PNG up to and with IHDR."""
    return b"\x89PNG\r\n\x1a\n" + a_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def a_png_that_claims(width: int, height: int) -> bytes:
    """A tiny PNG, well formed, with the size it wants to be believed to have."""
    return a_png_header(width, height) + a_chunk(b"IDAT", zlib.compress(b"")) + a_chunk(b"IEND", b"")
