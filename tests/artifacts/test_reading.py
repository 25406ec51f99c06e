"""Images are read back, and removed; no key from outside leads anywhere else."""

import os
from pathlib import Path
from uuid import UUID

import pytest

from runware_provider.artifacts import Artifacts, StoreUnavailable
from runware_provider.errors import InvalidArgs, OutputNotFound
from tests.artifacts.cdn import Cdn, body
from tests.artifacts.conftest import GENERATION, OUTPUT, Opener, content, files, generations, keep
from tests.artifacts.pictures import a_jpeg_of, a_picture

MIB = 1 << 20
SIZE = 2 * MIB + 100
KEY = f"generations/{GENERATION}/{OUTPUT}-0123456789ab.jpg"


@pytest.mark.parametrize(
    "byte_range",
    [(0, 1), (0, SIZE), (5, 10), (SIZE - 1, SIZE), (MIB - 1, MIB + 1), (100, 2 * MIB + 1), (7, 10**12)],
)
async def test_a_range_is_read(store: Artifacts, cdn: Cdn, byte_range: tuple[int, int]) -> None:
    """Half open, cut at the end."""
    stored = await keep(store, cdn.says(body(a_jpeg_of(SIZE))))
    found = await store.read(stored.key, byte_range)

    assert (found.start, found.stop, found.size) == (byte_range[0], min(byte_range[1], SIZE), SIZE)
    assert a_jpeg_of(SIZE)[slice(*byte_range)] == await content(store, stored.key, byte_range)


async def test_the_whole_comes_in_pieces_and_again(store: Artifacts, cdn: Cdn) -> None:
    stored = await keep(store, cdn.says(body(a_jpeg_of(SIZE))))
    found = await store.read(stored.key)

    assert (found.start, found.stop, found.size) == (0, SIZE, SIZE)
    for _ in range(2):
        assert [len(piece) async for piece in found] == [MIB, MIB, 100]


@pytest.mark.parametrize("byte_range", [(-1, 5), (5, 5), (9, 3), (SIZE, SIZE + 1), (10**12, 10**13)])
async def test_a_range_without_a_byte_is_refused(store: Artifacts, cdn: Cdn, byte_range: tuple[int, int]) -> None:
    stored = await keep(store, cdn.says(body(a_jpeg_of(SIZE))))
    with pytest.raises(InvalidArgs, match="range"):
        await store.read(stored.key, byte_range)


async def test_what_was_dropped_unread_holds_nothing_open(artifacts: Artifacts, cdn: Cdn) -> None:
    """Warnings are errors, and an unclosed file would be one; counted all the same."""
    stored = await keep(artifacts, cdn.says(body(a_jpeg_of(SIZE))))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    async for _ in await artifacts.read(stored.key):
        break
    await artifacts.read(stored.key)

    assert before == len(os.listdir("/proc/self/fd"))  # noqa: PTH208


async def test_an_image_that_goes_while_it_is_read_is_not_found(store: Artifacts, cdn: Cdn) -> None:
    stored = await keep(store, cdn.says(body(a_jpeg_of(SIZE))))
    found = await store.read(stored.key)
    await store.delete(stored.key)

    with pytest.raises(OutputNotFound):
        assert [piece async for piece in found]


async def test_an_image_that_was_cut_by_somebody_is_not_read_as_whole(
    artifacts: Artifacts, cdn: Cdn, tmp_path: Path
) -> None:
    stored = await keep(artifacts, cdn.says(body(a_jpeg_of(SIZE))))
    found = await artifacts.read(stored.key)
    os.truncate(tmp_path / "objects" / stored.key, MIB)

    with pytest.raises(StoreUnavailable):
        assert [piece async for piece in found]


async def test_a_deleted_image_is_gone_and_may_be_deleted_again(store: Artifacts, cdn: Cdn, tmp_path: Path) -> None:
    stored = await keep(store, cdn.says(body(a_picture())))
    other = await keep(store, cdn.says(body(a_picture("png"))))
    await store.delete(stored.key)
    await store.delete(stored.key)

    with pytest.raises(OutputNotFound):
        await store.read(stored.key)
    assert a_picture("png") == await content(store, other.key)
    await store.delete(other.key)
    assert generations(tmp_path / "objects") == []


