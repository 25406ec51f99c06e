"""Town: a skyline with lit windows, mirrored in a river."""

from PIL import Image, ImageDraw, ImageFilter

from runware_provider.simulator import brush
from runware_provider.simulator.scenes.sky import Scene, paint_sky


def city(scene: Scene) -> Image.Image:
    """Rows of towers in the haze, the nearest with light in the windows, over still water."""
    width, height = scene.size
    palette = scene.palette
    line = round(height * 0.76)
    canvas, sun = paint_sky(scene, 0.8)
    layers = 4
    for layer in range(layers):
        near = layer / (layers - 1)
        colour = brush.mix(palette.haze, palette.ink, 0.18 + 0.72 * near)
        foot = brush.mix(colour, brush.mix(palette.haze, palette.light, 0.3), 0.5 - 0.38 * near)
        _row(canvas, scene, line, near, colour, foot)
        if layer == 1:
            brush.glow(canvas, (sun[0], line), width * 0.5, palette.sky[-1], 0.42)
    _river(canvas, scene, line)
    return canvas


def _row(canvas: Image.Image, scene: Scene, line: int, near: float, colour: brush.Colour, foot: brush.Colour) -> None:
    width, height = canvas.size
    rng = scene.rng
    outline: list[brush.Point] = [(0, line)]
    towers = []
    x = -width * rng.uniform(0, 0.04)
    while x < width:
        wide = width * rng.uniform(0.03, 0.075) * (0.75 + 0.5 * near)
        tall = height * (0.30 - 0.13 * near) * rng.uniform(0.35, 1.0) * (1.45 if rng.random() < 0.12 else 1)
        top = line - tall
        towers.append((x, top, wide))
        outline += [(x, line), (x, top), *_roof(scene, x, top, wide), (x + wide, top), (x + wide, line)]
        x += wide + width * rng.uniform(-0.004, 0.012)
    outline.append((width, line))
    brush.below(canvas, outline, colour, foot, depth=height * 0.3)
    if near > 0.3:
        _windows(canvas, scene, towers, line, near)


def _roof(scene: Scene, x: float, top: float, wide: float) -> list[brush.Point]:
    """A spire, a step or nothing."""
    kind = scene.rng.random()
    middle = x + wide / 2
    if kind < 0.22:
        thin = max(0.6, wide * 0.025)
        high = wide * scene.rng.uniform(0.5, 1.1)
        return [(middle - thin * 4, top), (middle - thin, top - high * 0.3), (middle, top - high),
                (middle + thin, top - high * 0.3), (middle + thin * 4, top)]  # fmt: skip
    if kind < 0.5:
        step = wide * 0.22
        return [(x + step, top), (x + step, top - step), (x + wide - step, top - step), (x + wide - step, top)]
    return []


def _windows(
    canvas: Image.Image, scene: Scene, towers: list[tuple[float, float, float]], line: int, near: float
) -> None:
    width, rng = canvas.width, scene.rng
    pane = max(1.0, width * (0.0022 + 0.0016 * near))
    glass = Image.new("L", canvas.size)
    draw = ImageDraw.Draw(glass)
    for x, top, wide in towers:
        lit = rng.uniform(0.08, 0.5)
        columns = int(wide / (pane * 2.3))
        left = x + (wide - columns * pane * 2.3) / 2 + pane * 0.6
        for column in range(columns):
            y = top + pane * 3
            while y < line - pane * 3:
                if rng.random() < lit:
                    at = left + column * pane * 2.3
                    draw.rectangle((at, y, at + pane, y + pane * 1.5), fill=rng.randint(90, 255))
                y += pane * 3.1
    warm = brush.mix(scene.palette.light, scene.palette.accent, 0.28)
    halo = glass.reduce(4).filter(ImageFilter.GaussianBlur(2.2)).resize(canvas.size, Image.Resampling.BILINEAR)
    brush.shade(canvas, warm, halo, 0.5 + 0.3 * near)
    brush.shade(canvas, warm, glass, 0.35 + 0.6 * near)


def _river(canvas: Image.Image, scene: Scene, line: int) -> None:
    width, height = canvas.size
    rng = scene.rng
    deep = height - line
    mirrored = canvas.crop((0, max(0, line - round(deep * 1.5)), width, line)).transpose(
        Image.Transpose.FLIP_TOP_BOTTOM
    )
    water = mirrored.resize((width, deep)).filter(ImageFilter.BoxBlur((1.5, max(2, height / 130))))
    water = Image.blend(water, Image.new("RGB", water.size, scene.palette.ink), 0.34)
    # Each line of the water is pushed sideways a little, more and more towards the viewer.
    rows = max(2, round(height / 340))
    for top in range(0, deep, rows):
        shift = round(rng.gauss(0, 1) * width * 0.0035 * (0.3 + top / deep))
        strip = water.crop((0, top, width, min(deep, top + rows)))
        water.paste(strip, (shift, top))
    canvas.paste(water.filter(ImageFilter.BoxBlur((1, 0.6))), (0, line))
    brush.shade(canvas, scene.palette.light, Image.new("L", (width, max(1, height // 700)), 255), 0.28, (0, line))
