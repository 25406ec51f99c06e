"""The SQLite file: its schema, how it is opened, and every statement that the runtime runs on it.

Two connections. The writer does all writing and all checkpoints: SQLite up to 3.51.2 can corrupt a WAL when two
connections do. The reader is read-only and sees what is committed, without waiting for a commit under way.

`requests` stands apart from `generations`: a request may hold megabytes of base64 and never changes, and SQLite
rewrites a row as a whole.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

from runware_provider.durable import Assignment, Flag, Parked, UnclaimedDelivery
from runware_provider.durable.records import FLAGS, decode_task, encode_task, from_ms
from runware_provider.errors import ConfigurationError, StateTooNew

SCHEMA_VERSION: Final = 1

_SCHEMA = """
CREATE TABLE generations(
  number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, version INTEGER NOT NULL, flags INTEGER NOT NULL,
  alarm_at INTEGER, register TEXT NOT NULL) STRICT;
CREATE INDEX generations_alarm ON generations(alarm_at, id) WHERE alarm_at IS NOT NULL;
CREATE INDEX generations_flags ON generations(id, flags) WHERE flags != 0;
CREATE TABLE requests(number INTEGER PRIMARY KEY, request TEXT NOT NULL) STRICT;
CREATE TABLE idempotency(key TEXT PRIMARY KEY, digest TEXT NOT NULL, id BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_id ON idempotency(id);
CREATE TABLE tasks(
  number INTEGER PRIMARY KEY, generation_id BLOB NOT NULL, task TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
  parked_at INTEGER, error TEXT) STRICT;
CREATE INDEX tasks_parked ON tasks(parked_at) WHERE parked_at IS NOT NULL;
CREATE TABLE unclaimed(
  number INTEGER PRIMARY KEY, generation_id BLOB, reason TEXT NOT NULL, body BLOB NOT NULL, digest BLOB NOT NULL UNIQUE,
  received_at INTEGER NOT NULL) STRICT;
CREATE TABLE spend(day INTEGER PRIMARY KEY, micros INTEGER NOT NULL) STRICT;
CREATE TABLE prices(model TEXT PRIMARY KEY, micros INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE secrets(name TEXT PRIMARY KEY, secret TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""


class Row(NamedTuple):
    """One generation as it is kept."""

    number: int
    flags: int
    alarm_at: int | None
    register: str


class Write(NamedTuple):
    """The new content of one generation."""

    version: int
    flags: int
    alarm_at: int | None
    register: str
    number: int


class StoredCounts(NamedTuple):
    """What the file holds. `tasks`: those that are not parked, by kind."""

    flags: dict[Flag, int]
    tasks: dict[str, int]
    parked: int
    unclaimed: int
    unclaimed_bytes: int
    spend: dict[int, int]
    prices: dict[str, int]


class SqliteStore:
    """Statements over one state file. Not thread-safe but for `commit`, which may run in another thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with ExitStack() as stack:
            stack.enter_context(self._sound())
            if not path.exists():  # it will hold prompts and a secret; SQLite gives its companions the same mode
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self.writer = self._connect(str(path))
            stack.callback(self.writer.close)
            self._prepare()
            self.reader = self._connect(f"{path.absolute().as_uri()}?mode=ro")
            stack.callback(self.reader.close)
            self.next_task = 1 + self._scalar("SELECT coalesce(max(number), 0) FROM tasks")
            self.next_number = 1 + self._scalar("SELECT coalesce(max(number), 0) FROM generations")
            stack.pop_all()

    @contextmanager
    def _sound(self) -> Iterator[None]:
        """While opening, what SQLite says is the operator's to mend."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise ConfigurationError(
                f"cannot open the state in {self.path}: {error}. Check that the folder is writable and the disk is "
                "sound; nothing was overwritten"
            ) from error

    @staticmethod
    def _connect(name: str) -> sqlite3.Connection:
        # Nobody else writes to this file: a lock is a mistake, and waiting for it would stop the event loop.
        return sqlite3.connect(
            name, uri=name.startswith("file:"), isolation_level=None, check_same_thread=False, timeout=0.05
        )

    def counts(self) -> "StoredCounts":
        """What is there at the start. Raises ConfigurationError; the file is closed then."""
        try:
            with self._sound():
                count, size = self.writer.execute(
                    "SELECT count(*), coalesce(sum(length(body)), 0) FROM unclaimed"
                ).fetchone()
                tasks = self.writer.execute("SELECT task ->> 0, count(*) FROM tasks WHERE parked_at IS NULL GROUP BY 1")
                return StoredCounts(
                    flags={flag: self._count_flagged(flag) for flag in FLAGS},
                    tasks=dict(tasks.fetchall()),
                    parked=self._scalar("SELECT count(*) FROM tasks WHERE parked_at IS NOT NULL"),
                    unclaimed=count,
                    unclaimed_bytes=size,
                    spend=self._spend(),
                    prices=self._prices(),
                )
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        writer = self.writer
        version = self._scalar("PRAGMA user_version")
        if version > SCHEMA_VERSION:
            raise StateTooNew(
                f"the state in {self.path} has schema {version}, this release knows {SCHEMA_VERSION}: "
                "install the newer release again; nothing was changed"
            )
        if version == 0 and self._scalar("SELECT count(*) FROM sqlite_schema"):
            raise ConfigurationError(f"{self.path} is somebody else's database; set RUNWARE_PROVIDER_STATE_URL")
        writer.execute("PRAGMA journal_mode=WAL")
        writer.execute("PRAGMA synchronous=FULL")
        writer.execute("PRAGMA wal_autocheckpoint=1000")  # 6 to 8 ms in which nothing is committed; 2,000 take up to 14
        writer.execute("PRAGMA journal_size_limit=67108864")
        writer.execute("PRAGMA cache_size=-8192")
        if version == 0:
            writer.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.split(";\n"):
                if statement.strip():
                    writer.execute(statement)
            writer.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            writer.execute("COMMIT")
        else:  # a file that cannot be written to is found now and not by the first client
            writer.execute("BEGIN IMMEDIATE")
            writer.execute(f"PRAGMA user_version={version}")
            writer.execute("ROLLBACK")

    def _scalar(self, sql: str) -> int:
        return int(self.writer.execute(sql).fetchone()[0])

    def close(self) -> None:
        """Close both connections."""
        self.reader.close()
        self.writer.close()

    # Transactions

    def begin(self) -> None:
        """Begin to write."""
        self.writer.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Make it durable; waits for the disk."""
        self.writer.execute("COMMIT")

    def touch(self) -> None:
        """Write something that changes nothing, to see that it can be committed."""
        self.writer.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def rollback(self) -> None:
        """Forget what was written since `begin`."""
        if self.writer.in_transaction:
            self.writer.execute("ROLLBACK")

    # Generations

    def load(self, generation_id: UUID) -> Row | None:
        """The row as the writer sees it."""
        row = self.writer.execute(
            "SELECT number, flags, alarm_at, register FROM generations WHERE id = ?", (generation_id.bytes,)
        ).fetchone()
        return Row(*row) if row else None

    def insert(self, generation_id: UUID, write: Write, request: str) -> None:
        """Add a generation and its request."""
        self.writer.execute(
            "INSERT INTO generations(version, flags, alarm_at, register, number, id) VALUES (?, ?, ?, ?, ?, ?)",
            (*write, generation_id.bytes),
        )
        self.writer.execute("INSERT INTO requests(number, request) VALUES (?, ?)", (write.number, request))

    def update(self, writes: Iterable[Write]) -> None:
        """Replace registers, and by what they are found."""
        self.writer.executemany(
            "UPDATE generations SET version = ?, flags = ?, alarm_at = ?, register = ? WHERE number = ?", writes
        )

    def rewrite(self, writes: Iterable[Write]) -> None:
        """Replace registers whose flags and alarm are what they were.

        Of columns that are named SQLite writes the indexes anew, whether they have changed or not.
        """
        self.writer.executemany(
            "UPDATE generations SET version = ?, register = ? WHERE number = ?",
            [(write.version, write.register, write.number) for write in writes],
        )

    def clear_alarms(self, numbers: Iterable[int]) -> None:
        """These generations await nothing."""
        self.writer.executemany("UPDATE generations SET alarm_at = NULL WHERE number = ?", ((n,) for n in numbers))

    def forget_requests(self, numbers: Iterable[int]) -> None:
        """Empty what was asked for."""
        self.writer.executemany(
            """UPDATE requests SET request = '{"input":{},"metadata":{}}' WHERE number = ?""", ((n,) for n in numbers)
        )

    def expire(self, numbers: Iterable[int]) -> None:
        """Let go of generations and all that belongs to them."""
        for number in numbers:
            row = self.writer.execute("DELETE FROM generations WHERE number = ? RETURNING id", (number,)).fetchone()
            self.writer.execute("DELETE FROM requests WHERE number = ?", (number,))
            if row:
                self.writer.execute("DELETE FROM idempotency WHERE id = ?", row)

    def add_spend(self, day: int, micros: int) -> None:
        """Add to what a day (since 1970) has cost."""
        self.writer.execute(
            "INSERT INTO spend(day, micros) VALUES (?, ?) "
            "ON CONFLICT(day) DO UPDATE SET micros = micros + excluded.micros",
            (day, micros),
        )

    def raise_price(self, model: str, micros: int) -> None:
        """The most that an image of `model` is known to cost."""
        self.writer.execute(
            "INSERT INTO prices(model, micros) VALUES (?, ?) "
            "ON CONFLICT(model) DO UPDATE SET micros = max(micros, excluded.micros)",
            (model, micros),
        )

    def _spend(self) -> dict[int, int]:
        rows = self.writer.execute("SELECT day, micros FROM spend ORDER BY day DESC LIMIT 40")
        return dict(rows.fetchall())

    def _prices(self) -> dict[str, int]:
        return dict(self.writer.execute("SELECT model, micros FROM prices ORDER BY micros DESC LIMIT 10000").fetchall())

    def idempotent(self, key: str) -> tuple[UUID, str] | None:
        """The generation that `key` made, and the digest of its input."""
        row = self.writer.execute("SELECT id, digest FROM idempotency WHERE key = ?", (key,)).fetchone()
        return (UUID(bytes=row[0]), row[1]) if row else None

    def insert_idempotency(self, key: str, digest: str, generation_id: UUID) -> None:
        """Remember what `key` made."""
        self.writer.execute(
            "INSERT INTO idempotency(key, digest, id) VALUES (?, ?, ?)", (key, digest, generation_id.bytes)
        )

    def read(self, generation_id: UUID) -> tuple[str, str] | None:
        """The committed register and request."""
        row = self.reader.execute(
            "SELECT register, request FROM generations JOIN requests USING (number) WHERE id = ?",
            (generation_id.bytes,),
        ).fetchone()
        return (row[0], row[1]) if row else None

    def read_register(self, generation_id: UUID) -> str | None:
        """The committed register."""
        row = self.reader.execute("SELECT register FROM generations WHERE id = ?", (generation_id.bytes,)).fetchone()
        return str(row[0]) if row else None

    def read_version(self, generation_id: UUID) -> int | None:
        """The committed version."""
        row = self.reader.execute("SELECT version FROM generations WHERE id = ?", (generation_id.bytes,)).fetchone()
        return int(row[0]) if row else None

    def ids(self, flag: Flag | None, after: UUID | None, limit: int) -> list[UUID]:
        """Committed ids in order."""
        position = after.bytes if after else b""
        if flag is None:
            rows = self.reader.execute("SELECT id FROM generations WHERE id > ? ORDER BY id LIMIT ?", (position, limit))
        else:
            rows = self.reader.execute(
                "SELECT id FROM generations WHERE flags != 0 AND (flags & ?) != 0 AND id > ? ORDER BY id LIMIT ?",
                (FLAGS[flag], position, limit),
            )
        return [UUID(bytes=row[0]) for row in rows]

    def _count_flagged(self, flag: Flag) -> int:
        return int(
            self.writer.execute(
                "SELECT count(*) FROM generations WHERE flags != 0 AND (flags & ?) != 0", (FLAGS[flag],)
            ).fetchone()[0]
        )

    def alarms(self, after: tuple[int, bytes], before_ms: int, limit: int) -> list[tuple[int, UUID]]:
        """Alarms by time, then id: those after a position and due before a time."""
        rows = self.reader.execute(
            "SELECT alarm_at, id FROM generations WHERE (alarm_at, id) > (?, ?) AND alarm_at < ? "
            "ORDER BY alarm_at, id LIMIT ?",
            (*after, before_ms, limit),
        )
        return [(row[0], UUID(bytes=row[1])) for row in rows]

    # Tasks

    def insert_tasks(self, assignments: Sequence[Assignment]) -> None:
        """Add tasks."""
        self.writer.executemany(
            "INSERT INTO tasks(number, generation_id, task) VALUES (?, ?, ?)",
            [(each.number, each.generation_id.bytes, encode_task(each.task)) for each in assignments],
        )

    def end_tasks(self, numbers: Iterable[int]) -> None:
        """These tasks are done."""
        self.writer.executemany("DELETE FROM tasks WHERE number = ?", [(number,) for number in numbers])

    def pick_up(self, number: int) -> None:
        """Count one more start that picked this task up."""
        self.writer.execute("UPDATE tasks SET attempts = attempts + 1 WHERE number = ?", (number,))

    def forgive(self) -> None:
        """An orderly stop: what is left has killed nobody."""
        self.writer.execute("UPDATE tasks SET attempts = 0 WHERE attempts > 0 AND parked_at IS NULL")

    def park(self, number: int, error: str, now_ms: int) -> None:
        """Nobody tries this task until `unpark`."""
        self.writer.execute("UPDATE tasks SET parked_at = ?, error = ? WHERE number = ?", (now_ms, error, number))

    def tasks(self, *, after: int, before: int, limit: int) -> list[Assignment]:
        """Committed tasks that are not parked, by number."""
        rows = self.reader.execute(
            "SELECT number, generation_id, task, attempts FROM tasks "
            "WHERE number > ? AND number < ? AND parked_at IS NULL ORDER BY number LIMIT ?",
            (after, before, limit),
        )
        return [Assignment(row[0], UUID(bytes=row[1]), decode_task(row[2]), row[3]) for row in rows]

    def parked(self, limit: int) -> list[Parked]:
        """Parked tasks, the oldest first."""
        rows = self.reader.execute(
            "SELECT number, generation_id, task, error, parked_at FROM tasks WHERE parked_at IS NOT NULL "
            "ORDER BY parked_at LIMIT ?",
            (limit,),
        )
        return [
            Parked(row[0], UUID(bytes=row[1]), json.loads(row[2])[0], row[3] or "", from_ms(row[4])) for row in rows
        ]

    def unpark(self, generation_id: UUID | None) -> list[Assignment]:
        """Make parked tasks due again."""
        rows = self.writer.execute(
            "UPDATE tasks SET parked_at = NULL, error = NULL, attempts = 0 "
            "WHERE parked_at IS NOT NULL AND (?1 IS NULL OR generation_id = ?1) RETURNING number, generation_id, task",
            (generation_id.bytes if generation_id else None,),
        )
        return [Assignment(row[0], UUID(bytes=row[1]), decode_task(row[2]), 0) for row in rows.fetchall()]

    # What has no generation

    def keep_unclaimed(self, generation_id: UUID | None, reason: str, body: bytes, digest: bytes, now_ms: int) -> bool:
        """Keep a delivery; whether it was new."""
        cursor = self.writer.execute(
            "INSERT INTO unclaimed(generation_id, reason, body, digest, received_at) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT(digest) DO NOTHING",
            (generation_id.bytes if generation_id else None, reason, body, digest, now_ms),
        )
        return cursor.rowcount == 1

    def drop_oldest_unclaimed(self) -> int | None:
        """Let the oldest one go; return its bytes, None when there is none."""
        row = self.writer.execute(
            "DELETE FROM unclaimed WHERE number = (SELECT min(number) FROM unclaimed) RETURNING length(body)"
        ).fetchone()
        return int(row[0]) if row else None

    def forget_unclaimed(self, numbers: Sequence[int]) -> tuple[int, int]:
        """Drop these; return how many there were, and their bytes."""
        count = size = 0
        for number in numbers:
            row = self.writer.execute(
                "DELETE FROM unclaimed WHERE number = ? RETURNING length(body)", (number,)
            ).fetchone()
            if row:
                count, size = count + 1, size + int(row[0])
        return count, size

    def unclaimed(self, limit: int, after: int) -> list[UnclaimedDelivery]:
        """The oldest first."""
        rows = self.reader.execute(
            "SELECT number, generation_id, reason, body, received_at FROM unclaimed "
            "WHERE number > ? ORDER BY number LIMIT ?",
            (after, limit),
        )
        return [
            UnclaimedDelivery(row[0], UUID(bytes=row[1]) if row[1] else None, row[2], row[3], from_ms(row[4]))
            for row in rows
        ]

    # Secrets

    def secret(self, name: str) -> str | None:
        """What is kept under `name`."""
        row = self.writer.execute("SELECT secret FROM secrets WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else None

    def insert_secret(self, name: str, secret: str) -> None:
        """Keep a secret."""
        self.writer.execute("INSERT INTO secrets(name, secret) VALUES (?, ?)", (name, secret))
