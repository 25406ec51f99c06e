"""Which of the images that were written stay in the page cache: the last few, and not all there is memory for."""

import os
from collections import deque
from pathlib import Path
from threading import Lock

CACHED_BYTES = 64 * 1024 * 1024
"""Of images that were written last. Who has one made fetches it at once; hardly anybody comes for one much later."""


class RecentlyWritten:
    """Tell it of each file that was written and synced; the kernel is told to let go of those from long before.

    It would keep them all until no memory is left. In a container, whose limit counts them, each write then has to find
    something to evict; and in a virtual machine a page that was never used before costs several times the copy into it.
    """

    def __init__(self, most: int = CACHED_BYTES) -> None:
        self._most = most
        self._lock = Lock()
        self._files: deque[tuple[Path, int]] = deque()
        self._bytes = 0

    def add(self, path: Path, size: int) -> None:
        """`path` was written. Blocking; never raises OSError."""
        with self._lock:
            self._files.append((path, size))
            self._bytes += size
            old = []
            while self._bytes > self._most:
                old.append(self._files.popleft())
                self._bytes -= old[-1][1]
        for each, _ in old:
            _let_go(each)


def _let_go(path: Path) -> None:
    if not hasattr(os, "posix_fadvise"):  # macOS
        return
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # it was removed, or is no business of ours any more
        return
    try:
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:  # a file system that has no such thing
        pass
    finally:
        os.close(file)
