"""What can go wrong, on two levels, as data; and what a call can raise, by who can act.

A *generation's* failure and an *output's* failure are values: unions discriminated on `code`, made by the factory
functions of this module only. A *call's* failure is an exception below `RunwareProviderError`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, assert_never

from pydantic import BaseModel, ConfigDict, Field

EXCERPT_CHARACTERS = 2_000
"""How much of somebody else's text (a body, a database's message) an error keeps."""


class _Error(BaseModel):
    """`code` has no default in any of them: what earlier releases kept leaves defaults out, and is read by it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class HttpError(_Error):
    """Runware answered the dispatch with an HTTP error that carries no error objects."""

    code: Literal["http_error"]
    url: str
    status: int
    body: str
    attempts: int = Field(ge=0)


class NetworkError(_Error):
    """Runware could not be reached. Nothing was accepted, so nothing is charged."""

    code: Literal["network_error"]
    reason: str
    attempts: int = Field(ge=0)


class ApiRejected(_Error):
    """Runware refused the request; `errors` are Runware's own objects, as received."""

    code: Literal["api_rejected"]
    status: int
    errors: list[dict[str, Any]]


class Timeout(_Error):
    """Not all results had come when the deadline passed. Results that come later are still kept."""

    code: Literal["timeout"]
    received: int = Field(ge=0)
    expected: int = Field(ge=1)


class ProjectionFailed(_Error):
    """The images are stored, the read model lacks them. Mend the cause, then replay."""

    code: Literal["projection_failed"]
    message: str


class Validation(_Error):
    """Runware delivered something that is not a result as we know them. `raw` is what came."""

    code: Literal["validation"]
    issues: list[str]
    raw: str


class WebhookError(_Error):
    """Runware says that this result failed; `errors` are its own objects, as received."""

    code: Literal["webhook_error"]
    errors: list[dict[str, Any]]


class FetchFailed(_Error):
    """The CDN did not give us the image. `status` is None when no complete answer came."""

    code: Literal["fetch_failed"]
    url: str
    status: int | None
    reason: str
    body: str
    attempts: int = Field(ge=1)


RejectReason = Literal["no_image", "host_not_allowed", "not_an_image", "truncated", "too_large"]


class ContentRejected(_Error):
    """What we were given is not an image that we keep."""

    code: Literal["content_rejected"]
    reason: RejectReason
    message: str


class StorageFailed(_Error):
    """The object store did not take the image."""

    code: Literal["storage_failed"]
    key: str
    message: str


DispatchError = HttpError | NetworkError | ApiRejected
GenerationError = Annotated[
    HttpError | NetworkError | ApiRejected | Timeout | ProjectionFailed, Field(discriminator="code")
]
OutputError = Annotated[
    Validation | WebhookError | FetchFailed | ContentRejected | StorageFailed, Field(discriminator="code")
]


def excerpt(text: str, characters: int = EXCERPT_CHARACTERS) -> str:
    """`text`, cut to `characters`, fit to be kept and shown: no token in it; lone surrogates and NUL become U+FFFD."""
    return scrub(redact(text)[:characters]).replace("\x00", "\ufffd")


_SECRET = re.compile(r"""((?:token|api_?key)(?:=|%3D|\\*"\s*:\s*\\*"))[^&"\s\\%]*""", re.IGNORECASE)


def redact(text: str) -> str:
    """`text` with the values of tokens and keys replaced, however the address that holds them is quoted."""
    lowered = text.lower()
    if "token" not in lowered and "api" not in lowered:  # the pattern takes ten times as long to say so
        return text
    return _SECRET.sub(r"\1[redacted]", text)


def scrub(text: str) -> str:
    """`text` fit to be encoded: lone surrogates become U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def http_error(url: str, status: int, body: str, *, attempts: int = 1) -> HttpError:
    """The dispatch answered `status` without error objects."""
    return HttpError(code="http_error", url=url, status=status, body=excerpt(body), attempts=attempts)


def network_error(reason: str, *, attempts: int = 1) -> NetworkError:
    """Runware was not reached after `attempts`."""
    return NetworkError(code="network_error", reason=excerpt(reason), attempts=attempts)


def api_rejected(status: int, errors: Sequence[Mapping[str, Any]]) -> ApiRejected:
    """Runware refused with its own `errors`; at most 16 are kept."""
    return ApiRejected(code="api_rejected", status=status, errors=[dict(error) for error in errors[:16]])


def timeout(received: int, expected: int) -> Timeout:
    """`received` of `expected` results had come at the deadline."""
    return Timeout(code="timeout", received=received, expected=expected)


def projection_failed(message: str) -> ProjectionFailed:
    """The database refused the rows, in its own words."""
    return ProjectionFailed(code="projection_failed", message=excerpt(message))


def validation(issues: Sequence[str], raw: str) -> Validation:
    """A delivery that is none; at most 16 issues are kept."""
    return Validation(code="validation", issues=[excerpt(issue, 300) for issue in issues[:16]], raw=excerpt(raw, 8_192))


def webhook_error(errors: Sequence[Mapping[str, Any]]) -> WebhookError:
    """Runware's own error objects for one result or the whole task; at most 16 are kept."""
    return WebhookError(code="webhook_error", errors=[dict(error) for error in errors[:16]])


