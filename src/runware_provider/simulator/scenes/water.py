"""Water: the open sea, a lighthouse over it, boats on it."""

import random

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from runware_provider.simulator import brush
from runware_provider.simulator.scenes.sky import Scene, birds, paint_sky


def sea(scene: Scene) -> Image.Image:
    """A horizon, the sky's light on the water, and what the prompt puts there."""
    width, height = scene.size
    rng = scene.rng
    line = round(height * rng.uniform(0.54, 0.6))
    lighthouse = scene.says("lighthouse beacon")
    across = rng.choice((0.28, 0.36, 0.64)) if not lighthouse else rng.uniform(0.2, 0.36)
    sun = (width * across, line - height * rng.uniform(0.03, 0.16))
    canvas, sun = paint_sky(scene, line / height, sun)
    _islands(canvas, scene, line)
    _water(canvas, scene, line)
    _glitter(canvas, scene, sun, line)
    if lighthouse:
        _lighthouse(canvas, scene, line)
    elif scene.says("boat boats ship sail sailing sailboat harbour harbor lake") or rng.random() < 0.5:
        _sailboat(canvas, scene, width * (0.62 if across < 0.5 else 0.3), line + height * 0.035, height * 0.085)
    birds(canvas, scene)
    return canvas


def _islands(canvas: Image.Image, scene: Scene, line: int) -> None:
    width, height = canvas.size
    rng = scene.rng
    for layer in range(rng.randint(1, 3)):
        near = (layer + 1) / 3
        outline = brush.ridge(rng, width, line - height * 0.01, height * 0.045 * near, 0.5)
        colour = brush.mix(scene.palette.haze, scene.palette.ink, 0.12 + 0.3 * near)
        brush.below(canvas, outline, colour, brush.mix(colour, scene.palette.haze, 0.5), depth=height * 0.06)


