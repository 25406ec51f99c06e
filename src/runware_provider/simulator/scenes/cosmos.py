"""Cosmos: a nebula, stars, and a planet with its ring."""

import math

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from runware_provider.simulator import brush
from runware_provider.simulator.scenes.sky import Scene


def space(scene: Scene) -> Image.Image:
    """Clouds of light, and a lit world before them."""
    width, height = scene.size
    palette, rng = scene.palette, scene.rng
    canvas = _nebula(scene)
    brush.stars(canvas, rng, round(420 * width * height / 1024**2) + 40, height, (255, 255, 255))
    for _ in range(5):
        at = (rng.uniform(0, width), rng.uniform(0, height * 0.8))
        _sparkle(canvas, at, min(width, height) * rng.uniform(0.008, 0.02), palette.light)
    radius = min(width, height) * rng.uniform(0.17, 0.25)
    centre = (width * rng.choice((0.34, 0.42, 0.62, 0.68)), height * rng.uniform(0.36, 0.48))
    _planet(canvas, scene, centre, radius, ring=rng.random() < 0.6)
    moon = radius * rng.uniform(0.10, 0.18)
    angle = rng.uniform(-0.9, 0.4)
    _globe(canvas, (centre[0] + radius * 1.9 * math.cos(angle), centre[1] + radius * 1.5 * math.sin(angle)), moon,
           [brush.mix(palette.haze, (235, 232, 225), 0.5)] * 3, palette.ink)  # fmt: skip
    return canvas


def _nebula(scene: Scene) -> Image.Image:
    palette, rng = scene.palette, scene.rng
    dark = brush.mix(palette.ink, (2, 3, 10), 0.6)
    half = (scene.size[0] // 2 + 1, scene.size[1] // 2 + 1)
    canvas = Image.new("RGB", half, dark)
    for colour, strength in (
        (palette.sky[1], 0.9),
        (palette.sky[2], 0.75),
        (palette.accent, 0.42),
        (palette.haze, 0.4),
    ):
        noise = Image.new("L", (128, 128))
        for grid, share in ((3, 1.0), (5, 0.5), (9, 0.3), (17, 0.14)):
            layer = Image.frombytes("L", (grid, grid), rng.randbytes(grid * grid))
            noise = Image.blend(noise, layer.resize((128, 128), Image.Resampling.BICUBIC), share)
        table = [round(255 * min(1.0, max(0.0, (value - 108) / 90)) ** 1.5 * strength) for value in range(256)]
        mask = noise.point(table).filter(ImageFilter.GaussianBlur(2.5)).resize(half, Image.Resampling.BICUBIC)
        light = Image.merge("RGB", [mask.point([v * channel // 255 for v in range(256)]) for channel in colour])
        canvas = ImageChops.screen(canvas, light)
    return canvas.resize(scene.size, Image.Resampling.BILINEAR)


def _planet(canvas: Image.Image, scene: Scene, centre: brush.Point, radius: float, *, ring: bool) -> None:
    palette, rng = scene.palette, scene.rng
    brush.glow(canvas, centre, radius * 1.9, brush.mix(palette.accent, palette.light, 0.4), 0.5)
    tilt = rng.uniform(8, 24)
    flat = _ring(scene, radius)
    colour = brush.mix(palette.haze, palette.light, 0.5)
    if ring:
        _centred(canvas, centre, flat.rotate(-tilt, Image.Resampling.BICUBIC, expand=True), colour)
    warm = [palette.sky[2], palette.haze, palette.light, palette.accent, palette.sky[3], palette.haze]
    bands = [brush.mix(rng.choice(warm), palette.accent, rng.uniform(0, 0.4)) for _ in range(11)]
    _globe(canvas, centre, radius, bands, palette.ink, tilt)
    if ring:
        # The near half of the ring passes before the world.
        flat.paste(0, (0, 0, flat.width, flat.height // 2))
        _centred(canvas, centre, flat.rotate(-tilt, Image.Resampling.BICUBIC, expand=True), colour)


def _centred(canvas: Image.Image, centre: brush.Point, mask: Image.Image, colour: brush.Colour) -> None:
    at = (round(centre[0] - mask.width / 2), round(centre[1] - mask.height / 2))
    canvas.paste(colour, (*at, at[0] + mask.width, at[1] + mask.height), mask)


def _globe(
    canvas: Image.Image,
    centre: brush.Point,
    radius: float,
    bands: list[brush.Colour],
    night: brush.Colour,
    tilt: float = 0.0,
) -> None:
    """A ball of banded colour, lit from the upper left."""
    side = max(8, round(radius * 2))
    ball = brush.vertical((side, side), bands)
    if tilt:
        ball = ball.resize((side * 3 // 2, side * 3 // 2)).rotate(-tilt, Image.Resampling.BICUBIC)
        edge = side // 4
        ball = ball.crop((edge, edge, edge + side, edge + side))
    shadow = Image.radial_gradient("L").resize((side * 2, side * 2), Image.Resampling.BICUBIC)
    shadow = shadow.crop((round(side * 0.66), round(side * 0.66), round(side * 0.66) + side, round(side * 0.66) + side))
    shadow = shadow.point([min(255, max(0, round((value - 28) * 2.7))) for value in range(256)])
    ball.paste(brush.mix(night, (0, 0, 0), 0.4), (0, 0), shadow)
    brush.glow(ball, (side * 0.33, side * 0.3), side * 0.5, (255, 250, 240), 0.35)
    brush.disc(canvas, centre, radius, ball)


def _ring(scene: Scene, radius: float) -> Image.Image:
    """A ring round a world of this radius, seen from a little above, as a mask."""
    wide, tall = max(16, round(radius * 4.5)), max(8, round(radius * 1.12))
    ring = Image.new("L", (wide * 2, tall * 2))
    draw = ImageDraw.Draw(ring)
    for step in range(26):
        reach = radius * (1.4 + step * 0.031) * 2
        box = (wide - reach, tall - reach * 0.24, wide + reach, tall + reach * 0.24)
        draw.ellipse(box, outline=scene.rng.randint(30, 215), width=max(1, round(radius * 0.045)))
    return ring.reduce(2)


def _sparkle(canvas: Image.Image, at: brush.Point, size: float, colour: brush.Colour) -> None:
    brush.glow(canvas, at, size * 2.4, colour, 0.9)
    thin = max(0.5, size * 0.05)
    for wide, tall in ((size * 1.6, thin), (thin, size * 1.6)):
        cross = [(at[0] - wide, at[1]), (at[0], at[1] - tall), (at[0] + wide, at[1]), (at[0], at[1] + tall)]
        brush.fill(canvas, cross, brush.mix(colour, (255, 255, 255), 0.5), 0.9)
