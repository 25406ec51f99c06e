"""Syncing folders. Threads that want the same one synced share a sync."""

import itertools
import os
from pathlib import Path
from threading import Lock


class SharedSyncs:
    """Call it with a folder: what was done in it before is on disk once that returns. Raises OSError.

    Who asks while another thread's sync of the folder runs shares the next one, and its failure, of which the kernel
    tells only once.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._folders: dict[Path, _Folder] = {}

    def __call__(self, folder: Path) -> None:
        """Sync `folder`."""
        with self._lock:
            shared = self._folders.setdefault(folder, _Folder(folder))
            shared.users += 1
        try:
            shared.sync()
        finally:
            with self._lock:
                shared.users -= 1
                if not shared.users:
                    del self._folders[folder]


class _Folder:
    def __init__(self, path: Path) -> None:
        self.users = 0
        self._path = path
        self._lock = Lock()
        self._numbers = itertools.count(1)
        self._asked = self._synced = self._failed = 0
        self._error: OSError | None = None

    def sync(self) -> None:
        mine = self._asked = next(self._numbers)
        with self._lock:
            if self._error is not None and mine <= self._failed:
                raise self._error
            if mine <= self._synced:
                return
            covered = self._asked
            try:
                sync_folder(self._path)
            except OSError as error:
                self._failed, self._error = covered, error
                raise
            self._synced = covered


def sync_folder(folder: Path) -> None:
    """The names in `folder` are on disk once this returns. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
