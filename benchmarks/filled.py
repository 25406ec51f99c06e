"""Data directories with any number of generations, made in seconds: copies of one that was really lived."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from runware_provider.projection.rows import stored_time

STATE, READ_MODEL = "state.db", "projection.db"
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
_APART = timedelta(seconds=10)


def multiply(data: Path, number: int) -> None:
    """Add copies of the one generation in `data`, which nobody uses, until there are `number`."""
    with closing(sqlite3.connect(data / STATE, isolation_level=None)) as state:
        _multiply(state, "generations", number, _generation)
        _multiply(state, "requests", number, lambda row, at, _: {**row, "number": at + 1})
    with closing(sqlite3.connect(data / READ_MODEL, isolation_level=None)) as rows:
        _multiply(rows, "generations", number, _row)
        _multiply(rows, "artifacts", number, _artifact)


def _multiply(connection: sqlite3.Connection, name: str, number: int, changed: Any) -> None:
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("PRAGMA cache_size=-262144")
    cursor = connection.execute(f"SELECT * FROM {name}")  # noqa: S608  a constant
    columns = [column[0] for column in cursor.description]
    (original,) = (dict(zip(columns, row, strict=True)) for row in cursor.fetchall())
    connection.execute("BEGIN")
    connection.executemany(
        f"INSERT INTO {name} VALUES ({', '.join('?' * len(columns))})",  # noqa: S608
        (tuple(changed(original, at, _id(at)).values()) for at in range(1, number)),
    )
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _id(at: int) -> UUID:
    """A UUIDv7 of its time."""
    milliseconds = int((_FIRST + at * _APART).timestamp() * 1000)
    return UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62 | at)


def _generation(row: dict[str, Any], at: int, id: UUID) -> dict[str, Any]:
    register = row["register"].replace(str(UUID(bytes=row["id"])), str(id))
    return {**row, "number": at + 1, "id": id.bytes, "register": register}


def _row(row: dict[str, Any], at: int, id: UUID) -> dict[str, Any]:
    return {**row, "id": str(id), "created_at": stored_time(_FIRST + at * _APART)}


def _artifact(row: dict[str, Any], at: int, id: UUID) -> dict[str, Any]:
    key = row["key"].replace(row["generation_id"], str(id))
    return {**row, "generation_id": str(id), "key": key, "created_at": stored_time(_FIRST + at * _APART)}


def ids(number: int) -> Iterator[UUID]:
    """The copies' ids, from the first."""
    return (_id(at) for at in range(1, number))
