"""Waiting for a service that is full, or is being started again, while a command is in the middle of its work."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from runware_provider.cli.client import Api
from runware_provider.cli.console import err, say
from runware_provider.cli.failures import Answered
from runware_provider.errors import StateUnavailable

OUTAGE = 120.0
"""Seconds that a service which does not answer is waited for: as long as it takes to start it again."""

LONGEST_PAUSE = 30.0
"""Seconds between two questions, whatever the service asks for."""

T = TypeVar("T")


class Impatient(Exception):
    """It became pointless to wait on."""


class Patience:
    """Asks until there is an answer. Says on stderr that it waits, once an outage."""

    def __init__(self, api: Api, *, pointless: Callable[[], bool] = lambda: False) -> None:
        self._api = api
        self._pointless = pointless
        self._said = False

    async def __call__(self, call: Callable[[], Awaitable[T]], *, sending: bool = False) -> T:
        """What `call` comes to. Raises what waiting cannot mend, StateUnavailable when it lasts too long.

        `sending`: raises Impatient instead of going on when that is `pointless`.
        """
        now = asyncio.get_running_loop().time
        away_since: float | None = None
        while True:
            began = now()
            try:
                answer = await call()
            except (Answered, StateUnavailable) as error:
                busy = isinstance(error, Answered) and error.status == 429
                if not busy and not self._may_pass(error):
                    raise
                if busy or now() - began > OUTAGE:  # it was there for long, or is
                    away_since = None
                away_since = away_since if away_since is not None else now()
                if not busy and now() - away_since > OUTAGE:
                    raise
                pause = min((isinstance(error, Answered) and error.retry_after) or 1.0, LONGEST_PAUSE)
                if not busy and not self._said:
                    self._said = True
                    say(err, f"the service does not answer ({error}); waiting for it")
            else:
                self._said = False
                return answer
            await asyncio.sleep(pause)
            if sending and self._pointless():
                raise Impatient

    def _may_pass(self, error: Exception) -> bool:
        if isinstance(error, Answered):
            return error.status in {500, 503} and not not_configured(error)
        return not self._api.passing


def not_configured(error: Exception) -> bool:
    """Whether the service lacks a setting without which it cannot do this."""
    return isinstance(error, Answered) and error.problem.get("title") == "Not configured"
