"""One generation's register as it is kept: its parts, and the text they are written as.

The text is ASCII JSON that we encode ourselves, so that no content can break a commit. Defaults are left out. It
carries a schema number: older ones are upgraded on read by pure functions, a newer one is refused untouched.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

import msgspec
from pydantic import BaseModel, Field, TypeAdapter

from runware_provider.errors import DispatchError, OutputError, ProjectionFailed, StateDamaged, StateTooNew
from runware_provider.types import DispatchStatus, JsonObject, Request, Stored

SCHEMA: Literal[1] = 1

if TYPE_CHECKING:
    _DispatchError = DispatchError
    _OutputError = OutputError
    _ProjectionError = ProjectionFailed
else:  # msgspec reads what pydantic knows as plain objects, and `_with_errors` makes errors of them
    _DispatchError = _OutputError = _ProjectionError = Any


class _Kept(msgspec.Struct, omit_defaults=True, gc=False):
    """Part of a register: a tree, so that the collector has nothing to look for in it."""


class DispatchRecord(_Kept):
    """Where the request stands with Runware.

    `attempt` is the one that is queued or under way, `since` when the status began, `retry_at` when a queued one is
    due, `error` the last refusal. `proven`: acknowledged, a result or running work seen; no refusal undoes it.
    """

    status: DispatchStatus
    since: datetime
    attempt: int = 1
    retry_at: datetime | None = None
    error: _DispatchError | None = None
    accepted_at: datetime | None = None
    proven: bool = False


class OutputRecord(_Kept):
    """One result or error of Runware's, on its way forward: pending, error, success.

    `image_uuid` is None for what fills no slot. `item` is Runware's result; an error of Runware's is in `error` alone.
    `storing`: a `StoreOutput` is out. `retry_at`: when the next is due. `trying_since` bounds the trying; `asked`: a
    fresh address was asked for after the present one had died; `former_urls` were given up for another; `spare_urls`
    came while the present one was being tried.
    """

    status: Literal["pending", "error", "success"]
    created_at: datetime
    image_uuid: str | None = None
    url: str | None = None
    item: Any = None
    error: _OutputError | None = None
    stored: Stored | None = None
    storing: bool = False
    attempts: int = 0
    trying_since: datetime | None = None
    retry_at: datetime | None = None
    asked: bool = False
    former_urls: list[str] = []
    spare_urls: list[str] = []


class ProjectionRecord(_Kept):
    """How far the read model follows. `wanted`, `done` and `failed` are versions; `asked`: a `Project` is out."""

    asked: bool = False
    wanted: int = 0
    done: int = 0
    failed: int = 0
    done_at: datetime | None = None
    error: _ProjectionError | None = None


class Happening(_Kept):
    """One line of the timeline."""

    at: datetime
    event: str
    note: str | None = None


class Register(_Kept):
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
    outputs: dict[UUID, OutputRecord] = {}
    over: Literal["results", "error"] | None = None
    timed_out_at: datetime | None = None
    completed_at: datetime | None = None
    projection: ProjectionRecord = msgspec.field(default_factory=ProjectionRecord)
    deleted_at: datetime | None = None
    purged_at: datetime | None = None
    purging: bool = False
    timeline: list[Happening] = []
    model: str | None = None
    price_micros: int = 0
    spent_micros: int = 0


def _fields(model: Any) -> Any:
    """What msgspec does not know by itself: an error of ours is its fields."""
    if isinstance(model, BaseModel):
        return model.__dict__
    raise TypeError(type(model).__name__)


_encoder = msgspec.json.Encoder(enc_hook=_fields)
_registers = msgspec.json.Decoder(Register)
_requests = msgspec.json.Decoder(Request)
_NOT_QUICKLY = (ValueError, OverflowError, TypeError, RecursionError)
"""What `_encoder` comes to with what only `json` can write: characters beyond ASCII, which are kept as escapes, halves
of characters, and numbers of more than 64 bits."""

_dispatch_error: TypeAdapter[DispatchError] = TypeAdapter(Annotated[DispatchError, Field(discriminator="code")])
_output_error: TypeAdapter[OutputError] = TypeAdapter(OutputError)

UPGRADES: Mapping[int, Callable[[JsonObject], JsonObject]] = {}
"""From the schema number that is the key to the next one."""


def encode(register: Register) -> str:
    """`register` as ASCII JSON."""
    return _encode(register)


def decode(text: str | bytes) -> Register:
    """The register that `text` holds, brought to this release's schema. Raises StateTooNew, StateDamaged."""
    try:
        return _with_errors(_registers.decode(text))
    except (ValueError, RecursionError):
        pass
    try:
        return _with_errors(msgspec.convert(_upgraded(json.loads(text)), Register))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StateDamaged(f"a register cannot be read: {type(error).__name__}; restore it from a backup") from error


def encode_request(request: Request) -> str:
    """`request` as ASCII JSON."""
    return _encode(request)


def decode_request(text: str | bytes) -> Request:
    """The request that `text` holds. Raises StateDamaged."""
    try:
        return _requests.decode(text)
    except (ValueError, RecursionError):
        pass
    try:
        return msgspec.convert(json.loads(text), Request)
    except (ValueError, RecursionError) as error:
        raise StateDamaged("a request cannot be read; restore it from a backup") from error


def _encode(value: Register | Request) -> str:
    try:
        return _encoder.encode(value).decode("ascii")
    except _NOT_QUICKLY:
        return json.dumps(msgspec.to_builtins(value, str_keys=True, enc_hook=_fields), separators=(",", ":"))


def _with_errors(register: Register) -> Register:
    dispatch, projection = register.dispatch, register.projection
    if dispatch.error is not None:
        dispatch.error = _dispatch_error.validate_python(dispatch.error)
    if projection.error is not None:
        projection.error = ProjectionFailed.model_validate(projection.error)
    for record in register.outputs.values():
        if record.error is not None:
            record.error = _output_error.validate_python(record.error)
    return register


def _upgraded(raw: JsonObject) -> JsonObject:
    while (schema := raw.get("schema", 1)) != SCHEMA:
        if not isinstance(schema, int) or schema > SCHEMA:
            raise StateTooNew(
                f"this state has schema {schema}, this release knows {SCHEMA}: install the newer release again"
            )
        raw = UPGRADES[schema](raw)
    return raw
