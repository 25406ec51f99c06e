"""Files of commands: whole or not at all, and whether one is still what was written."""

import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there with all its content, or not at all."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # some file systems have no need of it
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def intact(path: Path, size_bytes: int, digest: str) -> bool:
    """Whether a file has exactly these bytes. Reads it as a whole, so call it in a thread."""
    try:
        if path.stat().st_size != size_bytes:
            return False
        with path.open("rb") as file:
            seen = sha256()
            while piece := file.read(1 << 20):
                seen.update(piece)
    except OSError:
        return False
    return seen.hexdigest() == digest
