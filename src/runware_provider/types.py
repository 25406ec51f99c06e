"""Shapes shared by the rooms: what callers send, what they get back, and what the register asks for.

camelCase is Runware's, snake_case is ours. Sizes are bytes, times are UTC, money is `cost_micros`: millionths of a
US dollar, None when Runware did not say.
"""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from runware_provider.errors import DispatchError, GenerationError, OutputError, ProjectionFailed

JsonObject = dict[str, Any]


@lru_cache(1_024)  # one moment stands in a state's own times, in its timeline and in its rows, and in the next state
def wire_time(at: datetime) -> str:
    """ISO-8601 in UTC with milliseconds and `Z`, as every time stands on the wire."""
    utc = at if at.tzinfo is UTC else at.astimezone(UTC)
    return utc.isoformat(timespec="milliseconds")[:-6] + "Z"


Time = Annotated[
    datetime,
    PlainSerializer(wire_time, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# What callers send


class CreateArgs(_Shape):
    """A request for images. `input` has Runware's field names; what we do not know goes to Runware untouched."""

    input: JsonObject = Field(description="Runware's imageInference fields, for example positivePrompt and model.")
    metadata: dict[str, str] = Field(default_factory=dict, description="Your own labels; at most 32.")
    idempotency_key: str | None = Field(
        None, min_length=1, max_length=255, description="The same key and input give the same generation."
    )


class GenerationArgs(_Shape):
    """Names one generation."""

    generation_id: UUID


class OutputArgs(_Shape):
    """Names one output of one generation."""

    generation_id: UUID
    output_id: UUID


Status = Literal["running", "completed", "failed"]


PROMPT_FILTER = 200
"""Characters of the words that a prompt may be searched for."""


class ListArgs(_Shape):
    """A page of the read model, newest first. All filters must hold; `metadata` by exact value.

    `prompt`: each of these words is in it, whatever its case; case is known of ASCII letters only where the read model
    is on SQLite. `error`: the code of the generation's error, or of one of its outputs'.
    """

    status: Status | None = None
    model: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    created_after: datetime | None = None
    created_before: datetime | None = None
    prompt: str | None = Field(None, max_length=PROMPT_FILTER)
    error: str | None = Field(None, max_length=64)
    limit: int = Field(50, ge=1, le=200)
    cursor: str | None = Field(None, max_length=200)


# What callers get


class ErrorOutput(_Shape):
    """A result that failed, or something delivered that is none. `raw` is Runware's item or body, bounded."""

    type: Literal["error"] = "error"
    id: UUID
    error: OutputError
    raw: Any = None
    created_at: Time


class SuccessOutput(_Shape):
    """An image that is checked and kept under `key` in the object store."""

    type: Literal["success"] = "success"
    id: UUID
    key: str
    content_type: str
    size_bytes: int
    sha256: str
    width: int
    height: int
    seed: int | None
    cost_micros: int | None
    image_uuid: str
    item: Any
    created_at: Time


Output = Annotated[ErrorOutput | SuccessOutput, Field(discriminator="type")]


class Counts(_Shape):
    """`missing` is what has neither been stored nor failed yet; `stored` may exceed `expected`."""

    expected: int
    stored: int
    failed: int
    missing: int


class TimelineEntry(_Shape):
    """Something that happened: `created`, `dispatching`, `accepted`, `delivered`, `stored`, `completed`, ..."""

    at: Time
    event: str
    note: str | None = None


DispatchStatus = Literal["queued", "sending", "unknown", "accepted", "refused"]


class GenerationState(_Shape):
    """All there is to know about one generation. `version` grows with every committed change."""

    id: UUID
    task_uuid: UUID
    version: int
    status: Status
    dispatch: DispatchStatus
    counts: Counts
    model: str | None
    input: JsonObject
    metadata: dict[str, str]
    outputs: list[Output]
    error: GenerationError | None
    projection_error: ProjectionFailed | None
    created_at: Time
    dispatched_at: Time | None
    completed_at: Time | None
    projected_at: Time | None
    deleted_at: Time | None
    deadline: Time
    settled: bool = Field(description="Complete, and the read model has it or is known to lack it.")
    timeline: list[TimelineEntry]


class GenerationSummary(_Shape):
    """One row of the read model's list."""

    id: UUID
    status: Status
    model: str | None
    prompt: str | None
    counts: Counts
    cost_micros: int | None
    error_code: str | None
    metadata: dict[str, str]
    created_at: Time
    completed_at: Time | None
    artifacts: list["ArtifactSummary"]


class ArtifactSummary(_Shape):
    """One stored image in the read model's list."""

    id: UUID
    key: str
    content_type: str
    size_bytes: int
    sha256: str
    width: int
    height: int
    seed: int | None
    cost_micros: int | None
    created_at: Time


class Page(_Shape):
    """`next_cursor` is None on the last page. With `prompt` or `error` a page may be short and not the last."""

    items: list[GenerationSummary]
    next_cursor: str | None


class DayOfModel(_Shape):
    """What one model made on one UTC day, as far as it was not deleted. `day`: 2026-11-26."""

    day: str
    model: str | None
    generations: int
    images: int
    cost_micros: int


class Storage(_Shape):
    """What lies in the object store, as far as the read model knows."""

    images: int
    bytes: int


# What passes between our own rooms: made by the thousand, and no part of a cycle, so that no collector need look at it.

# What is written once, before any money is spent


class Request(msgspec.Struct, frozen=True, gc=False):
    """What the caller asked for; never changes. `input` is as sent, without our own fields."""

    input: JsonObject
    metadata: dict[str, str]


# What the register asks for


class Dispatch(msgspec.Struct, frozen=True, gc=False):
    """Send the request to Runware, as attempt number `attempt`."""

    attempt: int


class StoreOutput(msgspec.Struct, frozen=True, gc=False):
    """Fetch one result, check it, keep it. Done when `confirm_outputs` is committed."""

    output_id: UUID


class Project(msgspec.Struct, frozen=True, gc=False):
    """Write the newest version into the read model. Done when `record_projection` is committed."""


class Purge(msgspec.Struct, frozen=True, gc=False):
    """Remove what lies under the generation's prefix. Done when `record_purge` is committed."""


Task = Dispatch | StoreOutput | Project | Purge
"""Work that is due now and survives a crash: committed with the state that asked for it."""


class Ask(msgspec.Struct, frozen=True, gc=False):
    """Ask Runware what it knows: `getResponse`, and `getTaskDetails` too when `details`.

    Not kept: when it is lost, the alarm asks again.
    """

    task_uuid: UUID
    details: bool


class KeepUnclaimed(msgspec.Struct, frozen=True, gc=False):
    """Keep what was delivered but belongs to nothing here, in the same commit."""

    reason: str
    body: bytes


class Forget(msgspec.Struct, frozen=True, gc=False):
    """Empty the stored request in the same commit: what was deleted keeps no prompt."""


class Expire(msgspec.Struct, frozen=True, gc=False):
    """Remove the generation from state in the same commit; images and read model stay."""


Order = Task | Ask | KeepUnclaimed | Forget | Expire


# What the register is told


class Result(msgspec.Struct, frozen=True, gc=False):
    """One finished item. `url` is None when Runware gave none (a provider's content filter, say)."""

    task_uuid: str | None
    image_uuid: str
    url: str | None
    item: JsonObject


class Failure(msgspec.Struct, frozen=True, gc=False):
    """One error of Runware's, for one image when `image_uuid` is given, else for the task."""

    task_uuid: str | None
    image_uuid: str | None
    code: str
    raw: JsonObject


class Invalid(msgspec.Struct, frozen=True, gc=False):
    """A body, or a part of one, that is neither. `digest` tells repeats."""

    digest: str
    issues: tuple[str, ...]
    raw: str


Fact = Result | Failure | Invalid


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """What one webhook body said, in order. `processing`: it also named work that goes on."""

    facts: tuple[Fact, ...] = ()
    processing: bool = False


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What Runware said about one task when asked at `asked_at`.

    `response` is from `getResponse`; `details` from `getTaskDetails`, None when that was not asked or not answered,
    `processing` when it knows the task but no result.
    """

    asked_at: datetime
    response: Delivery
    details: Delivery | None = None


class Accepted(msgspec.Struct, frozen=True, gc=False):
    """Runware has the task: an acknowledgement or `conflictTaskUUID`. `delivery`: results that came with it."""

    delivery: Delivery = Delivery()


class Refused(msgspec.Struct, frozen=True, gc=False):
    """Runware does not have the task. `retryable` with the wish `retry_after`, when it gave one."""

    error: DispatchError
    retryable: bool
    retry_after: timedelta | None = None


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """Bytes left and no answer that settles it came back."""

    reason: str


DispatchOutcome = Accepted | Refused | Unknown


class Stored(msgspec.Struct, frozen=True, gc=False):
    """One image that lies durably under `key`."""

    output_id: UUID
    key: str
    content_type: str
    size_bytes: int
    sha256: str
    width: int
    height: int


class NotStored(msgspec.Struct, frozen=True, gc=False):
    """One try to keep the image at `url` that failed."""

    output_id: UUID
    url: str
    error: OutputError
    retry_after: timedelta | None = None


Confirmation = Stored | NotStored
