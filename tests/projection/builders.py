"""States to project, and a look at what lies in the tables."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

from runware_provider.errors import GenerationError, OutputError, fetch_failed
from runware_provider.types import (
    Counts,
    ErrorOutput,
    GenerationState,
    JsonObject,
    Output,
    Status,
    SuccessOutput,
)

NOON = datetime(2026, 11, 25, 12, 0, 0, 123_000, tzinfo=UTC)
_numbers = count(1)


def an_id(number: int | None = None) -> UUID:
    return UUID(int=(7 << 120) | (next(_numbers) if number is None else number))


def a_time(milliseconds: int) -> datetime:
    return NOON + timedelta(milliseconds=milliseconds)


def an_image(number: int | None = None, **changes: Any) -> SuccessOutput:
    id_ = an_id(number)
    image = SuccessOutput(
        id=id_,
        key=f"generations/g/{id_}-abcdefabcdef.png",
        content_type="image/png",
        size_bytes=123_456,
        sha256="ab" * 32,
        width=512,
        height=768,
        seed=42,
        cost_micros=1_300,
        image_uuid="2f6a0c9e",
        item={"taskType": "imageInference"},
        created_at=NOON,
    )
    return image.model_copy(update=changes)


def an_output_error(error: OutputError | None = None) -> ErrorOutput:
    failed = error or fetch_failed("https://im.runware.ai/a.png", 404, "not found")
    return ErrorOutput(id=an_id(), error=failed, raw=None, created_at=NOON)


def a_state(
    id_: UUID | None = None,
    *,
    version: int = 1,
    status: Status = "completed",
    model: str | None = "runware:101@1",
    input: JsonObject | None = None,
    metadata: dict[str, str] | None = None,
    outputs: list[Output] | None = None,
    error: GenerationError | None = None,
    created_at: datetime = NOON,
    deleted_at: datetime | None = None,
) -> GenerationState:
    id_ = an_id() if id_ is None else id_
    outputs = [] if outputs is None else outputs
    stored = sum(output.type == "success" for output in outputs)
    return GenerationState(
        id=id_,
        task_uuid=UUID(int=id_.int ^ 1),
        version=version,
        status=status,
        dispatch="accepted",
        counts=Counts(expected=4, stored=stored, failed=len(outputs) - stored, missing=max(0, 4 - len(outputs))),
        model=model,
        input={"positivePrompt": "a lighthouse", "width": 512, "height": 768} if input is None else input,
        metadata={} if metadata is None else metadata,
        outputs=outputs,
        error=error,
        projection_error=None,
        created_at=created_at,
        dispatched_at=created_at,
        completed_at=None if status == "running" else created_at,
        projected_at=None,
        deleted_at=deleted_at,
        deadline=created_at + timedelta(minutes=15),
        settled=False,
        timeline=[],
    )


@contextmanager
def a_connection(path: Path) -> Iterator[sqlite3.Connection]:
    """Somebody else at the database: a person with a shell, another process."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as connection:
        connection.row_factory = sqlite3.Row
        yield connection


def rows(path: Path, table: str, generation_id: UUID | None = None) -> list[dict[str, Any]]:
    """What a person with a shell sees, in order of the primary key."""
    column = "id" if table == "generations" else "generation_id"
    with a_connection(path) as connection:
        found = connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2")  # noqa: S608
        return [dict(row) for row in found if generation_id is None or row[column] == str(generation_id)]


def contents(path: Path) -> bytes:
    return path.read_bytes()


def forbid_writing(path: Path) -> None:
    path.chmod(0o444)


def move(path: Path, to: Path) -> None:
    path.rename(to)