async def test_a_purge_removes_one_generation_and_counts(store: Artifacts, cdn: Cdn, tmp_path: Path) -> None:
    url = cdn.says(body(a_picture()))
    for number in range(3):
        await store.keep(GENERATION, UUID(int=number), url, attempt=1)
    kept = await store.keep(UUID(int=7), UUID(int=0), url, attempt=1)

    assert [await store.purge(GENERATION), await store.purge(GENERATION), await store.purge(UUID(int=8))] == [3, 0, 0]
    assert a_picture() == await content(store, kept.key)
    assert generations(tmp_path / "objects") in ([], [str(UUID(int=7))])


async def test_a_purged_generation_can_be_stored_into_again(store: Artifacts, cdn: Cdn) -> None:
    """Its folder is made anew, although it was known to be there."""
    stored = await keep(store, cdn.says(body(a_picture())))
    await store.purge(GENERATION)

    assert stored == await keep(store, cdn.url("/image"))
    assert a_picture() == await content(store, stored.key)


async def test_a_folder_that_vanished_is_made_again(artifacts: Artifacts, cdn: Cdn, tmp_path: Path) -> None:
    """As when a purge comes between the look and the rename."""
    stored = await keep(artifacts, cdn.says(body(a_picture())))
    path = tmp_path / "objects" / stored.key
    path.unlink()
    path.parent.rmdir()

    assert stored == await keep(artifacts, cdn.url("/image"))
    assert a_picture() == await content(artifacts, stored.key)


async def test_a_file_store_says_where_the_file_is(artifacts: Artifacts, cdn: Cdn, open_artifacts: Opener) -> None:
    stored = await keep(artifacts, cdn.says(body(a_picture())))
    path = artifacts.local_path(stored.key)

    assert path is not None
    assert path.read_bytes() == a_picture()
    assert (await open_artifacts("memory://")).local_path(stored.key) is None


FOREIGN = [
    "",
    "/etc/passwd",
    "../secret",
    "generations",
    f"generations/{GENERATION}",
    f"generations/{GENERATION}/",
    f"generations/{GENERATION}/../../secret.jpg",
    f"generations/../generations/{GENERATION}/{OUTPUT}-0123456789ab.jpg",
    f"/generations/{GENERATION}/{OUTPUT}-0123456789ab.jpg",
    KEY + "\n",
    KEY + "\0",
    KEY + "/x",
    KEY.replace("/", "//"),
    KEY.replace("/", "\\"),
    KEY.replace("/", "%2f"),
    KEY.upper(),
    "\ud800",
    "a" * 100_000,
]


@pytest.mark.parametrize("key", [*FOREIGN, KEY])
async def test_a_key_that_is_none_of_ours_is_not_found(store: Artifacts, tmp_path: Path, key: str) -> None:
    (tmp_path / "objects").mkdir(exist_ok=True)
    (tmp_path / "objects/secret.jpg").touch()
    (tmp_path / "secret").touch()
    with pytest.raises(OutputNotFound):
        await store.read(key)
    if key == KEY:
        await store.delete(key)
        return
    with pytest.raises(OutputNotFound):
        await store.delete(key)
    with pytest.raises(OutputNotFound):
        store.local_path(key)
    assert (tmp_path / "secret").exists()


@pytest.mark.parametrize("kind", ["file link", "folder link", "folder", "pipe"])
async def test_what_only_looks_like_an_image_is_not_read(artifacts: Artifacts, tmp_path: Path, kind: str) -> None:
    """A link does not lead out of the store, a pipe does not hold up the reader."""
    outside = tmp_path / "outside"
    outside.mkdir()
    path = tmp_path / "objects" / KEY
    (outside / path.name).write_text("secret")
    if kind == "folder link":
        path.parent.symlink_to(outside)
    else:
        path.parent.mkdir()
        make = {"file link": lambda: path.symlink_to(outside / path.name), "folder": path.mkdir}
        make.get(kind, lambda: os.mkfifo(path))()

    with pytest.raises(OutputNotFound):
        await artifacts.read(KEY)
    with pytest.raises(OutputNotFound):
        artifacts.local_path(KEY)
    await artifacts.purge(GENERATION)
    assert files(outside) == [path.name]


async def test_nothing_is_stored_through_a_link(artifacts: Artifacts, cdn: Cdn, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "objects/generations" / str(GENERATION)).symlink_to(outside)
    with pytest.raises(Exception, match="storage_failed"):
        await keep(artifacts, cdn.says(body(a_picture())))

    assert files(outside) == []
