"""Errors as `application/problem+json` (RFC 9457): what happened, which field, and who can mend it."""

from collections.abc import Collection, Mapping, Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from runware_provider.artifacts import StoreUnavailable
from runware_provider.errors import (
    ApiRejected,
    ConfigurationError,
    GenerationNotFound,
    HttpError,
    IdempotencyConflict,
    InvalidArgs,
    OutputNotFound,
    OverBudget,
    ProjectionUnavailable,
    RunwareProviderError,
    RunwareRefused,
    RunwareUnavailable,
    SeedsUnknown,
    StateDamaged,
    StateUnavailable,
    TooManyInFlight,
)
from runware_provider.types import GenerationState, JsonObject


class FieldIssue(BaseModel):
    """One field that is wrong."""

    field: str
    message: str


class Problem(BaseModel):
    """RFC 9457, with what helps the caller: the fields that are wrong, the generation, Runware's own words."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: list[FieldIssue] | None = None
    generation_id: str | None = None
    runware_errors: list[JsonObject] | None = Field(None, description="Runware's own error objects, as received.")


TITLES: Mapping[int, str] = {
    400: "Bad request",
    401: "Not signed in",
    402: "Payment required",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Conflict",
    413: "Too large",
    415: "Unsupported media type",
    416: "Range not satisfiable",
    422: "Invalid input",
    429: "Too many requests",
    431: "Request header fields too large",
    500: "Internal error",
    502: "Runware refused",
    503: "Unavailable",
}


def problem(
    status: int,
    detail: str,
    *,
    title: str | None = None,
    issues: Sequence[tuple[str, str]] = (),
    generation_id: str | None = None,
    runware_errors: Sequence[JsonObject] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem as a response."""
    content = Problem(
        title=title or TITLES.get(status, "Error"),
        status=status,
        detail=detail,
        errors=[FieldIssue(field=field, message=message) for field, message in issues] or None,
        generation_id=generation_id,
        runware_errors=list(runware_errors) or None,
    )
    return JSONResponse(
        content.model_dump(exclude_none=True), status, media_type="application/problem+json", headers=headers
    )


def refused(state: GenerationState) -> Response:
    """The generation that Runware refused for good, as a problem that carries its id and Runware's own errors."""
    error = state.error
    generation_id = str(state.id)
    if isinstance(error, ApiRejected):
        # The caller can mend the input; the key is the operator's.
        status = _refusal(error.status)
        detail = "; ".join(str(each.get("message") or each.get("code")) for each in error.errors) or "no reason given"
        remedy = " (the operator must check RUNWARE_API_KEY)" if error.status in {401, 403} else ""
        return problem(
            status,
            f"Runware refused the request: {detail}{remedy}",
            issues=[(f"input.{name}", str(each.get("message", ""))) for each in error.errors for name in _fields(each)],
            generation_id=generation_id,
            runware_errors=error.errors,
        )
    if isinstance(error, HttpError):
        remedy = "the operator must check RUNWARE_API_KEY" if error.status in {401, 403} else "nothing was charged"
        return problem(502, f"Runware answered HTTP {error.status}; {remedy}", generation_id=generation_id)
    return problem(502, "Runware could not be reached in time; nothing was charged", generation_id=generation_id)


def _refusal(status: int) -> int:
    """Our status for a refusal of Runware's: 402 is for who pays, 502 for the operator, 422 for the caller."""
    if status == 402:
        return 402
    return 502 if status in {401, 403, 408, 425, 429} or status >= 500 else 422


def _fields(error: JsonObject) -> list[str]:
    parameter = error.get("parameter")
    return [str(name) for name in (parameter if isinstance(parameter, list) else [parameter]) if name]


def refused_filters(error: RunwareRefused, sent: Collection[str]) -> Response | None:
    """Runware's refusal as the caller's to mend; None when it names none of the fields that were `sent`."""
    issues = [(name, str(each.get("message", ""))) for each in error.errors for name in _fields(each) if name in sent]
    if not issues or _refusal(error.status) != 422:
        return None
    return problem(422, f"Runware refused: {error}", issues=issues, runware_errors=error.errors)


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def install(app: FastAPI) -> None:
    """Answer every error of `app` as a problem."""
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RunwareProviderError, _provider_error)
    app.add_exception_handler(StoreUnavailable, _store_unavailable)
    app.add_exception_handler(Exception, _unexpected)


async def answer(request: Request, error: Exception) -> Response:
    """What a route outside of an installed application answers to what it raised. Raises what nobody foresaw again."""
    if isinstance(error, RunwareProviderError):
        return await _provider_error(request, error)
    if isinstance(error, StoreUnavailable):
        return await _store_unavailable(request, error)
    raise error


async def _invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  for the type checker: it is installed for this
    content_type = request.headers.get("content-type", "")
    if any(issue["loc"] == ("body",) for issue in error.errors()) and "json" not in content_type.lower():
        return problem(415, "send the body as JSON, with `Content-Type: application/json`")
    issues: list[tuple[str, str]] = []
    for issue in error.errors():
        where = [str(part) for part in issue["loc"]]
        if issue["type"] == "json_invalid":
            return problem(400, f"the body is not JSON: {issue['ctx']['error']}", issues=[("body", issue["msg"])])
        if where and where[0] in {"body", "query", "path", "header"} and len(where) > 1:
            where = where[1:]
        issues.append((".".join(where), issue["msg"]))
    return problem(422, "; ".join(f"{field}: {message}" for field, message in issues), issues=issues)


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    if error.status_code == 405:
        allowed = ", ".join(_allowed(request))
        return problem(405, f"this path takes {allowed}", headers={"Allow": allowed})
    return problem(error.status_code, str(error.detail), headers=error.headers)


def _allowed(request: Request) -> list[str]:
    """The methods that the path of `request` has. A router knows only those of the first route that fits."""
    scope = {name: value for name, value in request.scope.items() if name in {"type", "path", "root_path", "headers"}}
    return [
        method
        for method in _METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]


async def _unexpected(_: Request, error: Exception) -> Response:  # noqa: ARG001  the server logs it
    return unexpected()


def unexpected() -> Response:
    """What is said of what nobody foresaw."""
    return problem(500, "something went wrong here; the log says what")


async def _store_unavailable(_: Request, error: Exception) -> Response:
    return problem(503, str(error), headers={"Retry-After": "5"})


async def _provider_error(_: Request, error: Exception) -> Response:
    match error:
        case InvalidArgs():
            return problem(422, str(error), issues=error.issues)
        case GenerationNotFound() | OutputNotFound():
            return problem(404, str(error))
        case IdempotencyConflict() | SeedsUnknown():
            return problem(409, str(error))
        case OverBudget():
            return problem(402, str(error), title="Over budget")
        case TooManyInFlight():
            return problem(429, str(error), headers={"Retry-After": str(error.retry_after)})
        case RunwareRefused():
            return problem(502, f"Runware refused: {error}", runware_errors=error.errors)
        case StateDamaged():
            return problem(500, str(error), title="Damaged state")
        case ConfigurationError():
            return problem(503, str(error), title="Not configured")
        case StateUnavailable() | ProjectionUnavailable() | RunwareUnavailable():
            return problem(503, str(error), headers={"Retry-After": "5"})
        case _:
            raise error
