"""From a state to the rows that stand for it. Whatever came from outside is made fit to be stored, never refused.

The seed image of an input may be 30 MB, a prompt may hold half a surrogate, a seed may have a hundred digits: the state
keeps them as they are, the read model keeps what a database can hold and a person can query.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec

from runware_provider.errors import ProjectionFailed
from runware_provider.types import GenerationState, SuccessOutput, wire_time

PROMPT_CHARACTERS = 8_192
"""Runware's own limit is below; what is longer is cut, the whole is in the state."""
JSON_BYTES = 65_536
"""The most one JSON column holds. More is left out as a whole and says so."""
JSON_STRING_CHARACTERS = 8_192
"""A longer string inside a JSON column (an image as base64) is left out and says so."""
MAX_DEPTH = 32
"""How deeply what one JSON column holds may be nested; what is deeper says so."""
LABELS = 32
LABEL_CHARACTERS = 1_024
INDEXED_CHARACTERS = 200
"""PostgreSQL indexes at most 2,704 bytes a row: what is longer is indexed by its digest (`indexed`)."""

_INT64 = 2**63 - 1
_UNFIT = re.compile("[\x00\ud800-\udfff]")  # PostgreSQL has no NUL in text, no database has half a character

Value = str | int | None
Row = dict[str, Value]


@dataclass(frozen=True, slots=True)
class Rows:
    """What one state becomes: JSON objects as text, ready to be joined into one array; "" where there are none."""

    id: UUID
    deleted: bool
    generation: str
    artifacts: str = ""
    labels: str = ""


def text(value: str, characters: int) -> str:
    """`value` cut to `characters`; what no database can hold becomes U+FFFD."""
    cut = value[:characters]
    return cut if cut.isascii() and "\x00" not in cut else _UNFIT.sub("\ufffd", cut)


def indexed(value: str) -> str:
    """`value` as it is indexed and compared: itself, or when long or unfit its beginning and its digest.

    Filters go through the same function, so equality is exact for every string.
    """
    fit = text(value, INDEXED_CHARACTERS)
    if fit == value:
        return value
    digest = sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{fit[:100]}… sha256:{digest}"


def stored_time(at: datetime) -> str:
    """`at` as it is stored: UTC with milliseconds, always 24 characters, rounded down."""
    return wire_time(at)


def rows_of(state: GenerationState) -> Rows:
    """All rows of `state`; of a deleted one only the tombstone."""
    if state.deleted_at is not None:
        return Rows(state.id, True, _encode(_tombstone(state)))
    # By id: PostgreSQL's upsert refuses a statement that meets the same row twice.
    images = list({output.id: output for output in state.outputs if output.type == "success"}.values())
    row = _tombstone(state) | _content(state) | {"cost_micros": _total_cost(images)}
    own = {"generation_id": str(state.id), "version": state.version}
    artifacts = [own | _artifact(image) for image in images]
    labels = [own | label for label in _labels(state)]
    return Rows(state.id, False, _encode(row), _joined(artifacts), _joined(labels))


def _tombstone(state: GenerationState) -> Row:
    """Only what stays of a deleted generation, so that every version of its state after the purge says the same."""
    return {
        "id": str(state.id),
        "task_uuid": str(state.task_uuid),
        "version": state.version,
        "created_at": stored_time(state.created_at),
        "dispatched_at": _time(state.dispatched_at),
        "completed_at": _time(state.completed_at),
        "deleted_at": _time(state.deleted_at),
    }


def _content(state: GenerationState) -> Row:
    # A row that is written is projected: that an earlier try failed is the state's to tell.
    error = None if isinstance(state.error, ProjectionFailed) else state.error
    codes = Counter([output.error.code for output in state.outputs if output.type == "error"])
    kept = list(state.metadata.items())[:LABELS]
    return {
        "status": state.status,
        "model": None if state.model is None else indexed(state.model),
        "width": _integer(state.input.get("width")),
        "height": _integer(state.input.get("height")),
        "expected": state.counts.expected,
        "stored": state.counts.stored,
        "failed": state.counts.failed,
        "missing": state.counts.missing,
        "error_code": error.code if error else None,
        "metadata": _json({text(key, LABEL_CHARACTERS): text(value, LABEL_CHARACTERS) for key, value in kept}),
        "output_errors": _encode(codes) if codes else "{}",
        "prompt": _prompt(state.input.get("positivePrompt")),
        "negative_prompt": _prompt(state.input.get("negativePrompt")),
        "error": _json(error.model_dump()) if error else None,
        "input": _json(state.input),
    }


