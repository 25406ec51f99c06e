"""What is said about a failure, and the exit code by which a script knows who can act."""

import json
from typing import Any

from runware_provider.cli import FAILED, TRY_AGAIN, WRONG
from runware_provider.cli.console import err, say
from runware_provider.errors import (
    ConfigurationError,
    InvalidArgs,
    RunwareProviderError,
    RunwareUnavailable,
    StateUnavailable,
)


class Answered(RunwareProviderError):
    """The service answered a problem: its `status`, its `detail`, and the whole `problem`.

    `retry_after`: seconds until it is worth to ask again, when it said so.
    """

    def __init__(self, status: int, problem: dict[str, Any], *, retry_after: float | None = None) -> None:
        self.status = status
        self.problem = problem
        self.retry_after = retry_after
        super().__init__(str(problem.get("detail") or problem.get("title") or f"HTTP {status}"))


class Damaged(RunwareProviderError):
    """The bytes of an image are not those that were stored."""


def told(error: Exception) -> int | None:
    """Say what went wrong; the exit code. None, and nothing said, for what can only be a mistake of ours."""
    match error:
        case RunwareProviderError():
            complain(str(error))
        case OSError(strerror=str(reason)):
            complain(f"{error.filename}: {reason}" if error.filename else reason)
        case _:
            return None
    match error:
        case Answered():
            return _answered(error)
        case ConfigurationError() | InvalidArgs():
            return WRONG
        case RunwareUnavailable() | StateUnavailable():
            return TRY_AGAIN
        case _:
            return FAILED


def complain(words: str) -> None:
    """One line of what is wrong."""
    say(err, ("error: ", "red"), words)


def _answered(error: Answered) -> int:
    if error.problem.get("generation_id"):
        say(err, f"  generation {error.problem['generation_id']}")
    for each in error.problem.get("runware_errors") or ():
        say(err, "  Runware: ", json.dumps(each, ensure_ascii=False))
    if error.problem.get("title") == "Not configured" or error.status in {400, 409, 413, 422}:
        return WRONG
    return TRY_AGAIN if error.status in {429, 503} else FAILED
