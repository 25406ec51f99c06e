"""What the OpenAPI document shows: one example of every request, parameter and answer, made from our own shapes."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from runware_provider.api.generations import RerunWish
from runware_provider.api.operations import Health, Ready, Replayed
from runware_provider.doctor import Check, Diagnosis
from runware_provider.errors import FetchFailed
from runware_provider.model_search import Model, ModelPage
from runware_provider.reconcile import ReconcileArgs, Reconciled, ReplayArgs
from runware_provider.retrying import Retried, RetryArgs
from runware_provider.stats import ServiceStats
from runware_provider.types import (
    ArtifactSummary,
    Counts,
    CreateArgs,
    DayOfModel,
    ErrorOutput,
    GenerationState,
    GenerationSummary,
    JsonObject,
    Page,
    Storage,
    SuccessOutput,
    TimelineEntry,
)

_ID = UUID("01a213d7-a3fb-72ac-88a2-96baf3d558fe")
_TASK = UUID("5b0d5d0e-7a5c-4a55-9d3c-0e9a2c1f7b64")
_IMAGE = UUID("3d9b7c1e-6a52-4f4e-8f1c-2b7d90c4a1e5")
_OUTPUT = UUID("9c6c0379-ed10-5132-8a47-5c5be9032091")
_FAILED = UUID("0f3a6c0b-5f53-5c1e-9d0a-6a3c1f0b2d47")
_SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_URL = f"https://im.runware.ai/image/ws/2/ii/{_IMAGE}.jpg"
_AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
_LATER = _AT + timedelta(seconds=6)
_INPUT: JsonObject = {
    "positivePrompt": "a lighthouse at dusk",
    "model": "runware:101@1",
    "width": 1024,
    "height": 1024,
}
_LABELS = {"project": "postcards"}

_SUCCESS = SuccessOutput(
    id=_OUTPUT,
    key=f"generations/{_ID}/{_OUTPUT}-{_SHA256[:12]}.jpg",
    content_type="image/jpeg",
    size_bytes=48_213,
    sha256=_SHA256,
    width=1024,
    height=1024,
    seed=1_234_567_890,
    cost_micros=3_800,
    image_uuid=str(_IMAGE),
    item={
        "taskType": "imageInference",
        "taskUUID": str(_TASK),
        "imageUUID": str(_IMAGE),
        "imageURL": _URL,
        "seed": 1_234_567_890,
        "cost": 0.0038,
    },
    created_at=_LATER,
)

_ERROR = ErrorOutput(
    id=_FAILED,
    error=FetchFailed(code="fetch_failed", url=_URL, status=404, reason="HTTP 404", body="no such image", attempts=3),
    created_at=_LATER,
)


def _state(*, done: bool) -> GenerationState:
    timeline = [TimelineEntry(at=_AT, event="created"), TimelineEntry(at=_AT, event="accepted")]
    if done:
        timeline += [TimelineEntry(at=_LATER, event=event) for event in ("delivered", "stored", "completed")]
    return GenerationState(
        id=_ID,
        task_uuid=_TASK,
        version=6 if done else 3,
        status="completed" if done else "running",
        dispatch="accepted",
        counts=Counts(expected=1, stored=int(done), failed=0, missing=int(not done)),
        model="runware:101@1",
        input=_INPUT,
        metadata=_LABELS,
        outputs=[_SUCCESS] if done else [],
        error=None,
        projection_error=None,
        created_at=_AT,
        dispatched_at=_AT,
        completed_at=_LATER if done else None,
        projected_at=_LATER if done else None,
        deleted_at=None,
        deadline=_AT + timedelta(minutes=15),
        settled=done,
        timeline=timeline,
    )


_RUNNING, _COMPLETED = _state(done=False), _state(done=True)

_SUMMARY = GenerationSummary(
    id=_ID,
    status="completed",
    model="runware:101@1",
    prompt="a lighthouse at dusk",
    counts=_COMPLETED.counts,
    cost_micros=3_800,
    error_code=None,
    metadata=_LABELS,
    created_at=_AT,
    completed_at=_LATER,
    artifacts=[ArtifactSummary(**_SUCCESS.model_dump(include=set(ArtifactSummary.model_fields)))],
)

_STATS = ServiceStats(
    at=_LATER,
    running=2,
    max_in_flight=1_000,
    tasks={"StoreOutput": 1},
    oldest_task_seconds=0.4,
    parked=0,
    unclaimed=0,
    projection_failed=0,
    spent_today_micros=7_600,
    daily_budget_micros=10_000_000,
    webhooks_per_minute=[0] * 58 + [3, 1],
    days=14,
    spend=[DayOfModel(day="2026-11-24", model="runware:101@1", generations=2, images=2, cost_micros=7_600)],
    failures={"fetch_failed": 1},
    stored=Storage(images=2, bytes=96_426),
    incomplete=None,
)

_CURSOR = "AAABog1tWgABohPXo_tyrIiilrrz1Vj-"

_MODELS: dict[str, dict[str, BaseModel]] = {
    "CreateArgs": {"lighthouse": CreateArgs(input=_INPUT, metadata=_LABELS)},
    "GenerationState": {"running": _RUNNING, "completed": _COMPLETED},
    "Output": {"success": _SUCCESS, "error": _ERROR},
    "Page": {"page": Page(items=[_SUMMARY], next_cursor=_CURSOR)},
    "ModelPage": {
        "page": ModelPage(
            total_results=1,
            offset=0,
            results=[Model(air="runware:101@1", name="FLUX.1 Dev", category="checkpoint", architecture="flux1d")],
        )
    },
    "ReconcileArgs": {
        "running": ReconcileArgs(),
        "one": ReconcileArgs(generation_id=_ID),
        "unclaimed": ReconcileArgs(unclaimed=True),
    },
    "Reconciled": {"changed": Reconciled(asked=3, answered=3, changed=1)},
    "ReplayArgs": {"failed": ReplayArgs(all_failed=True), "one": ReplayArgs(generation_id=_ID)},
    "Replayed": {"two": Replayed(replayed=2)},
    "RerunWish": {"same": RerunWish(), "remix": RerunWish(remix=True), "one": RerunWish(output_id=_OUTPUT)},
    "RetryArgs": {"fetch": RetryArgs(error="fetch_failed")},
    "Retried": {"three": Retried(retried=3)},
    "ServiceStats": {"busy": _STATS},
    "Diagnosis": {
        "warning": Diagnosis(
            healthy=True,
            checks=[
                Check(name="key", status="ok", detail="Runware accepts it"),
                Check(
                    name="parked",
                    status="warn",
                    detail="1 task is parked",
                    remedy="mend the cause, then retry the generation",
                ),
            ],
        )
    },
    "Health": {"alive": Health()},
    "Ready": {
        "ready": Ready(
            running=1, projection_failed=0, spent_today_micros=3_800, tasks={"StoreOutput": 1}, parked=0, unclaimed=0
        )
    },
}

BODIES: dict[str, dict[str, JsonObject]] = {
    name: {
        title: {"value": example.model_dump(mode="json", exclude_unset=name.endswith(("Args", "Wish")))}
        for title, example in examples.items()
    }
    for name, examples in _MODELS.items()
}
"""By the name of the shape, as `examples` of a media type."""

EVENTS: dict[str, JsonObject] = {
    "state": {
        "value": {"event": "state", "id": str(_COMPLETED.version), "data": _COMPLETED.model_dump_json()},
    },
    "deleted": {"value": {"event": "deleted", "data": "{}"}},
    "problem": {"value": {"event": "problem", "data": '{"detail": "the state store cannot be read"}'}},
}
"""One of each kind, of the stream of one generation."""

ALL_EVENTS: dict[str, JsonObject] = {
    "ready": {"value": {"id": "1", "retry": "1000", "event": "ready", "data": "{}"}},
    "changed": {"value": {"event": "changed", "data": f'{{"id":"{_ID}","version":6}}'}},
    "reload": {"value": {"event": "reload", "data": "{}"}},
    "problem": {"value": {"event": "problem", "data": '{"detail": "the service stops; ask again in a moment"}'}},
}
"""The same, of the stream of all."""

DELIVERIES: dict[str, JsonObject] = {
    "result": {"value": {"data": [_SUCCESS.item]}},
    "error": {
        "value": {"errors": [{"code": "timeoutProvider", "message": "it took too long", "taskUUID": str(_TASK)}]}
    },
}
"""Bodies that Runware sends."""

PARAMETERS: dict[str, Any] = {
    "generation_id": str(_ID),
    "output_id": str(_OUTPUT),
    "token": "kq3V0m0l4oYvZ2pNnS1c7w",
    "idempotency-key": "order-4711",
    "prefer": "wait=10",
    "Range": "bytes=0-1023",
    "If-Range": f'"{_SHA256}"',
    "If-None-Match": f'"{_SHA256}"',
    "status": "completed",
    "model": "runware:101@1",
    "created_after": "2026-11-01T00:00:00Z",
    "created_before": "2026-12-01T00:00:00Z",
    "limit": 20,
    "cursor": _CURSOR,
    "search": "flux",
    "source": "official",
    "category": "checkpoint",
    "type": "base",
    "architecture": "flux1d",
    "conditioning": "canny",
    "tags": ["general"],
    "capabilities": ["textToImage"],
    "visibility": "public",
    "sort": "-popularity",
    "offset": 0,
    "deep": False,
    "prompt": "lighthouse dusk",
    "error": "fetch_failed",
    "last-event-id": "1",
    "days": 14,
    "redirect": "false",
}
"""By the name of the parameter."""
