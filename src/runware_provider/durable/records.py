"""What both engines have in common: how they write down times, flags and tasks, limits, and what they say."""

import json
import math
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, Literal
from uuid import UUID

from runware_provider.durable import ANSWERED, DELETED, REFUSED, SETTLED, Flag
from runware_provider.errors import GenerationNotFound
from runware_provider.generation import Generation
from runware_provider.types import Dispatch, Project, Purge, StoreOutput, Task

UNCLAIMED_LIMIT: Final = 10_000
UNCLAIMED_BYTES: Final = 256 * 1024 * 1024
"""Deliveries without a home that are kept at most; the oldest make way."""

STAGGER, STAGGER_WAIT = 100, 0.2
"""At a start, so many running generations are called at once, then so many seconds pass."""

FLAGS: Final[dict[Flag, int]] = {"running": 1, "projection_failed": 2}


def to_ms(at: datetime) -> int:
    """Whole milliseconds since 1970 that have passed at a time."""
    return math.floor(at.timestamp() * 1000)


def to_ms_after(at: datetime) -> int:
    """The first whole millisecond at which a time has come."""
    return math.ceil(at.timestamp() * 1000)


def from_ms(ms: int) -> datetime:
    """The inverse of `to_ms`."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def encode_task(task: Task) -> str:
    """A task as text."""
    match task:
        case Dispatch(attempt=attempt):
            return f'["Dispatch", {attempt}]'
        case StoreOutput(output_id=output_id):
            return f'["StoreOutput", "{output_id}"]'
        case Project() | Purge():
            return f'["{type(task).__name__}"]'


def decode_task(text: str) -> Task:
    """The inverse of `encode_task`."""
    match json.loads(text):
        case ["Dispatch", int(attempt)]:
            return Dispatch(attempt)
        case ["StoreOutput", str(output_id)]:
            return StoreOutput(UUID(output_id))
        case ["Project"]:
            return Project()
        case ["Purge"]:
            return Purge()
        case other:
            raise ValueError(f"no such task: {other!r}")


def status_of(generation: Generation) -> Literal["completed", "failed"]:
    """How a generation that is complete ended."""
    stored = any(record.status == "success" for record in generation.register.outputs.values())
    return "completed" if stored else "failed"


def not_found(generation_id: UUID) -> GenerationNotFound:
    """What is said of an id that has no row."""
    return GenerationNotFound(f"there is no generation {generation_id}")


def digest_of(generation_id: UUID | None, body: bytes) -> bytes:
    """By which a repeat of an unclaimed delivery is known."""
    return sha256(b"%b/%b" % (generation_id.bytes if generation_id else b"", body)).digest()


def day_of(at: datetime) -> int:
    """The UTC day since 1970."""
    return int(at.timestamp() // 86_400)


def flags_of(generation: Generation) -> int:
    """What the file can be asked for without decoding."""
    register = generation.register
    running = register.completed_at is None and register.deleted_at is None
    failed = register.projection.error is not None
    return (FLAGS["running"] if running else 0) | (FLAGS["projection_failed"] if failed else 0)


def marks_of(generation: Generation) -> int:
    """What somebody may wait for and this version has."""
    register = generation.register
    status = register.dispatch.status
    marks = SETTLED if generation.settled else 0
    if status == "refused":
        marks |= ANSWERED | REFUSED
    elif status in {"accepted", "unknown"}:
        marks |= ANSWERED
    return marks if register.deleted_at is None else marks | DELETED
