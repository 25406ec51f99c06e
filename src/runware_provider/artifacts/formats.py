"""The structure of the image formats we know, from the first byte to the mark or length that ends each.

Every walk gives width and height, and raises NotKept for what is truncated or damaged.
"""

import re
import zlib
from typing import Protocol

from runware_provider.artifacts.refusal import NotKept, rejected

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


class Reader:
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
        """The bytes from `offset`; fewer than `length` only where they end."""
        return self._source.read_at(offset, length)

    def part(self) -> None:
        """Count one part, so that a body of nothing but tiny parts cannot hold a thread for long."""
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise self.broken(f"more than {MAX_PARTS} parts")

    def truncated(self) -> NotKept:
        """The refusal of an image that ends early."""
        return rejected("truncated", f"the {self._name} ends early, after {self.size} bytes")

    def broken(self, what: str) -> NotKept:
        """The refusal of an image that is damaged."""
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


def jpeg(reader: Reader) -> tuple[int, int]:
    """The size in pixels of a whole JPEG. Raises NotKept."""
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


def _jpeg_mark(reader: Reader, at: int) -> tuple[int, int]:
    """The mark at `at`, and where what follows it begins."""
    head = reader.exactly(at, 2)
    if head[0] != 0xFF:
        raise reader.broken(f"no marker at byte {at}")
    while head[1] == 0xFF:  # padding
        reader.part()
        at += 1
        head = reader.exactly(at, 2)
    return head[1], at + 2


def _jpeg_scans(reader: Reader, at: int) -> None:
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


def png(reader: Reader) -> tuple[int, int]:
    """The size in pixels of a whole PNG. Raises NotKept."""
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


def _lossy(reader: Reader, at: int, length: int) -> tuple[int, int]:
    head = reader.exactly(at, 10)
    if length < 10 or head[3:6] != b"\x9d\x01\x2a":
        raise reader.broken("no key frame")
    return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:], "little") & 0x3FFF


def _lossless(reader: Reader, at: int, length: int) -> tuple[int, int]:
    head = reader.exactly(at, 5)
    if length < 5 or head[0] != 0x2F:
        raise reader.broken("no lossless frame")
    bits = int.from_bytes(head[1:], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


_WEBP_FRAMES = {b"VP8 ": _lossy, b"VP8L": _lossless}


def webp(reader: Reader) -> tuple[int, int]:
    """The size in pixels of a whole WEBP. Raises NotKept."""
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


def _boxes(reader: Reader, at: int, end: int) -> list[tuple[bytes, int, int]]:
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


def avif(reader: Reader) -> tuple[int, int]:
    """The size in pixels of a whole AVIF. Raises NotKept."""
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


def _named(reader: Reader, at: int, end: int, wanted: bytes) -> list[tuple[int, int]]:
    return [(start, stop) for name, start, stop in _boxes(reader, at, end) if name == wanted]


# GIF: blocks of at most 255 bytes


def gif(reader: Reader) -> tuple[int, int]:
    """The size in pixels of a whole GIF. Raises NotKept."""
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
