"""Brushes: gradients, glows, soft-edged shapes and grain, all with Pillow alone and all fast."""

import random
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import cast

from PIL import Image, ImageChops, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Point = tuple[float, float]
_SMOOTH = Image.Resampling.BICUBIC
_FAST = Image.Resampling.BILINEAR
_FINE = 2  # shapes are drawn this much larger and reduced, because Pillow's own edges are hard


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """`one` at 0, `other` at 1."""
    share = min(max(share, 0.0), 1.0)
    return (
        round(one[0] + (other[0] - one[0]) * share),
        round(one[1] + (other[1] - one[1]) * share),
        round(one[2] + (other[2] - one[2]) * share),
    )


def ramp(stops: Sequence[Colour], at: float) -> Colour:
    """The colour at 0 to 1 along evenly spaced stops."""
    place = min(max(at, 0.0), 1.0) * (len(stops) - 1)
    below = min(int(place), len(stops) - 2)
    return mix(stops[below], stops[below + 1], place - below)


def vertical(size: tuple[int, int], stops: Sequence[Colour]) -> Image.Image:
    """A gradient from top to bottom."""
    rows = 96
    strip = bytes(channel for row in range(rows) for channel in ramp(stops, row / (rows - 1)))
    column = Image.frombytes("RGB", (1, rows), strip).resize((1, size[1]), _SMOOTH)
    return column.resize(size, Image.Resampling.NEAREST)


