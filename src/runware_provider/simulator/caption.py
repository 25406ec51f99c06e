"""The caption: the prompt and the seed in the picture's corner, wrapped, never beyond the edge."""

import unicodedata
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

_MOST_CHARS = 400
_MOST_LINES = 3
# Letters and signs that Unicode does not take apart.
_SPELT = {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ł": "l", "þ": "th", "Æ": "AE", "Ø": "O", "Ł": "L"}
_SPELT |= {"\u0131": "i", "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-"}


def write_caption(canvas: Image.Image, prompt: str, note: str) -> None:
    """Write `prompt`, and below it smaller `note`, over a soft shadow at the bottom; too long a text ends in `...`."""
    width, height = canvas.size
    size = max(9, min(40, round(min(width, height) * 0.021 + 4)))
    margin = max(8, round(min(width, height) * 0.045))
    room = width - 2 * margin
    lines = _wrapped(drawable(prompt), size, room, 1 if height < 320 else _MOST_LINES)
    small = max(8, round(size * 0.62))
    notes = _wrapped(drawable(note), small, room, 1) if height >= 192 else []
    line_height = round(size * 1.32)
    gap = round(size * 0.45) if notes and lines else 0
    text_height = len(lines) * line_height + gap + len(notes) * round(small * 1.3)
    if text_height == 0:
        return
    _shadow(canvas, min(height, text_height + margin * 3))
    draw = ImageDraw.Draw(canvas, "RGBA")
    y = height - margin - text_height
    for line in lines:
        draw.text((margin, y), line, font=_font(size), fill=(255, 255, 255, 240))
        y += line_height
    y += gap
    for line in notes:
        draw.text((margin, y), line, font=_font(small), fill=(255, 255, 255, 165))


def drawable(text: str) -> str:
    """The text as the font can show it: accents are dropped where they must be, other scripts left out."""
    kept = []
    for char in unicodedata.normalize("NFC", text[:_MOST_CHARS]):
        if char.isspace():
            kept.append(" ")
        elif _has_glyph(char):
            kept.append(char)
        else:
            plain = _SPELT.get(char) or unicodedata.normalize("NFKD", char)
            kept.extend(part for part in plain if _has_glyph(part))
    return " ".join("".join(kept).split())


def _wrapped(text: str, size: int, room: int, most: int) -> list[str]:
    """At most `most` lines of at most `room` pixels; a word longer than a line is broken."""
    font = _font(size)
    lines: list[str] = []
    rest = text
    while rest and len(lines) < most:
        end = _fitting(rest, font, room)
        if end < len(rest):
            space = rest.rfind(" ", 0, end + 1)
            end = space if space > 0 else end
        lines.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    if rest and lines:
        last = lines[-1]
        while last and font.getlength(last + "...") > room:
            last = last[:-1]
        lines[-1] = last.rstrip(" ,.;:") + "..."
    return lines


def _fitting(text: str, font: ImageFont.FreeTypeFont, room: int) -> int:
    """How many characters of `text` fit in `room` pixels; at least 1."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if font.getlength(text[:middle]) <= room:
            low = middle
        else:
            high = middle - 1
    return low


def _shadow(canvas: Image.Image, height: int) -> None:
    fade = Image.linear_gradient("L").resize((canvas.width, height)).point([round(v * 0.62) for v in range(256)])
    canvas.paste((6, 8, 14), (0, canvas.height - height, canvas.width, canvas.height), fade)


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise TypeError("this Pillow was built without FreeType")
    return font


@lru_cache(maxsize=4096)
def _has_glyph(char: str) -> bool:
    """Whether the font knows a character; what it does not know it draws as one and the same box."""
    if unicodedata.category(char)[0] in "CZM":
        return False
    font = _font(16)
    return bytes(font.getmask(char)) != _unknown()


@lru_cache(maxsize=1)
def _unknown() -> bytes:
    return bytes(_font(16).getmask("\uffff"))
