"""Answers for the OpenAPI document: every problem with an example and its headers, and the stream of events."""

from collections.abc import Mapping
from typing import Any

from runware_provider.api.problems import TITLES, FieldIssue, Problem

_REF = "#/components/schemas/{model}"
_ID = "01a213d7-a3fb-72ac-88a2-96baf3d558fe"

_EXAMPLES: Mapping[int, Problem] = {
    each.status: each
    for each in (
        Problem(
            title=TITLES[400],
            status=400,
            detail="the body is not JSON: Expecting value",
            errors=[FieldIssue(field="body", message="JSON decode error")],
        ),
        Problem(
            title=TITLES[401],
            status=401,
            detail="send `Authorization: Bearer TOKEN` with one of the service's client tokens",
        ),
        Problem(
            title="Over budget",
            status=402,
            detail="today's budget is $10.00 (DAILY_BUDGET), $9.9950 of it are gone or reserved, and this could cost "
            "$0.0130; nothing was spent on it",
        ),
        Problem(
            title=TITLES[403],
            status=403,
            detail="this service has no RUNWARE_PROVIDER_CLIENT_TOKENS, so it answers on loopback names only",
        ),
        Problem(title=TITLES[404], status=404, detail=f"there is no generation {_ID}"),
        Problem(title=TITLES[408], status=408, detail="nothing of the body came for 60 s"),
        Problem(
            title=TITLES[409],
            status=409,
            detail="this Idempotency-Key was used with another input; send a new key for a new request",
        ),
        Problem(
            title=TITLES[413],
            status=413,
            detail="the body is over 33554432 bytes (RUNWARE_PROVIDER_MAX_REQUEST_BYTES)",
            errors=[FieldIssue(field="body", message="is too large")],
        ),
        Problem(title=TITLES[415], status=415, detail="send the body as JSON, with `Content-Type: application/json`"),
        Problem(title=TITLES[416], status=416, detail="the image has 48213 bytes"),
        Problem(
            title=TITLES[422],
            status=422,
            detail="limit: Input should be less than or equal to 100",
            errors=[FieldIssue(field="limit", message="Input should be less than or equal to 100")],
        ),
        Problem(
            title=TITLES[429], status=429, detail="1000 generations are in flight (MAX_IN_FLIGHT); try again in 5 s"
        ),
        Problem(
            title=TITLES[431],
            status=431,
            detail="a query of at most 8192 and headers of at most 32768 bytes, please",
        ),
        Problem(title=TITLES[500], status=500, detail="something went wrong here; the log says what"),
        Problem(
            title=TITLES[502],
            status=502,
            detail="Runware refused: Invalid API key",
            runware_errors=[{"code": "invalidApiKey", "message": "Invalid API key"}],
        ),
        Problem(
            title=TITLES[503],
            status=503,
            detail="the state store cannot commit: database or disk is full. Check the disk's space and permissions",
        ),
    )
}


def header(description: str, example: str, *, always: bool = True) -> dict[str, Any]:
    """A header of an answer."""
    return {"description": description, "required": always, "schema": {"type": "string"}, "example": example}


_HEADERS: Mapping[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": header("How to sign in.", "Bearer")},
    416: {"Content-Range": header("The size that the image has.", "bytes */48213")},
    429: {"Retry-After": header("Seconds.", "5")},
    503: {"Retry-After": header("Seconds; absent when only a person can mend it.", "5", always=False)},
}


def components() -> dict[str, Any]:
    """The shapes that `documented` refers to."""
    schema = Problem.model_json_schema(ref_template=_REF)
    return {**schema.pop("$defs"), "Problem": schema}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems that a route may answer."""
    return {status: _documented(status) for status in statuses}


def _documented(status: int) -> dict[str, Any]:
    example = _EXAMPLES[status].model_dump(exclude_none=True)
    schema = {"$ref": _REF.format(model="Problem")}
    answer: dict[str, Any] = {
        "description": TITLES[status],
        "content": {"application/problem+json": {"schema": schema, "example": example}},
    }
    if status in _HEADERS:
        answer["headers"] = _HEADERS[status]
    return answer


def _event(kind: str, data: dict[str, Any], *also: str) -> dict[str, Any]:
    text = {"type": "string", "contentMediaType": "application/json", "contentSchema": data}
    properties = {"event": {"const": kind}, "data": text, **{name: {"type": "string"} for name in also}}
    return {"type": "object", "properties": properties, "required": [*properties]}


EVENT_STREAM: dict[str, Any] = {
    "schema": {
        "oneOf": [
            _event("state", {"$ref": _REF.format(model="GenerationState")}, "id"),
            _event("deleted", {"type": "object"}),
            _event("problem", {"type": "object", "properties": {"detail": {"type": "string"}}}),
        ]
    }
}
"""The media type `text/event-stream` of one generation. Before OpenAPI 3.2 its schema is, by custom, that of each
event."""

_CHANGED = {
    "type": "object",
    "properties": {"id": {"type": "string", "format": "uuid"}, "version": {"type": "integer"}},
}

ALL_EVENTS: dict[str, Any] = {
    "schema": {
        "oneOf": [
            _event("ready", {"type": "object"}, "id", "retry"),
            _event("changed", _CHANGED),
            _event("reload", {"type": "object"}),
            _event("problem", {"type": "object", "properties": {"detail": {"type": "string"}}}),
        ]
    }
}
"""The same of all generations."""
