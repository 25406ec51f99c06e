"""Runware's error objects and JSON as it goes over the wire."""

import json
from typing import Any

JsonObject = dict[str, Any]
DOCUMENTATION = "https://runware.ai/docs"

# Code and message that belong to a status when nothing more particular is known.
BY_STATUS: dict[int, tuple[str, str]] = {
    400: ("invalidParameter", "The request is not valid."),
    401: ("invalidApiKey", "Invalid API key. Create one in your account."),
    402: ("insufficientCredits", "Insufficient credits. Top up your balance to go on."),
    403: ("forbidden", "This API key may not do that."),
    404: ("taskNotFound", "There is no such task."),
    408: ("requestTimeout", "The request took too long to arrive."),
    413: ("maxBodySizeExceeded", "The request is too large."),
    429: ("rateLimitExceeded", "Too many requests. Try again later."),
    500: ("internalServerError", "Something went wrong on our side."),
    502: ("serverUnavailable", "The upstream server did not answer properly."),
    503: ("serviceUnavailable", "No server has capacity for this task now."),
    504: ("queueTimeout", "The task waited too long in the queue."),
}


class Refused(Exception):
    """A request or task that Runware turns down: HTTP `status` and the error object."""

    def __init__(self, status: int, error: JsonObject, retry_after: float | None = None) -> None:
        super().__init__(error["message"])
        self.status = status
        self.error = error
        self.retry_after = retry_after


def error_object(
    code: str,
    message: str,
    *,
    parameter: str | list[str] | None = None,
    task_uuid: str | None = None,
    task_type: str | None = None,
    **extra: object,
) -> JsonObject:
    """One object of Runware's `errors`; `extra` are fields such as `min`, `max`, `multiplier`."""
    error: JsonObject = {"code": code, "message": message}
    if parameter is not None:
        error["parameter"] = parameter
    if task_type is not None:
        error["taskType"] = task_type
    if task_uuid is not None:
        error["taskUUID"] = task_uuid
    error.update(extra)
    error["documentation"] = f"{DOCUMENTATION}/{_page(task_type)}"
    return error


def error_of_status(status: int, *, code: str | None = None, message: str | None = None, **extra: Any) -> JsonObject:
    """The error object that goes with a status."""
    usual_code, usual_message = BY_STATUS.get(status, ("unknownError", f"HTTP {status}."))
    return error_object(code or usual_code, message or usual_message, **extra)


def encode(value: object) -> bytes:
    """Compact ASCII JSON; lone surrogates come out escaped, NaN as `NaN`."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _page(task_type: str | None) -> str:
    pages = {
        "imageInference": "image-inference/api-reference",
        "modelSearch": "platform/model-search",
        "getResponse": "platform/task-polling",
        "getTaskDetails": "platform/task-details",
    }
    return pages.get(task_type or "", "platform/errors")
