"""What a register says to who reads it: counts, costs, and the whole state with its outputs. Nothing is changed."""

import json
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, TypeGuard, TypeVar
from uuid import UUID

from pydantic import BaseModel
from uuid_utils.compat import uuid5

from runware_provider.errors import GenerationError, OutputError, WebhookError, timeout
from runware_provider.register import Happening, OutputRecord, Register
from runware_provider.types import Counts, ErrorOutput, GenerationState, Output, Request, Stored, SuccessOutput


def is_settled(register: Register) -> bool:
    """Complete, and the read model has it or is known to lack it."""
    return register.completed_at is not None and not register.projection.asked


def filled(register: Register) -> int:
    """How many slots have a result or an error of their own; more than `expected` when Runware gave more."""
    number = 0
    for record in register.outputs.values():  # a comprehension is a call, and this is asked at every turn
        if record.image_uuid is not None:
            number += 1
    return number


def costs_micros(register: Register) -> tuple[int, int]:
    """What this has cost or may yet cost, and the most that Runware said one of these images cost (0: it did not say).

    Reported costs, and the expected price where none is known.
    """
    spent = highest = number = 0
    for record in register.outputs.values():
        if record.image_uuid is not None:
            number += 1
        if is_runwares(record.error):  # which is not billed
            continue
        cost = _cost_micros(record.item) if isinstance(record.item, dict) else None
        highest = max(highest, cost or 0)
        if record.image_uuid is not None:
            spent += register.price_micros if cost is None else cost
    if register.purged_at is not None:
        return register.spent_micros, highest
    if register.dispatch.status != "refused" and register.over is None and number < register.expected:
        spent += register.price_micros * (register.expected - number)
    return spent, highest


def state_of(register: Register, request: Request) -> GenerationState:
    """Everything there is to know, with the slots that stay empty filled by the task's own error.

    Nothing of it is shared with the register: whoever gets it may do with it what he likes.
    """
    projection = register.projection
    outputs = outputs_of(register)
    prompt_free = register.purged_at is not None
    stored = len([output for output in outputs if output.type == "success"])
    failed = _slots_failed(register)
    model = request.input.get("model")
    return GenerationState(
        id=register.id,
        task_uuid=register.task_uuid,
        version=register.version,
        status="running" if register.completed_at is None else "completed" if stored else "failed",
        dispatch=register.dispatch.status,
        counts=Counts(
            expected=register.expected,
            stored=stored,
            failed=failed,
            missing=max(0, register.expected - stored - failed),
        ),
        model=model if isinstance(model, str) and not prompt_free else None,
        input={} if prompt_free else request.input,
        metadata={} if prompt_free else request.metadata,
        outputs=outputs,
        error=_error(register),
        projection_error=_own(projection.error),
        created_at=register.created_at,
        dispatched_at=register.dispatch.accepted_at,
        completed_at=register.completed_at,
        projected_at=projection.done_at if projection.done >= projection.wanted else None,
        deleted_at=register.deleted_at,
        deadline=register.deadline,
        settled=is_settled(register),
        timeline=_entries(register.timeline),
    )


def outputs_of(register: Register) -> list[Output]:
    """What the state has as `outputs`."""
    outputs: list[Output] = []
    for output_id, record in register.outputs.items():
        if record.status == "success" and record.stored is not None:
            outputs.append(_success(output_id, record, record.stored))
        elif record.status == "error" and record.error is not None:
            error, raw = _own(record.error), _copied(_said(record))
            outputs.append(ErrorOutput(id=output_id, error=error, raw=raw, created_at=record.created_at))
    number, completed_at = filled(register), register.completed_at
    if completed_at is not None and number < register.expected:
        verdict = _task_error(register)
        if verdict is not None:
            outputs += [
                ErrorOutput(id=uuid5(register.id, f"slot/{slot}"), error=_own(verdict), created_at=completed_at)
                for slot in range(number, register.expected)
            ]
    return outputs


def is_runwares(error: OutputError | None) -> TypeGuard[WebhookError]:
    """Whether it is Runware's own word, and not what we made of it."""
    # A pydantic class asked about None answers in Python, and most have no error.
    return error is not None and isinstance(error, WebhookError)


def rank(error: WebhookError) -> str:
    """By which two errors are put in order, whichever came first."""
    return json.dumps(error.errors, sort_keys=True)


def _said(record: OutputRecord) -> Any:
    """What Runware said of it: a result, or an error."""
    if record.item is None and is_runwares(record.error):
        return next(iter(record.error.errors), None)
    return record.item


def _success(output_id: UUID, record: OutputRecord, stored: Stored) -> SuccessOutput:
    item = record.item if isinstance(record.item, dict) else {}
    return SuccessOutput(
        id=output_id,
        key=stored.key,
        content_type=stored.content_type,
        size_bytes=stored.size_bytes,
        sha256=stored.sha256,
        width=stored.width,
        height=stored.height,
        seed=_seed(item),
        cost_micros=_cost_micros(item),
        image_uuid=record.image_uuid or "",
        item=_copied(record.item),
        created_at=record.created_at,
    )


def _error(register: Register) -> GenerationError | None:
    if register.dispatch.status == "refused":
        return _own(register.dispatch.error)
    if register.timed_out_at is not None and register.over is None and filled(register) < register.expected:
        return timeout(filled(register), register.expected)
    return _own(register.projection.error)


def _slots_failed(register: Register) -> int:
    failed = number = 0
    for record in register.outputs.values():
        if record.image_uuid is not None:
            number += 1
            failed += record.status == "error"
    empty = register.expected - number
    if empty > 0 and register.completed_at is not None and _task_error(register) is not None:
        failed += empty
    return failed


def _task_error(register: Register) -> WebhookError | None:
    """The error of Runware's for the task as a whole: the first by code, whichever came first."""
    loose = [
        record.error for record in register.outputs.values() if record.image_uuid is None and is_runwares(record.error)
    ]
    return min(loose, key=rank, default=None)


def _entries(timeline: Iterable[Happening]) -> Any:
    """`timeline` for pydantic: of plain mappings it makes entries by itself, of other objects it asks what they are."""
    return [{"at": each.at, "event": each.event, "note": each.note} for each in timeline]


def _copied(json: Any) -> Any:
    if isinstance(json, dict):
        return {key: _copied(value) if isinstance(value, dict | list) else value for key, value in json.items()}
    return [_copied(value) for value in json] if isinstance(json, list) else json


E = TypeVar("E", bound=BaseModel | None)


def _own(error: E) -> E:
    return error if error is None else error.model_copy(deep=True)


def _seed(item: dict[str, Any]) -> int | None:
    seed = item.get("seed")
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else None


def _cost_micros(item: dict[str, Any]) -> int | None:
    cost = item.get("cost")
    return _micros(cost) if isinstance(cost, int | float) and not isinstance(cost, bool) else None


@lru_cache(1_024)  # a model's images cost the same, and each is added up at every change
def _micros(cost: float) -> int | None:
    try:
        micros = int((Decimal(str(cost)) * 1_000_000).to_integral_value())
    except (InvalidOperation, OverflowError, ValueError):
        return None
    return micros if 0 <= micros < 10**15 else None
