"""The read model in a SQLite file: one connection writes and checkpoints, two only read, each on its own thread.

SQLite up to 3.51.2 can damage a WAL when two connections write and checkpoint at once, so no other of ours ever does.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from runware_provider.errors import ConfigurationError, ProjectionUnavailable
from runware_provider.projection.schema import VERSION_TABLE
from runware_provider.projection.target import Dialect, Rejected
from runware_provider.threads import Workers

BUSY_SECONDS = 1.0
"""How long a call waits for another process's lock. Trying again is the caller's."""

_WRITER = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",  # `projected_at` is committed elsewhere after us: the row must survive loss of power too
    "PRAGMA journal_size_limit=67108864",
)
_READER = ("PRAGMA query_only=1", "PRAGMA wal_autocheckpoint=0")

_PASSING = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_INTERRUPT,
}
_KEEPS_CONNECTION = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_ERROR}

_T = TypeVar("_T")


class SQLiteTarget:
    """A `Target`. Its commits are synced to the disk."""

    dialect: Dialect = "sqlite"
    atomic = True
    parameter_bytes = 64 * 1024 * 1024

    def __init__(self, path: Path) -> None:
        self._writer = _Thread(path, "projection-writer", _WRITER)
        self._reader = _Thread(path, "projection-reader", _READER)
        self._summer = _Thread(path, "projection-summer", _READER)

    @classmethod
    async def open(cls, url: str, *, create: bool) -> "SQLiteTarget":
        """Open the file of `sqlite:///absolute/path`; what follows the slashes is the path as it is, not decoded.

        Raises ConfigurationError for a path that is not absolute, a missing file unless `create`, a file that is not a
        database, cannot be written or is held locked.
        """
        path = _path(url)
        if not path.parent.is_dir():
            raise ConfigurationError(f"PROJECTION_URL: there is no folder {path.parent}; make it or name another.")
        if not create and not path.exists():
            raise ConfigurationError(f"There is no read model at {path}: run `runware-provider migrate`.")
        target = cls(path)
        try:
            if create:
                await asyncio.to_thread(path.touch)
            await target._writer.run(_prove_writable)
        except (OSError, Rejected, ProjectionUnavailable) as error:
            await target.aclose()
            raise ConfigurationError(
                f"PROJECTION_URL: {path} cannot be used as the read model: {error}. "
                "Check that it is a SQLite file, that it and its folder may be written, that nobody holds it locked."
            ) from error
        except BaseException:
            await target.aclose()
            raise
        return target

    async def revision(self) -> str | None:
        """See `Target`."""
        return await self._writer.run(_revision)

    async def migrate(self, plan: Callable[[str | None], Sequence[str]]) -> None:
        """See `Target`. All or nothing, DDL too."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            for statement in plan(_revision(connection)):
                connection.execute(statement).fetchall()
            connection.execute("COMMIT")

        await self._writer.run(work)

    async def write(self, statements: Sequence[tuple[str, str]]) -> None:
        """See `Target`. One transaction."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("BEGIN IMMEDIATE")
            for sql, parameter in statements:
                connection.execute(sql, (parameter,))
            connection.execute("COMMIT")

        await self._writer.run(work)

    async def read(self, sql: str, parameters: Sequence[str | int], *, aside: bool = False) -> list[str]:
        """See `Target`."""
        # In one row: each row is a step that lets go of the GIL, and a busy loop is slow to give it back.
        one_row = f"SELECT group_concat(item, char(10)) FROM ({sql})"  # noqa: S608 (our own statement)

        def work(connection: sqlite3.Connection) -> str | None:
            row: tuple[str | None] = connection.execute(one_row, parameters).fetchone()
            return row[0]

        joined = await (self._summer if aside else self._reader).run(work)
        return joined.split("\n") if joined else []

    async def aclose(self) -> None:
        """See `Target`."""
        await self._summer.aclose()
        await self._reader.aclose()
        await self._writer.aclose()  # last, so that it is the writer whose closing checkpoints


class _Thread:
    """One connection, used by one thread. Made anew after an error that may be the connection's own, and when the file
    is another than was opened: SQLite would go on writing into a removed file and say nothing."""

    def __init__(self, path: Path, name: str, pragmas: Sequence[str]) -> None:
        self._path = path
        self._pragmas = pragmas
        self._workers = Workers(1, name)
        self._connection: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None

    def run(self, work: Callable[[sqlite3.Connection], _T]) -> "asyncio.Future[_T]":
        return self._workers.run(partial(self._run, work))

    async def aclose(self) -> None:
        await self._workers.run(self._close)
        self._workers.end()

    def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            if self._connection is not None and self._inode != _inode(self._path):
                self._close()
            connection = self._connection or self._open()
            try:
                return work(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code not in _KEEPS_CONNECTION:
                self._close()
            raise (ProjectionUnavailable if code in _PASSING else Rejected)(str(error)) from error
        except (ValueError, OverflowError) as error:  # the driver's, of a parameter that SQLite cannot hold
            raise Rejected(str(error)) from error

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?mode=rw",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            for pragma in self._pragmas:
                _set(connection, pragma)
        except BaseException:
            connection.close()
            raise
        self._inode = _inode(self._path)
        self._connection = connection
        return connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _set(connection: sqlite3.Connection, pragma: str) -> None:
    """Waits for a lock as every call does. SQLite itself does not when it switches a new file to WAL (seen)."""
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute(pragma).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _path(url: str) -> Path:
    path = "/" + url.removeprefix("sqlite://").lstrip("/")
    if not url.startswith("sqlite:///") or "\x00" in path or path == "/" or path.startswith("/:memory:"):
        raise ConfigurationError(
            "PROJECTION_URL: write a file's absolute path, as in sqlite:///var/lib/runware/read.db"
        )
    return Path(path)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _prove_writable(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("ROLLBACK")


def _revision(connection: sqlite3.Connection) -> str | None:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (VERSION_TABLE,))
    if found.fetchone() is None:
        return None
    row = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()  # noqa: S608 (a constant)
    return None if row is None else str(row[0])
