"""Studio: pictures of nothing but colour: flowing silk, cut paper."""

import math
import random

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from runware_provider.simulator import brush
from runware_provider.simulator.scenes.sky import Scene


def silk(scene: Scene) -> Image.Image:
    """Threads of light that run together and apart over soft colours."""
    width, height = scene.size
    palette, rng = scene.palette, scene.rng
    colours = [*palette.sky, palette.haze, palette.accent]
    dim = 0.42 if palette.dark else 0.25
    rows = [
        [brush.mix(rng.choice(colours), palette.ink, dim + rng.uniform(0, 0.3)) for _ in range(4)] for _ in range(4)
    ]
    canvas = brush.mesh(scene.size, rows)
    for _ in range(2):
        at = (width * rng.uniform(0.1, 0.9), height * rng.uniform(0.1, 0.7))
        brush.glow(
            canvas, at, max(scene.size) * rng.uniform(0.4, 0.6), rng.choice((palette.accent, palette.sky[3])), 0.4
        )
    threads = Image.new("L", scene.size)
    for _ in range(3):
        threads = ImageChops.add(threads, _threads(scene, rng))
    lit = [[brush.mix(palette.light, rng.choice(colours), rng.uniform(0, 0.45)) for _ in range(3)] for _ in range(3)]
    canvas.paste(brush.mesh(scene.size, lit), mask=threads.filter(ImageFilter.GaussianBlur(0.6)))
    return canvas


def paper(scene: Scene) -> Image.Image:
    """Sheets of coloured paper, cut in waves and laid one over the other, each with its shadow."""
    width, height = scene.size
    palette, rng = scene.palette, scene.rng
    order = [palette.sky[3], palette.sky[2], palette.haze, palette.accent, palette.sky[1], palette.sky[0], palette.ink]
    canvas = brush.mesh(scene.size, [[palette.sky[-1], palette.light], [palette.light, palette.sky[-1]]])
    sun = (width * rng.uniform(0.3, 0.7), height * rng.uniform(0.22, 0.34))
    radius = min(width, height) * rng.uniform(0.12, 0.17)
    _drop(canvas, _round(sun, radius), brush.mix(palette.accent, palette.light, 0.2), palette.ink, height)
    sheets = len(order)
    for number, colour in enumerate(order):
        near = number / (sheets - 1)
        swing = height * rng.uniform(0.03, 0.075)
        base = height * (0.36 + 0.5 * near)
        pace, start = rng.uniform(0.7, 1.9), rng.uniform(0, 7)
        wave = [
            (
                x * width / 80,
                base + swing * math.sin(x / 80 * math.pi * 2 * pace + start) + swing * 0.5 * (x / 80 - 0.5),
            )
            for x in range(-4, 85)
        ]
        _drop(canvas, [*wave, (width * 1.1, height * 1.1), (-width * 0.1, height * 1.1)], colour, palette.ink, height)
    return canvas


def _drop(
    canvas: Image.Image, outline: list[brush.Point], colour: brush.Colour, ink: brush.Colour, height: int
) -> None:
    """One sheet of paper, with its shadow on what lies below and light on its edge."""
    away = height * 0.008
    brush.fill(canvas, [(x + away * 0.4, y - away * 0.8) for x, y in outline], ink, 0.5, blur=height * 0.016)
    brush.fill(canvas, outline, brush.mix(colour, (255, 255, 255), 0.18))
    brush.fill(canvas, [(x, y + max(1.0, height * 0.0018)) for x, y in outline], colour)


def _round(centre: brush.Point, radius: float) -> list[brush.Point]:
    steps = 120
    turns = [step / steps * math.tau for step in range(steps)]
    return [(centre[0] + radius * math.cos(turn), centre[1] + radius * math.sin(turn)) for turn in turns]


def _threads(scene: Scene, rng: random.Random) -> Image.Image:
    """A sheet of threads, each a little off from the one before."""
    width, height = scene.size
    fine = 2
    sheet = Image.new("L", (width * fine, height * fine))
    draw = ImageDraw.Draw(sheet)
    middle = height * rng.uniform(0.25, 0.62)
    sway = [(rng.uniform(0.3, 1.5), rng.uniform(0, 7), rng.uniform(-0.9, 0.9)) for _ in range(3)]
    lines = 44
    for line in range(lines):
        off = line / lines
        points = []
        for step in range(141):
            at = step / 140
            y = middle
            for pace, start, drift in sway:
                y += height * 0.085 * math.sin(at * math.tau * pace + start + off * drift * 2.4)
            y += height * 0.16 * (off - 0.5) * math.sin(at * math.pi * 1.1 + sway[0][1])
            points.append((at * width * fine, y * fine))
        fade = math.sin(off * math.pi)
        draw.line(points, fill=round(30 + 120 * fade * rng.uniform(0.6, 1)), width=fine, joint="curve")
    return sheet.reduce(fine)
