"""Thumbnails: small, made once, bounded in everything, and gone with their image."""

import asyncio
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import pytest
from PIL import Image

from runware_provider.types import GenerationState
from runware_provider.web import thumbnails
from tests.service import Service, eventually, images


def kept(tmp_path: Path) -> list[Path]:
    """What lies in the cache."""
    return sorted((tmp_path / "data" / "thumbnails").glob("??/*"))


def path_of(state: GenerationState, width: int, number: int = 0) -> str:
    """Where a thumbnail is asked for."""
    return f"/thumbnails/{state.id}/{state.outputs[number].id}/{width}"


async def test_a_thumbnail_is_the_image_in_small(service: Service) -> None:
    """Of its own proportions, as WebP, to be kept by the browser for ever."""
    state = await service.made(width=1024, height=512)

    answer = await service.get(path_of(state, 240))

    assert (answer.status, answer.headers["content-type"]) == (200, "image/webp")
    assert "immutable" in answer.headers["cache-control"]
    with Image.open(BytesIO(answer.body)) as small, Image.open(objects_of(service, state)) as large:
        assert small.size == (240, 120)
        expected = large.convert("RGB").resize((8, 4)).getpixel((4, 2))
        found = small.convert("RGB").resize((8, 4)).getpixel((4, 2))
        assert expected == pytest.approx(found, abs=12)
    again = await service.get(path_of(state, 240), headers={"If-None-Match": answer.headers["etag"]})
    assert again.status == 304


def objects_of(service: Service, state: GenerationState) -> Path:
    """The file of its first image."""
    path = service.ctx.artifacts.local_path(images(state)[0].key)
    assert path is not None
    return path


async def test_it_is_made_once(service: Service, tmp_path: Path) -> None:
    """However many ask at once; after a restart or a tidying hand it is there, or made again."""
    state = await service.made(width=1024, height=512)

    answers = await asyncio.gather(*(service.get(path_of(state, 480)) for _ in range(20)))

    assert len({answer.body for answer in answers}) == 1
    (file,) = kept(tmp_path)
    written = file.stat().st_mtime_ns
    await service.get(path_of(state, 480))
    assert file.stat().st_mtime_ns == written
    file.unlink()
    assert (await service.get(path_of(state, 480))).body == answers[0].body


async def test_an_image_is_never_made_larger(service: Service) -> None:
    """It is what it is."""
    state = await service.made(width=128, height=128)

    with Image.open(BytesIO((await service.get(path_of(state, 960))).body)) as small:
        assert small.size == (128, 128)


async def test_only_some_widths_are_made(service: Service, tmp_path: Path) -> None:
    """Or whoever asks for all numbers fills the disk; what is not there is not found."""
    state = await service.made()
    for path in (
        path_of(state, 241),
        f"/thumbnails/{state.id}/{state.outputs[0].id}/x",
        f"/thumbnails/{state.id}/{uuid4()}/240",
        f"/thumbnails/{uuid4()}/{state.outputs[0].id}/240",
        "/thumbnails/a/b/240",
    ):
        assert (await service.get(path)).status == 404, path
    assert kept(tmp_path) == []


async def test_the_cache_has_a_limit(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not looked at for longest makes way."""
    state = await service.made(numberResults=4)
    size = len((await service.get(path_of(state, 240))).body)
    monkeypatch.setattr(thumbnails, "MAX_CACHE_BYTES", int(size * 2.6))
    for number in (1, 0, 2, 3):
        await service.get(path_of(state, 240, number))

    names = [path.name[37:73] for path in kept(tmp_path)]
    assert sum(path.stat().st_size for path in kept(tmp_path)) <= size * 2.6
    assert str(state.outputs[3].id) in names
    assert str(state.outputs[1].id) not in names


async def test_an_image_of_too_many_pixels_is_not_decoded(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take the service's memory."""
    monkeypatch.setattr(thumbnails, "MAX_PIXELS", 128 * 128 - 1)
    state = await service.made(width=128, height=128)

    answer = await service.get(path_of(state, 240))

    assert answer.status == 404
    assert "pixels" in answer.body.decode()


async def test_so_many_may_wait_and_no_more(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others come again."""
    monkeypatch.setattr(thumbnails, "MAX_WAITING", 1)
    state = await service.made(numberResults=6, width=2048, height=2048)

    answers = await asyncio.gather(*(service.get(path_of(state, 960, number)) for number in range(6)))

    assert {answer.status for answer in answers} == {200, 503}
    refused = next(answer for answer in answers if answer.status == 503)
    assert int(refused.headers["retry-after"]) > 0
    assert (await service.get(path_of(state, 960, 5))).status == 200


async def test_what_cannot_be_decoded_has_none(service: Service) -> None:
    """The image was kept for what its structure says; the page shows its place."""
    state = await service.made()
    file = objects_of(service, state)
    content = bytearray(file.read_bytes())
    content[2:-2] = bytes(len(content) - 4)
    file.write_bytes(content)

    answer = await service.get(path_of(state, 240))

    assert answer.status == 404
    assert "decoded" in answer.body.decode()


async def test_a_deleted_generation_has_no_thumbnails_left(service: Service, tmp_path: Path) -> None:
    """Neither to be asked for nor on the disk, at once."""
    state, other = await service.made(), await service.made()
    for each in (state, other):
        assert (await service.get(path_of(each, 240))).status == 200
    await service.delete(f"/v1/generations/{state.id}")

    assert (await service.get(path_of(state, 240))).status == 404
    await eventually(lambda: [path.name[:36] for path in kept(tmp_path)] == [str(other.id)])


async def test_images_in_a_bucket_have_thumbnails_too(tmp_path: Path) -> None:
    """They are read from there, in pieces."""
    from tests.service import a_service

    async with a_service(tmp_path, artifacts_url="memory://") as service:
        state = await service.made(width=512, height=256)

        with Image.open(BytesIO((await service.get(path_of(state, 240))).body)) as small:
            assert small.size == (240, 120)