def _water(canvas: Image.Image, scene: Scene, line: int) -> None:
    """The sky mirrored and darkened, broken up by ripples that grow towards the viewer."""
    width, height = canvas.size
    deep = height - line
    rng = scene.rng
    mirrored = canvas.crop((0, max(0, line - deep), width, line)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if mirrored.height != deep:
        mirrored = mirrored.resize((width, deep), Image.Resampling.BILINEAR)
    water = mirrored.filter(ImageFilter.BoxBlur((max(4, width / 60), max(1, height / 300))))
    water = Image.blend(water, Image.new("RGB", water.size, scene.palette.ink), 0.30)
    tint = brush.vertical(water.size, (scene.palette.haze, scene.palette.sky[1], scene.palette.ink))
    water = Image.blend(water, tint, 0.38)
    ripples = Image.new("L", water.size, 128)
    top = 0.0
    band = 3.0
    while top < deep:
        rows = max(2, round(band))
        grid = (max(3, round(width / (band * 7))), 2)
        noise = Image.frombytes("L", grid, rng.randbytes(grid[0] * grid[1]))
        ripples.paste(noise.resize((width, rows), Image.Resampling.BICUBIC), (0, round(top)))
        top += rows
        band *= 1.09
    ripples = ripples.filter(ImageFilter.BoxBlur((0, 1.5)))
    light = ripples.point([max(0, round((value - 150) * 0.55)) for value in range(256)])
    dark = ripples.point([max(0, round((105 - value) * 0.8)) for value in range(256)])
    water.paste(brush.mix(scene.palette.haze, scene.palette.light, 0.5), (0, 0), light)
    water.paste(scene.palette.ink, (0, 0), dark)
    canvas.paste(water, (0, line))
    brush.shade(canvas, scene.palette.light, Image.new("L", (width, 1), 255), 0.35, (0, line))


def _glitter(canvas: Image.Image, scene: Scene, sun: brush.Point, line: int) -> None:
    """The road of light under the sun: short strokes, wider and rarer towards the viewer."""
    width, height = canvas.size
    deep = height - line
    rng = scene.rng
    strokes = Image.new("L", (width, deep))
    draw = ImageDraw.Draw(strokes)
    for _ in range(420):
        down = rng.random() ** 1.5
        y = down * deep
        spread = width * (0.015 + 0.10 * down)
        x = rng.gauss(sun[0], spread)
        half = width * (0.004 + 0.022 * down) * rng.uniform(0.5, 1.4)
        thick = max(0.6, height * 0.0035 * (0.25 + down))
        draw.ellipse((x - half, y - thick, x + half, y + thick), fill=round(235 * (1 - 0.55 * down)))
    strokes = strokes.filter(ImageFilter.GaussianBlur(0.9))
    brush.shade(canvas, scene.palette.light, strokes, 0.85, (0, line))
    brush.glow(canvas, (sun[0], line + deep * 0.12), width * 0.3, scene.palette.light, 0.25)


def _lighthouse(canvas: Image.Image, scene: Scene, line: int) -> None:
    width, height = canvas.size
    rng = scene.rng
    x = width * rng.uniform(0.7, 0.78)
    unit = height * 0.05
    foot = line - unit * 0.75
    cliff = [
        (x - unit * 5.2, line + unit * 1.1),
        (x - unit * 3.4, line + unit * 0.1),
        (x - unit * 2.5, line - unit * 0.35),
    ]
    cliff += [(x - unit * 1.2, foot), (x + unit * 1.4, foot - unit * 0.1), (x + unit * 3.2, line - unit * 1.25)]
    cliff += [(width, line - unit * 1.7), (width, line + unit * 1.6), (x, line + unit * 1.5)]
    cliff = _rough(rng, cliff, unit * 0.12)
    rock = brush.mix(scene.palette.ink, scene.palette.haze, 0.2)
    reach = (width, round(unit * 4))
    brush.fill(canvas, cliff, brush.vertical(reach, (rock, scene.palette.ink)))
    lamp = (x, foot - unit * 5.35)
    _beam(canvas, scene, lamp, -1, width * 0.62, unit)
    _beam(canvas, scene, lamp, 1, width * 0.4, unit)
    pale = brush.mix((250, 244, 236), scene.palette.haze, 0.25)
    tower = [(x - unit * 0.62, foot + unit * 0.2), (x - unit * 0.4, foot - unit * 4.8)]
    tower += [(x + unit * 0.4, foot - unit * 4.8), (x + unit * 0.62, foot + unit * 0.2)]
    _tower(canvas, scene, tower, pale, x, unit)
    draw = ImageDraw.Draw(canvas)
    iron = brush.mix(scene.palette.ink, (0, 0, 0), 0.2)
    draw.rectangle((x - unit * 0.58, foot - unit * 4.95, x + unit * 0.58, foot - unit * 4.75), fill=iron)
    draw.rectangle((x - unit * 0.3, foot - unit * 5.6, x + unit * 0.3, foot - unit * 4.95), fill=(255, 246, 214))
    draw.polygon(
        [(x - unit * 0.46, foot - unit * 5.6), (x, foot - unit * 6.3), (x + unit * 0.46, foot - unit * 5.6)], fill=iron
    )
    brush.glow(canvas, lamp, unit * 3.2, (255, 240, 196), 0.95)


def _tower(
    canvas: Image.Image, scene: Scene, outline: list[brush.Point], pale: brush.Colour, x: float, unit: float
) -> None:
    """White and coloured bands, lit on the side of the light."""
    mask = brush.shape(canvas.size, outline)
    top, bottom = min(y for _, y in outline), max(y for _, y in outline)
    side = (max(2, round(unit * 1.4)), max(2, round(bottom - top)))
    bands = Image.new("RGB", side, pale)
    draw = ImageDraw.Draw(bands)
    for band in range(5):
        if band % 2:
            draw.rectangle((0, side[1] * band / 5, side[0], side[1] * (band + 1) / 5), fill=scene.palette.accent)
    across = Image.linear_gradient("L").rotate(90).resize(side).point([round(value * 0.62) for value in range(256)])
    bands.paste(scene.palette.ink, (0, 0), across)
    at = (round(x - side[0] / 2), round(top))
    canvas.paste(bands, at, mask.crop((at[0], at[1], at[0] + side[0], at[1] + side[1])))


def _beam(canvas: Image.Image, scene: Scene, lamp: brush.Point, way: int, reach: float, unit: float) -> None:
    """Light that widens and fades with the distance."""
    end = lamp[0] + way * reach
    mask = brush.shape(canvas.size, [lamp, (end, lamp[1] - unit * 2.0), (end, lamp[1] + unit * 0.3)])
    mask = brush.soften(mask, unit * 0.18)
    fade = Image.linear_gradient("L").rotate(-90 * way).resize((max(2, round(reach)), canvas.height))
    fall = Image.new("L", canvas.size)
    fall.paste(fade, (round(min(lamp[0], end)), 0))
    brush.shade(canvas, brush.mix(scene.palette.light, (255, 255, 255), 0.2), ImageChops.multiply(mask, fall), 0.5)


def _sailboat(canvas: Image.Image, scene: Scene, x: float, waterline: float, tall: float) -> None:
    ink = brush.mix(scene.palette.ink, scene.palette.haze, 0.12)
    hull = [(x - tall * 0.42, waterline - tall * 0.1), (x + tall * 0.46, waterline - tall * 0.12)]
    hull += [(x + tall * 0.3, waterline), (x - tall * 0.3, waterline)]
    sail = brush.mix(scene.palette.light, scene.palette.haze, 0.25)
    main = [(x + tall * 0.03, waterline - tall * 1.05), (x + tall * 0.03, waterline - tall * 0.16)]
    main += [(x + tall * 0.4, waterline - tall * 0.2)]
    jib = [(x - tall * 0.02, waterline - tall * 0.95), (x - tall * 0.02, waterline - tall * 0.18)]
    jib += [(x - tall * 0.34, waterline - tall * 0.2)]
    for points, colour in ((hull, ink), (main, sail), (jib, brush.mix(sail, ink, 0.22))):
        brush.fill(canvas, points, colour)
    brush.fill(canvas, [(px, 2 * waterline - py) for px, py in main], sail, 0.25, blur=3)
    brush.fill(canvas, [(px, 2 * waterline - py) for px, py in hull], scene.palette.ink, 0.6, blur=2)


def _rough(rng: random.Random, outline: list[brush.Point], size: float) -> list[brush.Point]:
    """The outline with small irregularities on every edge."""
    rough: list[brush.Point] = []
    for (x, y), (next_x, next_y) in zip(outline, [*outline[1:], outline[0]], strict=True):
        rough.append((x, y))
        steps = [(x + (next_x - x) * step, y + (next_y - y) * step) for step in (0.25, 0.5, 0.75)]
        rough += [(step_x, step_y + rng.uniform(-size, size)) for step_x, step_y in steps]
    return rough
