"""The image that every benchmark stores."""

import io
import random

from PIL import Image


def a_jpeg(size: int) -> bytes:
    """A JPEG of exactly `size` bytes, as a decoder of headers sees it: its picture is noise."""
    small = io.BytesIO()
    Image.effect_noise((256, 256), 80).save(small, "JPEG", quality=85)
    start, rest = small.getvalue()[:2], small.getvalue()[2:]
    # A scan as long as the image is what a real one has: noise without FF bytes, right before the end mark.
    filling = random.Random(1).randbytes(max(0, size - len(start) - len(rest))).replace(b"\xff", b"\x00")
    return start + rest[:-2] + filling + rest[-2:]
