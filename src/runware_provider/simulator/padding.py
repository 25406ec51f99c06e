"""Padding: valid images of an exact number of bytes, unique for each id, at almost no cost.

A small plain picture is encoded once per size and format; the rest is metadata that decoders skip. All of it is shared
between images but one small piece that carries the image's id, so that no two images have the same bytes.
"""

import io
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image

from runware_provider.simulator.pictures import Format, Picture

_MARK = 36  # an image id
_JPEG_SEGMENT = 65_533  # most that a comment segment can carry


@dataclass(frozen=True, slots=True)
class _Mould:
    """What stands before and after the id, and the pieces in between that are the same for all."""

    before: bytes
    after: tuple[bytes, ...]


def padded_parts(picture: Picture, unique: str, total: int) -> tuple[bytes, ...]:
    """An image of `picture`'s size and format, `total` bytes in all (WEBP: at most one less), in pieces."""
    mould = _mould(picture.format, picture.width, picture.height, total)
    mark = unique.encode("ascii", "replace")[:_MARK].ljust(_MARK)
    if picture.format == "PNG":
        mark += struct.pack(">I", zlib.crc32(b"idTx" + mark))
    return (mould.before, mark, *mould.after)


@lru_cache(maxsize=32)
def _mould(kind: Format, width: int, height: int, total: int) -> _Mould:
    image = Image.new("RGB", (width, height), (42, 74, 110))
    out = io.BytesIO()
    if kind == "JPG":
        image.save(out, "JPEG", quality=30)
        return _jpeg(out.getvalue(), total)
    if kind == "PNG":
        image.save(out, "PNG", compress_level=9)
        return _png(out.getvalue(), total)
    image.save(out, "WEBP", quality=10)
    return _webp(out.getvalue(), total - total % 2, width, height)


def _jpeg(plain: bytes, total: int) -> _Mould:
    before = plain[:2] + b"\xff\xfe" + struct.pack(">H", 2 + _MARK)
    left = total - len(plain) - 4 - _MARK
    segments = []
    while left:
        # The last two segments share what is left, so that none is smaller than its own head.
        size = min(left, _JPEG_SEGMENT + 4)
        if 0 < left - size < 4:
            size -= 4
        segments.append(b"\xff\xfe" + struct.pack(">H", size - 2) + bytes(size - 4))
        left -= size
    return _Mould(before, (b"".join(segments), plain[2:]))


def _png(plain: bytes, total: int) -> _Mould:
    header = plain[:33]  # signature and IHDR, which must come first
    before = header + struct.pack(">I", _MARK) + b"idTx"
    size = total - len(plain) - (12 + _MARK) - 12
    padding = bytes(size)
    chunk = struct.pack(">I", size) + b"paDd" + padding + struct.pack(">I", zlib.crc32(b"paDd" + padding))
    return _Mould(before, (chunk, plain[33:]))


def _webp(plain: bytes, total: int, width: int, height: int) -> _Mould:
    canvas = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + canvas
    picture = plain[12:]
    size = total - 12 - len(extended) - len(picture) - (8 + _MARK) - 8
    before = b"RIFF" + struct.pack("<I", total - 8) + b"WEBP" + extended + picture + b"idTx" + struct.pack("<I", _MARK)
    return _Mould(before, (b"paDd" + struct.pack("<I", size) + bytes(size),))