def mesh(size: tuple[int, int], rows: Sequence[Sequence[Colour]]) -> Image.Image:
    """Colours at the points of a grid, flowing into each other."""
    flat = bytes(channel for row in rows for colour in row for channel in colour)
    grid = Image.frombytes("RGB", (len(rows[0]), len(rows)), flat)
    # Curved at a quarter of the size, then straight between: the eye cannot tell, and it is three times as fast.
    return grid.resize((size[0] // 4 + 1, size[1] // 4 + 1), _SMOOTH).resize(size, _FAST)


def glow(canvas: Image.Image, centre: Point, radius: float, colour: Colour, strength: float = 1.0) -> None:
    """Light that fades from `centre` to nothing at `radius`; brightens what is there."""
    box = (int(centre[0] - radius), int(centre[1] - radius), int(centre[0] + radius), int(centre[1] + radius))
    seen = _within(box, canvas.size)
    if seen is None:
        return
    grow = 256 / max(1, box[2] - box[0])
    part = [min(256.0, (seen[side] - box[side % 2]) * grow) for side in range(4)]
    fall = _falloff().resize((seen[2] - seen[0], seen[3] - seen[1]), _FAST, (part[0], part[1], part[2], part[3]))
    light = Image.merge("RGB", [fall.point(_scale(channel / 255 * strength)) for channel in colour])
    canvas.paste(ImageChops.screen(canvas.crop(seen), light), seen)


def shape(size: tuple[int, int], points: Sequence[Point]) -> Image.Image:
    """A filled polygon with soft edges, as a mask."""
    mask = Image.new("L", (size[0] * _FINE, size[1] * _FINE))
    ImageDraw.Draw(mask).polygon([(x * _FINE, y * _FINE) for x, y in points], fill=255)
    return mask.reduce(_FINE)


def fill(
    canvas: Image.Image,
    points: Sequence[Point],
    colour: Colour | Image.Image,
    strength: float = 1.0,
    blur: float = 0.0,
) -> None:
    """Fill a polygon, its edge blurred if asked for. Only its own box is touched; a picture is laid from its corner."""
    rim = int(blur * 3) + 2
    xs, ys = [x for x, _ in points], [y for _, y in points]
    box = (int(min(xs)) - rim, int(min(ys)) - rim, int(max(xs)) + rim, int(max(ys)) + rim)
    seen = _within(box, canvas.size)
    if seen is None:
        return
    mask = shape((seen[2] - seen[0], seen[3] - seen[1]), [(x - seen[0], y - seen[1]) for x, y in points])
    if blur:
        mask = soften(mask, blur)
    if strength < 1:
        mask = mask.point(_scale(strength))
    if isinstance(colour, Image.Image):
        colour = colour.crop(
            (seen[0] - box[0] - rim, seen[1] - box[1] - rim, seen[2] - box[0] - rim, seen[3] - box[1] - rim)
        )
        canvas.paste(colour, seen, mask)
    else:
        canvas.paste(colour, seen, mask)


def disc(canvas: Image.Image, centre: Point, radius: float, fill: Colour | Image.Image) -> None:
    """A filled circle with a soft edge; `fill` may be a picture of the circle's box."""
    side = max(2, round(radius * 2))
    mask = Image.new("L", (side * 4, side * 4))
    ImageDraw.Draw(mask).ellipse((2, 2, side * 4 - 3, side * 4 - 3), fill=255)
    at = (round(centre[0] - side / 2), round(centre[1] - side / 2))
    picture = fill if isinstance(fill, Image.Image) else Image.new("RGB", (side, side), fill)
    canvas.paste(picture.resize((side, side)), at, mask.reduce(4))


def below(canvas: Image.Image, line: Sequence[Point], top: Colour, bottom: Colour, depth: float) -> None:
    """Fill what lies below a line, from `top` at its highest point to `bottom`, `depth` pixels further down."""
    highest, mask = _below(canvas.size, line)
    fill = Image.new("RGB", mask.size, bottom)
    fill.paste(vertical((mask.width, min(mask.height, max(2, round(depth)))), (top, bottom)))
    canvas.paste(fill, (0, highest), mask)


def below_mesh(canvas: Image.Image, line: Sequence[Point], rows: Sequence[Sequence[Colour]]) -> None:
    """Fill what lies below a line with colours that flow into each other."""
    highest, mask = _below(canvas.size, line)
    canvas.paste(mesh(mask.size, rows), (0, highest), mask)


def _below(size: tuple[int, int], line: Sequence[Point]) -> tuple[int, Image.Image]:
    """Where the part below a line begins, and its mask from there to the bottom."""
    width, height = size
    highest = max(0, min(int(min(y for _, y in line)) - 1, height - 1))
    # The lowest point of the line is where the mask is full: below it there is nothing to draw finely.
    lowest = max(highest + 1, min(height, int(max(y for _, y in line)) + 2))
    edge = shape((width, lowest - highest), [(0, height), *((x, y - highest) for x, y in line), (width, height)])
    mask = Image.new("L", (width, height - highest), 255)
    mask.paste(edge)
    return highest, mask


def ridge(rng: random.Random, width: int, base: float, height: float, roughness: float) -> list[Point]:
    """A mountain's outline by midpoint displacement: `base` is its mean height in pixels from the top."""
    heights = [rng.uniform(-1, 1), rng.uniform(-1, 1)]
    spread = 1.0
    while len(heights) < 257:
        spread *= roughness
        between = [(a + b) / 2 + rng.uniform(-spread, spread) for a, b in pairwise(heights)]
        heights = [value for pair in zip(heights, between, strict=False) for value in pair] + [heights[-1]]
    step = width / (len(heights) - 1)
    return [(index * step, base - value * height) for index, value in enumerate(heights)]


def soften(mask: Image.Image, radius: float) -> Image.Image:
    """Blur a mask; wide blurs are made on a smaller copy, where they cost little."""
    shrink = max(1, int(radius / 3))
    small = mask.reduce(shrink) if shrink > 1 else mask
    return small.filter(ImageFilter.GaussianBlur(radius / shrink)).resize(mask.size, _FAST)


def shade(
    canvas: Image.Image, colour: Colour, mask: Image.Image, strength: float, at: tuple[int, int] = (0, 0)
) -> None:
    """Lay a colour over the canvas where the mask is, as strongly as it is."""
    canvas.paste(colour, (*at, at[0] + mask.width, at[1] + mask.height), mask.point(_scale(strength)))


def stars(canvas: Image.Image, rng: random.Random, count: int, lowest: float, colour: Colour) -> None:
    """Stars above `lowest` (pixels from the top), most of them faint."""
    width = canvas.width
    draw = ImageDraw.Draw(canvas)
    for _ in range(count):
        x, y = rng.uniform(0, width), rng.uniform(0, 1) ** 1.4 * lowest
        bright = rng.random() ** 3
        under = cast("Colour", canvas.getpixel((min(int(x), width - 1), min(int(y), canvas.height - 1))))
        seen = mix(under, colour, 0.25 + 0.75 * bright)
        size = 0.5 + bright * canvas.width / 1024
        draw.ellipse((x - size, y - size, x + size, y + size), fill=seen)


def grain(canvas: Image.Image, strength: int = 6) -> Image.Image:
    """The canvas with fine noise, as on film; it also hides the steps of wide gradients."""
    noise = _noise(canvas.size, strength)
    return ImageChops.add(canvas, noise, scale=1, offset=-strength)


def vignette(canvas: Image.Image, strength: float = 0.35) -> None:
    """Darken the corners."""
    mask = Image.radial_gradient("L").point(_scale_from(110, strength)).resize(canvas.size, _FAST)
    canvas.paste((0, 0, 0), (0, 0, *canvas.size), mask)


@lru_cache(maxsize=8)
def _noise(size: tuple[int, int], strength: int) -> Image.Image:
    """Noise from 0 to twice `strength`, the same in every process; a tile, laid out over the whole."""
    source = random.Random(20)  # noqa: S311 - film grain
    side = 256
    values = source.randbytes(side * side * 2)
    span = 2 * strength / 510
    tile = Image.frombytes(
        "L", (side, side), bytes(round((a + b) * span) for a, b in zip(values[::2], values[1::2], strict=True))
    )
    sheet = Image.new("L", size)
    for y in range(0, size[1], side):
        for x in range(0, size[0], side):
            turned = tile if (x // side + y // side) % 2 else tile.transpose(Image.Transpose.ROTATE_90)
            sheet.paste(turned, (x, y))
    return Image.merge("RGB", (sheet, sheet, sheet))


@lru_cache(maxsize=1)
def _falloff() -> Image.Image:
    """Light round a point: 255 in the middle, nothing at the rim, steep inside and soft outside."""
    table = [round(255 * max(0.0, 1 - value / 181) ** 2.2) for value in range(256)]
    return Image.radial_gradient("L").point(table)


@lru_cache(maxsize=512)
def _scale(factor: float) -> list[int]:
    return [min(255, round(value * factor)) for value in range(256)]


@lru_cache(maxsize=8)
def _scale_from(start: int, factor: float) -> list[int]:
    return [round(max(0, value - start) * factor) for value in range(256)]


def _within(box: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    seen = (max(0, box[0]), max(0, box[1]), min(size[0], box[2]), min(size[1], box[3]))
    return seen if seen[0] < seen[2] and seen[1] < seen[3] else None
