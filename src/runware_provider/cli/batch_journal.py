"""What a folder remembers of its batch: which requests were sent, as what, and what came of each.

One JSON object a line, only ever appended, synced before what follows from it is done. A process that dies leaves at
most half a line, which the next one cuts off. What is lost with it costs nothing: the same request has the same key.
"""

import asyncio
import fcntl
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self
from uuid import uuid4

from runware_provider.cli.files import sync_folder
from runware_provider.errors import ConfigurationError

NAME = ".batch-journal"
VERSION = 1

MAX_BYTES = 1024**3
"""Largest journal that is read: several times what the largest batch writes."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One image in the folder."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(slots=True)
class Entry:
    """What is known of one request. `stem`: what its files' names begin with; nobody else's do.

    `why`: of what failed. `cost_micros`: of what came, as far as Runware said; `earlier_micros`: of earlier attempts.
    `unpriced`: images of which it did not say.
    """

    attempt: int = 1
    stem: str = ""
    id: str | None = None
    status: Literal["open", "done", "failed"] = "open"
    files: tuple[Kept, ...] = ()
    cost_micros: int = 0
    earlier_micros: int = 0
    unpriced: int = 0
    why: str = ""


@dataclass
class Journal:
    """The journal of a folder, locked until `close`."""

    path: Path
    batch: str
    models: dict[str, str]
    entries: dict[str, Entry]
    _descriptor: int
    _waiting: list[bytes] = field(default_factory=list)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    # One thread: what was begun by a task that is cancelled is written before what comes after, and before the end.
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "batch-journal"))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read the journal of a folder, or begin one. Raises ConfigurationError."""
        path = folder / NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls._read(path, descriptor)
        except BlockingIOError:
            os.close(descriptor)
            raise ConfigurationError(
                f"another batch is at work in --out {folder}: wait for it, or give this one another folder"
            ) from None
        except BaseException:
            os.close(descriptor)
            raise

    @classmethod
    def _read(cls, path: Path, descriptor: int) -> Self:
        if os.fstat(descriptor).st_size > MAX_BYTES:
            raise ConfigurationError(f"{path} is larger than any journal: is it one? Give another folder as --out")
        batch: str | None = None
        models: dict[str, str] = {}
        entries: dict[str, Entry] = {}
        whole = 0
        with os.fdopen(os.dup(descriptor), "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break  # half of a line, whose writer died
                whole += len(line)
                try:
                    record = json.loads(line)
                    if number == 1:
                        batch = _batch_of(record)
                    elif "models" in record:
                        models |= record["models"]
                    else:
                        _apply(entries.setdefault(record["key"], Entry()), record)
                except (ValueError, TypeError, KeyError):
                    raise ConfigurationError(
                        f"{path}, line {number} is damaged, so that it is not known what was paid for: restore it, or "
                        "give another folder as --out, which orders everything anew"
                    ) from None
        if whole < os.fstat(descriptor).st_size:
            os.ftruncate(descriptor, whole)
        os.lseek(descriptor, whole, os.SEEK_SET)
        if batch is None:
            batch = uuid4().hex[:16]
            os.write(descriptor, _line({"journal": VERSION, "batch": batch}))
            os.fsync(descriptor)
            sync_folder(path.parent)
        return cls(path, batch, models, entries, descriptor)

    async def note(self, **record: Any) -> None:
        """Keep one record. Returns once it is synced; records of others may share the sync."""
        if "key" in record:
            _apply(self.entries.setdefault(record["key"], Entry()), record)
        self._waiting.append(_line(record))
        async with self._turn:
            lines, self._waiting = self._waiting, []
            if lines:
                await asyncio.get_running_loop().run_in_executor(self._thread, self._write, b"".join(lines))

    def _write(self, lines: bytes) -> None:
        while lines:
            lines = lines[os.write(self._descriptor, lines) :]
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Let another batch have the folder, when all is written."""
        self._thread.shutdown()
        os.close(self._descriptor)


def _batch_of(record: dict[str, Any]) -> str:
    batch = record["batch"]
    if record["journal"] != VERSION or not isinstance(batch, str):
        raise ValueError
    return batch


def _apply(entry: Entry, record: dict[str, Any]) -> None:
    """What a record says of an entry; what it does not say stays as it was."""
    if "attempt" in record and record["attempt"] != entry.attempt:
        entry.earlier_micros, entry.cost_micros = entry.earlier_micros + entry.cost_micros, 0
        entry.attempt, entry.stem, entry.id, entry.status, entry.why = record["attempt"], "", None, "open", ""
    entry.stem = record.get("stem", entry.stem)
    entry.id = record.get("id", entry.id)
    entry.status = record.get("status", entry.status)
    entry.why = record.get("why", entry.why)
    entry.cost_micros = record.get("cost_micros", entry.cost_micros)
    entry.unpriced = record.get("unpriced", entry.unpriced)
    if "files" in record:
        entry.files = tuple(Kept(*each) for each in record["files"])


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"
