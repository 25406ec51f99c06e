"""Pictures: landscapes, seas, cities and colours, decided by prompt, model and seed alone.

The same prompt, model and seed give the same bytes in every process of one Pillow version; another seed gives another
picture of the same kind. Nothing is imitated: the prompt's words choose a scene and its light, the rest is chance.
"""

import io
import re
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from runware_provider.simulator import brush
from runware_provider.simulator.caption import write_caption
from runware_provider.simulator.chance import seeded
from runware_provider.simulator.palettes import palette_for
from runware_provider.simulator.scenes import paint
from runware_provider.simulator.scenes.sky import Scene

Format = Literal["JPG", "PNG", "WEBP"]
# Painted no larger than this and then enlarged: a 2048 x 2048 picture costs little more than one of a quarter of it.
PAINTED_SIDE = 1152


@dataclass(frozen=True, slots=True)
class Picture:
    """What decides a picture's bytes; sizes in pixels, `quality` 20 to 99 (PNG has none)."""

    prompt: str
    model: str
    seed: int
    width: int
    height: int
    format: Format = "JPG"
    quality: int = 95


def draw(picture: Picture) -> bytes:
    """The encoded picture. Takes about a tenth of a second; to be called in a thread."""
    rng = seeded("picture", picture.prompt, picture.model, picture.seed)
    words = frozenset(re.findall(r"[a-z]+", picture.prompt.lower()))
    size = (picture.width, picture.height)
    share = min(1.0, PAINTED_SIDE / max(size))
    painted = (max(1, round(size[0] * share)), max(1, round(size[1] * share)))
    canvas = paint(Scene(painted, palette_for(words, rng), rng, words))
    brush.vignette(canvas)
    if share < 1:
        canvas = canvas.resize(size, Image.Resampling.BICUBIC)
    canvas = brush.grain(canvas)
    write_caption(canvas, picture.prompt, f"{picture.model}  ·  seed {picture.seed}  ·  simulated")
    return _encoded(canvas, picture)


def _encoded(canvas: Image.Image, picture: Picture) -> bytes:
    out = io.BytesIO()
    match picture.format:
        case "JPG":
            canvas.save(out, "JPEG", quality=picture.quality)
        case "PNG":
            # Grain does not compress: trying harder would take ten times as long for a few per cent.
            canvas.save(out, "PNG", compress_level=1)
        case "WEBP":
            canvas.save(out, "WEBP", quality=picture.quality, method=0)
    return out.getvalue()
