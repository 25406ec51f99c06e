"""The pictures: real images of the asked size, decided by prompt, model and seed, drawn in bounded room."""

import asyncio
import hashlib
import io
import random
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from PIL import Image

from runware_provider.simulator.caption import drawable, write_caption
from runware_provider.simulator.darkroom import Darkroom
from runware_provider.simulator.palettes import PALETTES
from runware_provider.simulator.pictures import Format, Picture, draw
from runware_provider.simulator.scenes import _WORDS, paint
from runware_provider.simulator.scenes.sky import Scene
from tests.simulator.simulator_harness import prompt_options


def _picture(prompt: str = "a lighthouse at dusk", *, seed: int = 7, size: tuple[int, int] = (256, 192)) -> Picture:
    return Picture(prompt, "runware:101@1", seed, *size)


def test_the_same_recipe_gives_the_same_bytes() -> None:
    assert draw(_picture()) == draw(_picture())


def test_the_same_recipe_gives_the_same_bytes_in_another_process() -> None:
    code = (
        "import hashlib\n"
        "from runware_provider.simulator.pictures import Picture, draw\n"
        "print(hashlib.sha256(draw(Picture('a lighthouse at dusk', 'runware:101@1', 7, 256, 192))).hexdigest())"
    )

    there = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout

    assert there.strip() == hashlib.sha256(draw(_picture())).hexdigest()


def test_prompt_model_and_seed_each_change_the_picture() -> None:
    pictures = [_picture(), _picture("a lighthouse at dawn"), _picture(seed=8)]
    pictures.append(Picture("a lighthouse at dusk", "runware:100@1", 7, 256, 192))

    assert len({draw(picture) for picture in pictures}) == 4


@pytest.mark.parametrize("scene", list(_WORDS), ids=lambda scene: str(scene.__name__))
@pytest.mark.parametrize("size", [(128, 128), (384, 128), (128, 384)])
def test_every_scene_is_painted_at_every_size(scene: Callable[[Scene], Image.Image], size: tuple[int, int]) -> None:
    """Square ones in every palette; none of them flat."""
    for name, palette in list(PALETTES.items())[: None if size == (128, 128) else 1]:
        canvas = scene(Scene(size, palette, random.Random(name), frozenset()))

        assert canvas.size == size
        assert len(canvas.getcolors(size[0] * size[1]) or []) > 500


def test_words_choose_the_scene() -> None:
    chosen = []
    for words in ("lighthouse at sea", "a city street", "a planet in space"):
        scene = Scene((128, 128), PALETTES["dusk"], random.Random(1), frozenset(words.split()))
        chosen.append(paint(scene).tobytes())

    assert len(set(chosen)) == 3


@pytest.mark.parametrize("size", [(2048, 2048), (2048, 128), (128, 2048)])
def test_large_pictures_have_their_size(size: tuple[int, int]) -> None:
    image = Image.open(io.BytesIO(draw(_picture(size=size))))

    assert image.size == size


@pytest.mark.parametrize("kind", ["JPG", "PNG", "WEBP"])
def test_quality_and_format_are_kept(kind: Format) -> None:
    fine = draw(Picture("x y", "a:b@c", 1, 256, 256, kind, 99))
    coarse = draw(Picture("x y", "a:b@c", 1, 256, 256, kind, 20))

    assert (len(coarse) < len(fine)) is (kind != "PNG")


@pytest.mark.parametrize(
    "prompt",
    [
        "灯台と夕暮れの海",
        "منارة عند الغسق",
        "маяк в сумерках",
        "🗼🌊 waves",
        "a\u0000b\ud83dc\u202e",
        "x" * 3000,
        "word " * 600,
        "  \n\t ",
        "\u0301\u0301",
    ],
)
@pytest.mark.parametrize("size", [(128, 128), (640, 384)])
def test_no_prompt_breaks_the_caption(prompt: str, size: tuple[int, int]) -> None:
    assert draw(_picture(prompt, size=size))


def test_the_caption_never_reaches_the_edge() -> None:
    for width, height in ((128, 128), (256, 640), (1024, 320)):
        canvas = Image.new("RGB", (width, height))

        write_caption(canvas, "m" * 50 + " " + "word " * 200, "a-model:1@1  ·  seed 9223372036854775807")

        edge = canvas.crop((width - 4, 0, width, height))
        assert max(edge.convert("L").tobytes()) < 60  # the shadow's colour at most
        assert max(canvas.convert("L").tobytes()) > 200


def test_letters_the_font_has_not_are_spelt_or_left_out() -> None:
    assert drawable("naïve façade, größer") in ("naïve façade, größer", "naive facade, grosser")
    assert drawable("灯台 by night") == "by night"
    assert drawable("a\u0000b") == "ab"


async def test_a_picture_is_drawn_once_for_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def count(picture: Picture) -> bytes:
        drawn.append(picture)
        return draw(picture)

    monkeypatch.setattr("runware_provider.simulator.darkroom.draw", count)
    darkroom = Darkroom(prompt_options())
    try:
        pictures = await asyncio.gather(*(darkroom.develop(_picture(), "id") for _ in range(5)))
    finally:
        darkroom.close()

    assert len(set(pictures)) == 1
    assert len(drawn) == 1


async def test_the_cache_is_bounded_by_bytes() -> None:
    darkroom = Darkroom(prompt_options(cache_bytes=60_000))
    try:
        for seed in range(8):
            await darkroom.develop(_picture(seed=seed), "id")
            assert darkroom.kept_bytes <= 60_000
        assert darkroom.kept_bytes > 0
    finally:
        darkroom.close()


async def test_without_room_nothing_is_kept() -> None:
    darkroom = Darkroom(prompt_options(cache_bytes=0))
    try:
        await darkroom.develop(_picture(), "id")
        assert darkroom.kept_bytes == 0
    finally:
        darkroom.close()


async def test_drawing_is_bounded_by_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, most = 0, 0
    lock = threading.Lock()

    def watched(picture: Picture) -> bytes:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        data = draw(picture)
        with lock:
            at_once -= 1
        return data

    monkeypatch.setattr("runware_provider.simulator.darkroom.draw", watched)
    darkroom = Darkroom(prompt_options(drawing_threads=2))
    try:
        await asyncio.gather(*(darkroom.develop(_picture(seed=seed), "id") for seed in range(8)))
    finally:
        darkroom.close()

    assert most == 2
