"""What stays in memory of the images that were written: the last ones."""

import ctypes
import mmap
import os
from pathlib import Path
from uuid import UUID

import pytest

from runware_provider.artifacts.page_cache import RecentlyWritten
from tests.artifacts.cdn import Cdn, body
from tests.artifacts.conftest import GENERATION, Opener, content
from tests.artifacts.pictures import a_jpeg_of

LIBC = ctypes.CDLL(None, use_errno=True)
SIZE = 1 << 18


def cached(path: Path) -> bool:
    """Whether any page of the file is in the page cache."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        address = ctypes.addressof(ctypes.c_char.from_buffer(view))
        pages = (ctypes.c_ubyte * (len(view) // mmap.PAGESIZE))()
        assert LIBC.mincore(ctypes.c_void_p(address), ctypes.c_size_t(len(view)), pages) == 0
        return any(page & 1 for page in pages)


def written(path: Path) -> Path:
    """A file of `SIZE` bytes that lies on the disk."""
    with path.open("wb") as file:
        file.write(os.urandom(SIZE))
        file.flush()
        os.fsync(file.fileno())
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A folder whose file system can let go of what it has in memory; one that is memory cannot."""
    probe = written(tmp_path / "probe")
    RecentlyWritten(0).add(probe, SIZE)
    if cached(probe):
        assert not os.environ.get("CI"), "the folder for temporary files must lie on a disk"
        pytest.skip("the folder for temporary files lies in memory")
    return tmp_path


def test_the_last_images_stay_in_memory_and_earlier_ones_do_not(disk: Path) -> None:
    """As many as fit the limit; one that is larger than that alone does not stay."""
    recent = RecentlyWritten(3 * SIZE)
    files = [written(disk / str(number)) for number in range(8)]
    for file in files:
        recent.add(file, SIZE)

    assert [cached(file) for file in files] == [False] * 5 + [True] * 3

    recent.add(files[-1], 4 * SIZE)
    assert not any(cached(file) for file in files)


async def test_a_folder_of_images_does_not_fill_the_memory(open_artifacts: Opener, cdn: Cdn, disk: Path) -> None:
    """More than the limit are stored; the first is read from the disk then, the last is still at hand."""
    artifacts = await open_artifacts(f"file://{disk}/objects")
    url = cdn.says(body(a_jpeg_of(4 * 1024 * 1024)))
    keys = [(await artifacts.keep(GENERATION, UUID(int=number), url, attempt=1)).key for number in range(18)]
    files = [disk / "objects" / key for key in keys]

    assert (cached(files[0]), cached(files[-1])) == (False, True)
    assert a_jpeg_of(4 * 1024 * 1024) == await content(artifacts, keys[0])


def test_what_was_removed_or_replaced_meanwhile_is_nobodys_trouble(tmp_path: Path) -> None:
    """Neither a file that is gone, nor a folder, nor a link in its place; and nothing is held on to."""
    recent = RecentlyWritten(0)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    before = len(list(Path("/proc/self/fd").iterdir()))

    for name in ("gone", "link", "."):
        recent.add(tmp_path / name, 1)

    assert len(list(Path("/proc/self/fd").iterdir())) == before
