"""Land: mountains in mist, dunes, a forest."""

import math
import random

from PIL import Image

from runware_provider.simulator import brush
from runware_provider.simulator.scenes.sky import Scene, birds, paint_sky


def mountains(scene: Scene) -> Image.Image:
    """Ridges behind ridges, each fading into the mist of the valley before it."""
    width, height = scene.size
    palette, rng = scene.palette, scene.rng
    canvas, sun = paint_sky(scene, horizon=0.74)
    layers = rng.randint(6, 7)
    for layer in range(layers):
        near = layer / (layers - 1)
        base = height * (0.50 + 0.42 * near**1.05)
        tall = height * (0.16 - 0.09 * near) * rng.uniform(0.8, 1.25)
        line = brush.ridge(rng, width, base, tall, 0.53)
        far = brush.mix(palette.haze, palette.sky[1], 0.30)
        colour = brush.mix(far, palette.ink, 0.06 + 0.94 * near**1.25)
        mist = brush.mix(colour, brush.mix(palette.haze, palette.light, 0.35), 0.75 - 0.6 * near)
        if near > 0.6:
            line = _wooded(rng, line, height * (0.008 + 0.03 * near))
        brush.below(canvas, line, colour, mist, depth=height * 0.22)
        if layer == 1:
            brush.glow(canvas, (sun[0], base + tall * 0.6), width * 0.5, palette.light, 0.24)
    birds(canvas, scene)
    return canvas


def dunes(scene: Scene) -> Image.Image:
    """Waves of sand, lit from one side."""
    width, height = scene.size
    palette, rng = scene.palette, scene.rng
    canvas, sun = paint_sky(scene, horizon=0.62)
    layers = 6
    lit_left = sun[0] < width / 2
    for layer in range(layers):
        near = layer / (layers - 1)
        crest = _swell(rng, width, height * (0.56 + 0.36 * near**1.25), height * (0.02 + 0.075 * near))
        sand = brush.mix(brush.mix(palette.haze, palette.light, 0.3), palette.accent, 0.12 + 0.33 * near)
        shadow = brush.mix(sand, palette.ink, 0.30 + 0.42 * near)
        rows = [_flank(rng, sand, shadow, down, lit_left=lit_left) for down in (0.0, 0.45, 1.0)]
        brush.below_mesh(canvas, crest, rows)
        # A bright rim where the light grazes the crest.
        rim = [*crest, *((x, y + 1.2 + 2.4 * near) for x, y in reversed(crest))]
        brush.fill(canvas, rim, palette.light, 0.42)
    birds(canvas, scene)
    return canvas


def forest(scene: Scene) -> Image.Image:
    """Firs behind firs, with light between them."""
    width, height = scene.size
    palette, rng = scene.palette, scene.rng
    canvas, sun = paint_sky(scene, horizon=0.9)
    layers = 6
    for layer in range(layers):
        near = layer / (layers - 1)
        ground = height * (0.60 + 0.42 * near)
        tree = height * (0.13 + 0.40 * near**1.5)
        colour = brush.mix(palette.haze, palette.ink, 0.12 + 0.88 * near**1.1)
        mist = brush.mix(colour, brush.mix(palette.haze, palette.light, 0.3), 0.9 - 0.75 * near)
        line: list[brush.Point] = [(0, ground)]
        x = rng.uniform(-tree * 0.3, 0)
        while x < width + tree * 0.2:
            tall = tree * rng.uniform(0.5, 1.12)
            line += _fir(rng, x, ground + rng.uniform(0, tree * 0.1), tall)
            x += tall * rng.uniform(0.2, 0.5) * (1 + 0.7 * near)
        line.append((width, ground))
        brush.below(canvas, line, colour, mist, depth=tree * 1.2)
        if layer in (1, 3):
            brush.glow(canvas, (sun[0], ground - tree * 0.2), width * 0.5, palette.light, 0.30)
    return canvas


def _fir(rng: random.Random, x: float, ground: float, tall: float) -> list[brush.Point]:
    """A fir's outline from its left foot over the tip to the right."""
    half = tall * rng.uniform(0.14, 0.19)
    tiers = 9
    left: list[brush.Point] = []
    right: list[brush.Point] = []
    for tier in range(1, tiers + 1):
        down = tier / tiers
        y = ground - tall * (1 - down * 0.9)
        for side, points in ((-1, left), (1, right)):
            reach = half * down**0.85 * rng.uniform(0.82, 1.15)
            points += [(x + side * reach, y), (x + side * reach * 0.52, y - tall * 0.018)]
    trunk = max(0.6, tall * 0.014)
    left += [(x - trunk, ground - tall * 0.1), (x - trunk, ground)]
    right += [(x + trunk, ground - tall * 0.1), (x + trunk, ground)]
    return [*reversed(left), (x, ground - tall), *right]


def _wooded(rng: random.Random, line: list[brush.Point], tall: float) -> list[brush.Point]:
    """A ridge with trees along it."""
    wooded: list[brush.Point] = []
    last = -tall
    for x, y in line:
        if x - last > tall * rng.uniform(0.2, 0.9):
            wooded += _fir(rng, x, y + tall * 0.1, tall * rng.uniform(0.45, 1.2))
            last = x
        else:
            wooded.append((x, y))
    return wooded


def _swell(rng: random.Random, width: int, base: float, swing: float) -> list[brush.Point]:
    waves = [(rng.uniform(0.5, 1.4), rng.uniform(0, 7), 1.0), (rng.uniform(1.6, 2.8), rng.uniform(0, 7), 0.35)]
    line = []
    for step in range(121):
        at = step / 120
        rise = sum(part * math.sin(at * math.pi * 2 * pace + start) for pace, start, part in waves)
        # Crests sharper than troughs, as wind makes them.
        line.append((at * width, base - swing * (rise + 0.3 * abs(rise))))
    return line


def _flank(
    rng: random.Random, sand: brush.Colour, shadow: brush.Colour, down: float, *, lit_left: bool
) -> list[brush.Colour]:
    """Five colours across a dune, lighter towards the light, darker further down, never quite even."""
    row = []
    for column in range(5):
        away = column / 4 if lit_left else 1 - column / 4
        row.append(brush.mix(sand, shadow, 0.30 * away + 0.5 * down + rng.uniform(-0.22, 0.22)))
    return row
