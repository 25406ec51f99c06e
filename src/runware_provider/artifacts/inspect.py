"""What an image is, by its bytes: the format, the size in pixels, and whether it is all there.

Nothing is decoded: an 8 MB picture would become 100 MB of pixels. The structure is walked instead, from the first byte
to the mark or length that ends the format, with reads of at most 256 KiB. Bytes after that end are allowed and kept as
they came (cameras and editors append things there, viewers ignore it).
"""

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from runware_provider.artifacts.refusal import NotKept, rejected

MAX_PIXELS = 1 << 28
"""More would be a gigabyte of memory to everybody who opens it: a decompression bomb, or as good as one."""

MAX_PARTS = 300_000
"""Segments, chunks, boxes or blocks of one image. A GIF of 64 MiB has that many, others a few hundred."""

_BLOCK = 256 * 1024


class Source(Protocol):
    """Bytes that can be read anywhere."""

    @property
    def size(self) -> int: ...

    def read_at(self, offset: int, length: int) -> bytes:
        """The bytes from `offset`; fewer than `length` only where they end."""
        ...


@dataclass(frozen=True, slots=True)
class Picture:
    """A whole image."""

    content_type: str
    extension: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class _Format:
    content_type: str
    extension: str
    walk: Callable[["_Reader"], tuple[int, int]]


def inspect(source: Source) -> Picture:
    """What `source` is. Raises NotKept: not_an_image, truncated, or too_large (in pixels)."""
    kind = _kind(source.read_at(0, 32))
    if kind is None:
        raise not_an_image(source.read_at(0, 200))
    width, height = kind.walk(_Reader(source, kind.extension.upper()))
    if not width or not height:
        raise rejected("not_an_image", f"the {kind.extension.upper()} says it is {width} by {height} pixels")
    if width * height > MAX_PIXELS:
        raise rejected("too_large", f"the image is {width} by {height} pixels, more than {MAX_PIXELS} in all")
    return Picture(kind.content_type, kind.extension, width, height)


def looks_like_an_image(head: bytes) -> bool:
    """Whether an image of a format that we know can begin like this."""
    return _kind(head[:32]) is not None


def not_an_image(head: bytes) -> NotKept:
    """The refusal of bytes that begin with `head`."""
    if not head:
        return rejected("not_an_image", "the body is empty")
    text = head[:200].decode("utf-8", "replace")
    shown = repr(text) if text.isprintable() or text.lstrip().startswith(("<", "{")) else head[:16].hex(" ")
    return rejected("not_an_image", f"neither JPEG, PNG, WEBP, AVIF nor GIF; it begins with {shown}")


