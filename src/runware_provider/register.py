"""One generation's register as it is kept: its parts, and the text they are written as.

The text is ASCII JSON that we encode ourselves, so that no content can break a commit. It carries a schema number:
older ones are upgraded on read by pure functions, a newer one is refused untouched.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from pydantic import BaseModel, TypeAdapter

from runware_provider.errors import (
    ApiRejected,
    HttpError,
    NetworkError,
    OutputError,
    ProjectionFailed,
    StateDamaged,
    StateTooNew,
)
from runware_provider.types import DispatchStatus, JsonObject, Request, Stored

SCHEMA: Literal[1] = 1


@dataclass(slots=True)
class DispatchRecord:
    """Where the request stands with Runware.

    `attempt` is the one that is queued or under way, `since` when the status began, `retry_at` when a queued one is
    due, `error` the last refusal. `proven`: acknowledged, a result or running work seen; no refusal undoes it.
    """

    status: DispatchStatus
    since: datetime
    attempt: int = 1
    retry_at: datetime | None = None
    error: HttpError | NetworkError | ApiRejected | None = None
    accepted_at: datetime | None = None
    proven: bool = False


@dataclass(slots=True)
class OutputRecord:
    """One result or error of Runware's, on its way forward: pending, error, success.

    `image_uuid` is None for what fills no slot. `storing`: a `StoreOutput` is out. `retry_at`: when the next is due.
    `trying_since` bounds the trying; `asked`: a fresh address was asked for after the present one had died;
    `former_urls` were given up for another; `spare_urls` came while the present one was being tried.
    """

    status: Literal["pending", "error", "success"]
    created_at: datetime
    image_uuid: str | None = None
    url: str | None = None
    item: Any = None
    error: OutputError | None = None
    stored: Stored | None = None
    storing: bool = False
    attempts: int = 0
    trying_since: datetime | None = None
    retry_at: datetime | None = None
    asked: bool = False
    former_urls: list[str] = field(default_factory=list)
    spare_urls: list[str] = field(default_factory=list)


@dataclass(slots=True)
class ProjectionRecord:
    """How far the read model follows. `wanted`, `done` and `failed` are versions; `asked`: a `Project` is out."""

    asked: bool = False
    wanted: int = 0
    done: int = 0
    failed: int = 0
    done_at: datetime | None = None
    error: ProjectionFailed | None = None


@dataclass(slots=True)
class Happening:
    """One line of the timeline."""

    at: datetime
    event: str
    note: str | None = None


@dataclass(slots=True)
class Register:
    """Everything that changes about one generation. Bounded: see `Generation`.

    `price_micros`: what one image was expected to cost when it was asked for; `spent_micros`: what all cost, once a
    purge has removed what it could be added up from.
    """

    schema: Literal[1]
    id: UUID
    task_uuid: UUID
    expected: int
    created_at: datetime
    deadline: datetime
    dispatch: DispatchRecord
    version: int = 0
    outputs: dict[UUID, OutputRecord] = field(default_factory=dict)
    over: Literal["results", "error"] | None = None
    timed_out_at: datetime | None = None
    completed_at: datetime | None = None
    projection: ProjectionRecord = field(default_factory=ProjectionRecord)
    deleted_at: datetime | None = None
    purged_at: datetime | None = None
    purging: bool = False
    timeline: list[Happening] = field(default_factory=list)
    model: str | None = None
    price_micros: int = 0
    spent_micros: int = 0


_register: TypeAdapter[Register] = TypeAdapter(Register)
_request: TypeAdapter[Request] = TypeAdapter(Request)


def _fields(model: Any) -> Any:
    """What msgspec does not know by itself: an error of ours is its fields."""
    if isinstance(model, BaseModel):
        return model.__dict__
    raise TypeError(type(model).__name__)


_encoder = msgspec.json.Encoder(enc_hook=_fields)
_NOT_QUICKLY = (ValueError, OverflowError, TypeError, RecursionError)
"""What `_encoder` comes to with what only pydantic can write: characters beyond ASCII, which are kept as escapes, and
numbers of more than 64 bits. For all else both write the same."""

UPGRADES: Mapping[int, Callable[[JsonObject], JsonObject]] = {}
"""From the schema number that is the key to the next one."""


def encode(register: Register) -> str:
    """`register` as ASCII JSON. Defaults are written too: to tell them apart takes longer than to write them."""
    try:
        return _encoder.encode(register).decode("ascii")
    except _NOT_QUICKLY:
        return _register.dump_json(register, ensure_ascii=True).decode("ascii")


def decode(text: str | bytes) -> Register:
    """The register that `text` holds, brought to this release's schema. Raises StateTooNew, StateDamaged."""
    try:
        return _register.validate_json(text)
    except ValueError:
        pass
    try:
        return _register.validate_python(_upgraded(json.loads(text)))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StateDamaged(f"a register cannot be read: {type(error).__name__}; restore it from a backup") from error


def _upgraded(raw: JsonObject) -> JsonObject:
    while (schema := raw.get("schema", 1)) != SCHEMA:
        if not isinstance(schema, int) or schema > SCHEMA:
            raise StateTooNew(
                f"this state has schema {schema}, this release knows {SCHEMA}: install the newer release again"
            )
        raw = UPGRADES[schema](raw)
    return raw


def encode_request(request: Request) -> str:
    """`request` as ASCII JSON."""
    try:
        return _encoder.encode(request).decode("ascii")
    except _NOT_QUICKLY:
        return _request.dump_json(request, ensure_ascii=True).decode("ascii")


def decode_request(text: str | bytes) -> Request:
    """The request that `text` holds. Raises StateDamaged."""
    try:
        return _request.validate_json(text)
    except ValueError as error:
        raise StateDamaged("a request cannot be read; restore it from a backup") from error
