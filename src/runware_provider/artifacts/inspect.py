"""What an image is, by its bytes: the format, the size in pixels, and whether it is all there.

Nothing is decoded: an 8 MB picture would become 100 MB of pixels. The structure is walked instead, from the first byte
to the mark or length that ends the format, with reads of at most 256 KiB. Bytes after that end are allowed and kept as
they came (cameras and editors append things there, viewers ignore it).
"""

from collections.abc import Callable
from dataclasses import dataclass

from runware_provider.artifacts.formats import Reader, Source, avif, gif, jpeg, png, webp
from runware_provider.artifacts.refusal import NotKept, rejected

MAX_PIXELS = 1 << 28
"""More would be a gigabyte of memory to everybody who opens it: a decompression bomb, or as good as one."""


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
    walk: Callable[[Reader], tuple[int, int]]


def inspect(source: Source) -> Picture:
    """What `source` is. Raises NotKept: not_an_image, truncated, or too_large (in pixels)."""
    kind = _kind(source.read_at(0, 32))
    if kind is None:
        raise not_an_image(source.read_at(0, 200))
    width, height = kind.walk(Reader(source, kind.extension.upper()))
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


_JPEG = _Format("image/jpeg", "jpg", jpeg)
_PNG = _Format("image/png", "png", png)
_WEBP = _Format("image/webp", "webp", webp)
_AVIF = _Format("image/avif", "avif", avif)
_GIF = _Format("image/gif", "gif", gif)


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