class _Reader:
    """Reads a source and knows how to complain about it."""

    def __init__(self, source: Source, name: str) -> None:
        self.size = source.size
        self._source = source
        self._name = name
        self._parts = 0

    def exactly(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`. Raises NotKept (truncated) when the source ends before."""
        got = self._source.read_at(offset, length)
        if len(got) < length:
            raise self.truncated()
        return got

    def at_most(self, offset: int, length: int) -> bytes:
        return self._source.read_at(offset, length)

    def part(self) -> None:
        """Count one part, so that a body of nothing but tiny parts cannot hold a thread for long."""
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise self.broken(f"more than {MAX_PARTS} parts")

    def truncated(self) -> NotKept:
        return rejected("truncated", f"the {self._name} ends early, after {self.size} bytes")

    def broken(self, what: str) -> NotKept:
        return rejected("not_an_image", f"the {self._name} is damaged: {what}")


def _u16(data: bytes, at: int = 0) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def _u32(data: bytes, at: int = 0) -> int:
    return int.from_bytes(data[at : at + 4], "big")


# JPEG: segments up to the first scan, then scans up to the end-of-image mark

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0..SOF15 without DHT, JPG and DAC
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # marks without a length
_SOS, _EOI = 0xDA, 0xD9
# In a scan FF00 is a stuffed FF, FFD0 to FFD7 are restart marks, FFFF is padding; anything else ends the scan.
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def _jpeg(reader: _Reader) -> tuple[int, int]:
    size: tuple[int, int] | None = None
    at = 2
    while True:
        reader.part()
        mark, at = _jpeg_mark(reader, at)
        if mark == _EOI:
            raise reader.broken("it has no picture")
        if mark in _BARE:
            continue
        length = _u16(reader.exactly(at, 2))
        if length < 2:
            raise reader.broken(f"a segment of length {length} at byte {at}")
        if mark in _FRAMES:
            frame = reader.exactly(at + 2, 5)
            size = (_u16(frame, 3), _u16(frame, 1))
        at += length
        if mark == _SOS:
            break
    if size is None:
        raise reader.broken("a scan comes before the frame header")
    # A scan cannot contain the end mark, so bytes that end with it are whole: no need to look at every byte.
    if not (reader.size >= at + 2 and reader.at_most(reader.size - 2, 2) == b"\xff\xd9"):
        _jpeg_scans(reader, at)
    return size


def _jpeg_mark(reader: _Reader, at: int) -> tuple[int, int]:
    """The mark at `at`, and where what follows it begins."""
    head = reader.exactly(at, 2)
    if head[0] != 0xFF:
        raise reader.broken(f"no marker at byte {at}")
    while head[1] == 0xFF:  # padding
        reader.part()
        at += 1
        head = reader.exactly(at, 2)
    return head[1], at + 2


def _jpeg_scans(reader: _Reader, at: int) -> None:
    """Find the end-of-image mark from `at`, inside a scan, on."""
    block, start = b"", at
    while True:
        if at + 1 >= start + len(block):  # a mark has two bytes
            block, start = reader.at_most(at, _BLOCK), at
            if len(block) < 2:
                raise reader.truncated()
        found = _SCAN_END.search(block, at - start)
        if found is None:
            at = start + len(block) - 1  # a mark may lie across two blocks
            continue
        reader.part()
        mark = found[0][1]
        at = start + found.end()
        if mark == _EOI:
            return
        if mark not in _BARE:  # tables between scans, or the next scan's header
            at += _u16(reader.exactly(at, 2))


# PNG: chunks with checksums


def _png(reader: _Reader) -> tuple[int, int]:
    head = reader.exactly(8, 16)
    if head[:8] != b"\x00\x00\x00\x0dIHDR":
        raise reader.broken("it does not begin with its header")
    size = (_u32(head, 8), _u32(head, 12))
    at, pixels = 8, False
    while True:
        reader.part()
        head = reader.exactly(at, 8)
        length, name = _u32(head), head[4:]
        end = at + 12 + length
        if end > reader.size:
            raise reader.truncated()
        if not name.isalpha():
            raise reader.broken(f"no chunk at byte {at}")
        checksum, start = zlib.crc32(name), at + 8
        for offset in range(start, start + length, _BLOCK):
            checksum = zlib.crc32(reader.exactly(offset, min(_BLOCK, start + length - offset)), checksum)
        if checksum != _u32(reader.exactly(end - 4, 4)):
            raise reader.broken(f"wrong checksum of the chunk {name.decode()} at byte {at}")
        pixels = pixels or name == b"IDAT"
        if name == b"IEND":
            break
        at = end
    if not pixels:
        raise reader.broken("it has no picture")
    return size


# WEBP: chunks in a RIFF frame that says how long it is


def _lossy(reader: _Reader, at: int, length: int) -> tuple[int, int]:
    head = reader.exactly(at, 10)
    if length < 10 or head[3:6] != b"\x9d\x01\x2a":
        raise reader.broken("no key frame")
    return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:], "little") & 0x3FFF


def _lossless(reader: _Reader, at: int, length: int) -> tuple[int, int]:
    head = reader.exactly(at, 5)
    if length < 5 or head[0] != 0x2F:
        raise reader.broken("no lossless frame")
    bits = int.from_bytes(head[1:], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


_WEBP_FRAMES = {b"VP8 ": _lossy, b"VP8L": _lossless}


def _webp(reader: _Reader) -> tuple[int, int]:
    end = 8 + int.from_bytes(reader.exactly(4, 4), "little")
    if end > reader.size:
        raise reader.truncated()
    at, canvas, frame = 12, None, None
    while at + 8 <= end:
        reader.part()
        head = reader.exactly(at, 8)
        name, length, start = head[:4], int.from_bytes(head[4:], "little"), at + 8
        if start + length > end:
            raise reader.broken(f"a chunk at byte {at} is longer than the file")
        if name == b"VP8X" and length >= 10:
            box = reader.exactly(start + 4, 6)
            canvas = (int.from_bytes(box[:3], "little") + 1, int.from_bytes(box[3:], "little") + 1)
        elif name == b"ANMF" and length > 16:  # a frame of an animation; VP8X has the size of all
            frame = frame or (0, 0)
        elif name in _WEBP_FRAMES:
            frame = _WEBP_FRAMES[name](reader, start, length)
        at = start + length + (length & 1)
    if frame is None:
        raise reader.broken("it has no picture")
    return canvas or frame


# AVIF: boxes, whose sizes are in a property box deep inside `meta`


def _boxes(reader: _Reader, at: int, end: int) -> list[tuple[bytes, int, int]]:
    """The boxes from `at` to `end`: name, start and end of the content."""
    found = []
    while at < end:
        reader.part()
        head = reader.exactly(at, 8)
        length, name, start = _u32(head), head[4:], at + 8
        if length == 1:  # the length is in 64 bits
            length, start = int.from_bytes(reader.exactly(at + 8, 8), "big"), at + 16
        if length < start - at:
            # Length 0, "up to the end of the file", cannot be told from a truncated one.
            raise reader.broken(f"a box of length {length} at byte {at}")
        at += length
        if at > end:
            raise reader.truncated()
        found.append((name, start, at))
    return found


def _avif(reader: _Reader) -> tuple[int, int]:
    top = {name: (start, end) for name, start, end in _boxes(reader, 0, reader.size)}
    if b"meta" not in top or b"mdat" not in top:
        raise reader.truncated()
    sizes = [(0, 0)]
    start, end = top[b"meta"]
    for properties in _named(reader, start + 4, end, b"iprp"):
        for container in _named(reader, *properties, b"ipco"):
            for extent, _ in _named(reader, *container, b"ispe"):
                box = reader.exactly(extent + 4, 8)
                sizes.append((_u32(box), _u32(box, 4)))
    return max(sizes, key=lambda size: size[0] * size[1])  # a grid's tiles and thumbnails are smaller than the whole


def _named(reader: _Reader, at: int, end: int, wanted: bytes) -> list[tuple[int, int]]:
    return [(start, stop) for name, start, stop in _boxes(reader, at, end) if name == wanted]


# GIF: blocks of at most 255 bytes


def _gif(reader: _Reader) -> tuple[int, int]:
    head = reader.exactly(6, 7)
    at, pixels = 13 + _gif_table(head[4]), False
    while True:
        reader.part()
        (introducer,) = reader.exactly(at, 1)
        if introducer == 0x3B:
            break
        if introducer == 0x2C:
            at += 11 + _gif_table(reader.exactly(at + 9, 1)[0])
            pixels = True
        elif introducer == 0x21:
            at += 2
        else:
            raise reader.broken(f"no block at byte {at}")
        while length := reader.exactly(at, 1)[0]:
            reader.part()
            at += 1 + length
        at += 1
    if not pixels:
        raise reader.broken("it has no picture")
    return int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little")


def _gif_table(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


_JPEG = _Format("image/jpeg", "jpg", _jpeg)
_PNG = _Format("image/png", "png", _png)
_WEBP = _Format("image/webp", "webp", _webp)
_AVIF = _Format("image/avif", "avif", _avif)
_GIF = _Format("image/gif", "gif", _gif)


def _kind(head: bytes) -> _Format | None:
    if head.startswith(b"\xff\xd8\xff"):
        return _JPEG
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return _PNG
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _WEBP
    if head.startswith((b"GIF87a", b"GIF89a")):
        return _GIF
    if head[4:8] == b"ftyp" and (b"avif" in head[8:] or b"avis" in head[8:]):
        return _AVIF
    return None
