"""Decompression bombs: small images whose header claims to be enormous."""

import io
import struct
import zlib

from PIL import Image

from runware_provider.simulator.pictures import Format


def bomb(kind: Format, width: int, height: int) -> bytes:
    """A few hundred bytes that claim `width` by `height` pixels (WEBP: as canvas, at most 16,384 a side)."""
    out = io.BytesIO()
    image = Image.new("RGB", (16, 16), (200, 30, 30))
    image.save(out, {"JPG": "JPEG"}.get(kind, kind))
    plain = out.getvalue()
    if kind == "PNG":
        header = b"IHDR" + struct.pack(">II", width, height) + plain[24:29]
        return plain[:12] + header + struct.pack(">I", zlib.crc32(header)) + plain[33:]
    if kind == "JPG":
        at = plain.index(b"\xff\xc0")
        return plain[: at + 5] + struct.pack(">HH", height, width) + plain[at + 9 :]
    canvas = b"".join(struct.pack("<I", min(side, 16_384) - 1)[:3] for side in (width, height))
    chunks = b"VP8X" + struct.pack("<I", 10) + bytes(4) + canvas + plain[12:]
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks
