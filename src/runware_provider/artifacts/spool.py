"""One image on its way from the network to the store: in memory while it is small, else in a temporary file."""

import hashlib
import itertools
import os
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from runware_provider.artifacts.inspect import looks_like_an_image, not_an_image
from runware_provider.artifacts.refusal import NotKept
from runware_provider.artifacts.threads import Threads
from runware_provider.errors import storage_failed

MEMORY_BYTES = 1 << 18
"""An image up to this size never touches the disk before it is put; a larger one is written in pieces of this size."""

_numbers = itertools.count()


def prepare(folder: Path, *, fresh: bool = True, older_than: float = 0.0) -> None:
    """Make `folder`; when `fresh`, remove the files that a killed process left in it over `older_than` seconds ago."""
    folder.mkdir(parents=True, exist_ok=True)
    before = time.time() - older_than
    for path in folder.iterdir() if fresh else ():
        with suppress(FileNotFoundError):
            if not path.is_dir() and (not older_than or path.lstat().st_mtime < before):
                path.unlink()


def clear_up_after(pid: int, folder: Path) -> None:
    """Remove what the process `pid`, which is dead, left in `folder`. Blocking."""
    for path in folder.glob(f"{pid}-*.part"):
        with suppress(OSError):  # the next start removes it
            path.unlink()


class Spool:
    """Takes bytes in order with `write`, then gives them back anywhere, with their size and SHA-256.

    A context manager: what has not been `moved` to its place by then is removed. `name` is what an error calls the
    image as long as it has no key. The temporary file has mode 0600 and lies in `folder`.
    """

    def __init__(self, folder: Path, name: str, threads: Threads) -> None:
        self.size = 0
        self.stopped = False
        """Nobody waits for the image any more: whoever reads it piece by piece should raise."""
        self._folder = folder
        self._name = name
        self._threads = threads
        self._memory = bytearray()
        self._hash = hashlib.sha256()
        self._path: Path | None = None
        self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        if self._path is not None:
            with suppress(OSError):  # the next start removes it
                self._path.unlink()
            self._path = None

    def stop(self) -> None:
        """Nobody waits for the image any more."""
        self.stopped = True

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes. Raises NotKept: storage_failed, or not_an_image once that is certain."""
        # Copied together, because a body that drips a byte at a time would be 50 times its size as a list.
        self._memory += chunk
        self.size += len(chunk)
        if len(self._memory) > MEMORY_BYTES:
            if self._file < 0 and not looks_like_an_image(bytes(self._memory[:32])):
                raise not_an_image(bytes(self._memory[:200]))  # an endless page never reaches the disk
            try:
                await self._threads.run(self._spill)
            except OSError as error:
                raise NotKept(storage_failed(self._name, f"cannot spool the image: {error.strerror}")) from error

    def finish(self) -> str:
        """The SHA-256 of the whole, in hex. Blocking; call it once, after the last `write`."""
        if self._file >= 0:
            self._spill()
        else:
            self._hash.update(self._memory)
        return self._hash.hexdigest()

    @property
    def memory(self) -> bytearray | None:
        """The whole image, when it is small enough to be in memory."""
        return self._memory if self._file < 0 else None

    def read_at(self, offset: int, length: int) -> bytes:
        """The bytes from `offset`; fewer than `length` only at the end. Blocking."""
        if self._file < 0:
            return bytes(self._memory[offset : offset + length])
        parts = []
        while length > 0 and (part := os.pread(self._file, length, offset)):
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return b"".join(parts) if len(parts) != 1 else parts[0]

    def as_file(self) -> tuple[Path, int]:
        """The whole image as a file, open for writing: its path and descriptor. Blocking. Raises OSError."""
        return (self._write_out() if self._path is None else self._path), self._file

    def moved(self) -> None:
        """The file is in its place under another name, and no longer ours to remove."""
        self._path = None

    def _spill(self) -> None:
        self._hash.update(self._memory)
        self._write_out()
        self._memory.clear()

    def _write_out(self) -> Path:
        if self._path is None:
            path = self._folder / f"{os.getpid()}-{next(_numbers)}.part"
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            self._path = path
        with memoryview(self._memory) as view:
            written = 0
            while written < len(view):
                written += os.write(self._file, view[written:])
        return self._path
