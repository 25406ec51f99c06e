"""Skies: the gradient, the light in it, stars and clouds, and the birds before it."""

import random
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFilter

from runware_provider.simulator import brush
from runware_provider.simulator.palettes import Palette


@dataclass(frozen=True, slots=True)
class Scene:
    """What a scene is painted from: the size, the light, chance, and the words of the prompt."""

    size: tuple[int, int]
    palette: Palette
    rng: random.Random
    words: frozenset[str]

    def says(self, words: str) -> bool:
        """Whether the prompt has one of these words."""
        return bool(self.words & set(words.split()))


def paint_sky(scene: Scene, horizon: float, sun: brush.Point | None = None) -> tuple[Image.Image, brush.Point]:
    """A sky down to `horizon` (share of the height) with stars, clouds and the sun or moon; also where that stands."""
    width, height = scene.size
    palette, rng = scene.palette, scene.rng
    reach = round(height * horizon)
    canvas = Image.new("RGB", scene.size, palette.sky[-1])
    canvas.paste(brush.vertical((width, reach), palette.sky))
    if palette.dark:
        brush.stars(canvas, rng, round(150 * width * height / 1024**2) + 30, reach * 0.6, palette.light)
    _clouds(canvas, palette, rng, reach)
    if sun is None:
        sun = (width * rng.choice((0.24, 0.3, 0.62, 0.7, 0.76)), reach * rng.uniform(0.42, 0.72))
    radius = min(width, height) * rng.uniform(0.04, 0.07)
    brush.glow(canvas, sun, radius * 12, palette.sky[-1], 0.55)
    brush.glow(canvas, sun, radius * 5, palette.light, 0.6)
    brush.disc(canvas, sun, radius, brush.mix(palette.light, (255, 255, 255), 0.35))
    brush.glow(canvas, sun, radius * 2.3, palette.light, 0.5)
    return canvas, sun


def birds(canvas: Image.Image, scene: Scene) -> None:
    """A few birds, far away."""
    width, height = canvas.size
    rng = scene.rng
    x, y = width * rng.uniform(0.3, 0.6), height * rng.uniform(0.16, 0.3)
    draw = ImageDraw.Draw(canvas)
    colour = brush.mix(scene.palette.haze, scene.palette.ink, 0.65)
    for _ in range(rng.randint(0, 7)):
        span = width * rng.uniform(0.006, 0.012)
        lift = span * rng.uniform(0.35, 0.6)
        points = [(x - span, y - lift * 0.4), (x - span * 0.45, y - lift), (x, y)]
        points += [(x + span * 0.45, y - lift), (x + span, y - lift * 0.4)]
        draw.line(points, fill=colour, width=max(1, round(width / 800)), joint="curve")
        x += width * rng.uniform(0.012, 0.05)
        y += height * rng.uniform(-0.03, 0.03)


def _clouds(canvas: Image.Image, palette: Palette, rng: random.Random, reach: int) -> None:
    """Streaks of cloud: noise, stretched sideways, kept where it is dense."""
    small = (160, 160)
    layers = [
        Image.frombytes("L", grid, rng.randbytes(grid[0] * grid[1])).resize(small, Image.Resampling.BICUBIC)
        for grid in ((3, 12), (7, 26), (16, 60))
    ]
    mask = Image.blend(Image.blend(layers[0], layers[1], 0.4), layers[2], 0.22)
    start = rng.randint(112, 140)
    table = [round(255 * min(1.0, max(0.0, (value - start) / 90)) ** 1.25) for value in range(256)]
    mask = mask.point(table).filter(ImageFilter.GaussianBlur(1.0))
    # Clouds thin out towards the zenith, or they would frame the picture.
    mask = Image.composite(mask, Image.new("L", small), Image.linear_gradient("L").resize(small))
    mask = mask.resize((canvas.width, reach), Image.Resampling.BICUBIC)
    brush.shade(canvas, brush.mix(palette.light, palette.haze, 0.4), mask, 0.3 if palette.dark else 0.62)