def fetch_failed(url: str, status: int | None, reason: str, body: str = "", *, attempts: int = 1) -> FetchFailed:
    """The CDN's answer, or why there was none."""
    return FetchFailed(
        code="fetch_failed",
        url=excerpt(url),
        status=status,
        reason=excerpt(reason, 500),
        body=excerpt(body, 500),
        attempts=attempts,
    )


def content_rejected(reason: RejectReason, message: str) -> ContentRejected:
    """The result or its bytes are not what we keep, and why."""
    return ContentRejected(code="content_rejected", reason=reason, message=excerpt(message, 500))


def storage_failed(key: str, message: str) -> StorageFailed:
    """The store's own message for `key`."""
    return StorageFailed(code="storage_failed", key=key, message=excerpt(message, 500))


def worth_trying(error: OutputError) -> Literal["no", "briefly", "long"]:
    """For how long the same address may still give the image after this error.

    `long`: it is not about the image (network, store, overload). `briefly`: a CDN may not have it yet, or may have
    cut it short. `no`: it would be the same again.
    """
    match error:
        case FetchFailed(status=status):
            return "long" if status is None or status in {408, 425, 429} or status >= 500 else "briefly"
        case StorageFailed():
            return "long"
        case ContentRejected(reason="truncated" | "not_an_image"):
            return "briefly"
        case ContentRejected() | Validation() | WebhookError():
            return "no"
        case _:
            assert_never(error)


class RunwareProviderError(Exception):
    """Base of all exceptions that calls of this package raise on purpose."""


class InvalidArgs(RunwareProviderError):
    """The caller's input is wrong. `issues` name the field and what it must be."""

    def __init__(self, issues: Sequence[tuple[str, str]]) -> None:
        self.issues = tuple(issues)
        super().__init__("; ".join(f"{field}: {message}" for field, message in self.issues))


class GenerationNotFound(RunwareProviderError):
    """No such generation: unknown id, deleted or purged."""


class OutputNotFound(RunwareProviderError):
    """The generation has no such output, or it is not stored."""


class IdempotencyConflict(RunwareProviderError):
    """The idempotency key was used before with another input."""


class SeedsUnknown(RunwareProviderError):
    """The seeds that would give the same images are not known, or could not be asked for by one task."""


class TooManyInFlight(RunwareProviderError):
    """`MAX_IN_FLIGHT` generations are running. Try again after `retry_after` seconds."""

    def __init__(self, limit: int, retry_after: int = 5) -> None:
        self.limit = limit
        self.retry_after = retry_after
        super().__init__(f"{limit} generations are in flight (MAX_IN_FLIGHT); try again in {retry_after} s")


class OverBudget(RunwareProviderError):
    """`DAILY_BUDGET` would be exceeded. Nothing was spent; it begins anew at midnight UTC."""

    def __init__(self, budget_micros: int, spent_micros: int, wanted_micros: int) -> None:
        super().__init__(
            f"today's budget is ${budget_micros / 1e6:.2f} (DAILY_BUDGET), ${spent_micros / 1e6:.4f} of it are gone or "
            f"reserved, and this could cost ${wanted_micros / 1e6:.4f}; nothing was spent on it"
        )


class ConfigurationError(RunwareProviderError):
    """The operator must change a setting or the machine; the message says which and how."""


class DataDirInUse(ConfigurationError):
    """Another process owns the data directory."""


class StateTooNew(ConfigurationError):
    """The state was written by a newer release. It is left untouched; install that release."""


class StateDamaged(RunwareProviderError):
    """What is kept of one generation cannot be read. It is left as it is; restore it from a backup."""


class StateUnavailable(RunwareProviderError):
    """The state store could not commit. The call may or may not be kept: try again, calls are idempotent."""


class ServiceStopping(StateUnavailable):
    """The service is being stopped. What was waited for goes on; ask again once it is back."""


class ProjectionUnavailable(RunwareProviderError):
    """The read model's database could not be reached. Try again."""


class RunwareUnavailable(RunwareProviderError):
    """Runware did not answer, or answered with a passing failure. Try again."""


class RunwareRefused(RunwareProviderError):
    """Runware refused the call; `errors` are its own objects."""

    def __init__(self, status: int, errors: Sequence[Mapping[str, Any]]) -> None:
        self.status = status
        self.errors = [dict(error) for error in errors[:16]]
        first = self.errors[0].get("message") if self.errors else None
        super().__init__(str(first or f"HTTP {status}"))
