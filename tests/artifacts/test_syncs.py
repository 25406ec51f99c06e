"""Folders that several threads want synced at once."""

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock

import pytest

from runware_provider.artifacts.syncs import SharedSyncs

REAL = os.fsync


class Disk:
    """Counts syncs by folder; each waits for `gate`, and fails with `error` when that is set."""

    def __init__(self) -> None:
        self.gate = Event()
        self.begun = Event()
        self.synced: list[str] = []
        self.error: OSError | None = None
        self._lock = Lock()

    def fsync(self, descriptor: int) -> None:
        with self._lock:
            self.synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        self.begun.set()
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        REAL(descriptor)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk()
    monkeypatch.setattr(os, "fsync", disk.fsync)
    yield disk
    disk.gate.set()


def waiting(threads: ThreadPoolExecutor, syncs: SharedSyncs, folder: Path, number: int, disk: Disk) -> list[object]:
    """`number` threads that asked for `folder` while the first one's sync runs, and what became of all of them."""
    first = threads.submit(syncs, folder)
    assert disk.begun.wait(10)
    asked = [threads.submit(syncs, folder) for _ in range(number)]
    shared = syncs._folders[folder]
    while shared._asked < number + 1:
        pass
    disk.gate.set()
    return [each.exception() for each in (first, *asked)]


def test_who_asks_while_one_runs_shares_the_next(disk: Disk, tmp_path: Path) -> None:
    """Two syncs for nine threads: the first was too early for the others."""
    with ThreadPoolExecutor(9) as threads:
        outcomes = waiting(threads, SharedSyncs(), tmp_path, 8, disk)

    assert outcomes == [None] * 9
    assert len(disk.synced) == 2


def test_each_folder_has_its_own(disk: Disk, tmp_path: Path) -> None:
    """And nothing is remembered of one that nobody waits for."""
    disk.gate.set()
    syncs = SharedSyncs()
    for name in ("a", "b", "a"):
        (tmp_path / name).mkdir(exist_ok=True)
        syncs(tmp_path / name)

    assert disk.synced == ["a", "b", "a"]
    assert syncs._folders == {}


def test_a_failure_is_told_to_all_who_shared_it(disk: Disk, tmp_path: Path) -> None:
    """The kernel would tell the next one that all is well."""
    disk.error = OSError(errno.EIO, "Input/output error")
    syncs = SharedSyncs()
    with ThreadPoolExecutor(5) as threads:
        outcomes = waiting(threads, syncs, tmp_path, 4, disk)
    assert [type(each) for each in outcomes] == [OSError] * 5
    assert len(disk.synced) == 2
    disk.error = None

    syncs(tmp_path)
    assert len(disk.synced) == 3