def _artifact(image: SuccessOutput) -> Row:
    return {
        "id": str(image.id),
        "key": text(image.key, 1_024),
        "content_type": text(image.content_type, 200),
        "size_bytes": min(image.size_bytes, _INT64),
        "sha256": text(image.sha256, 64),
        "width": min(image.width, _INT64),
        "height": min(image.height, _INT64),
        "seed": _integer(image.seed),
        "cost_micros": _integer(image.cost_micros),
        "image_uuid": text(image.image_uuid, 200),
        "created_at": stored_time(image.created_at),
    }


def _labels(state: GenerationState) -> list[Row]:
    created_at = stored_time(state.created_at)
    pairs = {indexed(key): indexed(value) for key, value in list(state.metadata.items())[:LABELS]}
    return [{"key": key, "value": value, "created_at": created_at} for key, value in pairs.items()]


def _total_cost(images: list[SuccessOutput]) -> int | None:
    known = [image.cost_micros for image in images if image.cost_micros is not None]
    return _integer(sum(known)) if known else None


def _time(at: datetime | None) -> str | None:
    return None if at is None else stored_time(at)


def _prompt(value: object) -> str | None:
    return text(value, PROMPT_CHARACTERS) if isinstance(value, str) else None


def _integer(value: object) -> int | None:
    return value if type(value) is int and -_INT64 <= value <= _INT64 else None


class _TooLarge(Exception):
    pass


def left_after(values: list[object], budget: int) -> int:
    """What is left of a budget of characters, a value reckoned at 16 and a string at its length; below 0: it is spent.

    Takes `values` apart, and looks no further once nothing is left.
    """
    while values and budget >= 0:
        value = values.pop()
        if isinstance(value, dict | list):
            budget -= 16 * len(value)
            if budget >= 0:
                values += value.values() if isinstance(value, dict) else value
        elif isinstance(value, str):
            budget -= len(value)
    return budget


def _encode(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _joined(rows: Sequence[Mapping[str, object]]) -> str:
    return _encode(rows)[1:-1] if rows else ""


_UNUSUAL = re.compile(rb"\\u0000|\d{19}|null")
"""A character and a number that not every database holds, and what might have been no number."""


def _json(value: object) -> str:
    """`value` as JSON text of at most `JSON_BYTES`. Stops looking as soon as it is known to be more."""
    with suppress(ValueError, TypeError, OverflowError, RecursionError):
        plain = msgspec.json.encode(value) if left_after([value], JSON_STRING_CHARACTERS) >= 0 else b""
        if (
            0 < len(plain) <= JSON_STRING_CHARACTERS
            and plain.count(b"[") + plain.count(b"{") <= MAX_DEPTH
            and not _UNUSUAL.search(plain)
        ):
            return plain.decode()  # nothing in it can need a change, as is the rule
    try:
        encoded = _encode(_Copy(JSON_BYTES).of(value, 0))
        if len(encoded.encode()) <= JSON_BYTES:
            return encoded
    except _TooLarge:
        pass
    return _encode({"omitted": f"more than {JSON_BYTES} bytes"})


class _Copy:
    """A copy of somebody's JSON that any database and any JSON parser can hold."""

    def __init__(self, budget: int) -> None:
        self._budget = budget

    def of(self, value: object, depth: int) -> Any:
        match value:
            case str():
                return self._string(value)
            case None | bool():
                self._spend(4)
                return value
            case int():
                self._spend(8)
                # Beyond 64 bits parsers disagree; beyond 4,300 digits Python itself refuses to print it.
                return value if abs(value) <= _INT64 else f"(omitted: a number of {value.bit_length()} bits)"
            case float():
                self._spend(8)
                return value if math.isfinite(value) else str(value)
            case Mapping() | list() | tuple() if depth > MAX_DEPTH:
                return "(omitted: nested too deeply)"
            case Mapping():
                return {self._string(str(key)): self.of(item, depth + 1) for key, item in value.items()}
            case list() | tuple():
                self._spend(2)
                return [self.of(item, depth + 1) for item in value]
            case _:
                return f"(omitted: {type(value).__name__})"

    def _string(self, value: str) -> str:
        if len(value) > JSON_STRING_CHARACTERS:
            value = f"(omitted: {len(value)} characters)"
        self._spend(len(value) + 3)
        return text(value, JSON_STRING_CHARACTERS)

    def _spend(self, characters: int) -> None:
        self._budget -= characters
        if self._budget < 0:
            raise _TooLarge
