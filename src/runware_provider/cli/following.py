"""Many generations followed at once, over one stream of news."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

from runware_provider.cli.client import Api
from runware_provider.cli.failures import Answered
from runware_provider.cli.patience import Patience
from runware_provider.errors import StateUnavailable

UNASKED = 30.0
"""Seconds after which a generation of which nothing was heard is looked at."""

RECONNECT = 0.5
"""Seconds before a stream that ended is opened again."""


class Following:
    """Who waits for which generation."""

    def __init__(self, api: Api, patiently: Patience) -> None:
        self._api = api
        self._patiently = patiently
        self._waiting: dict[str, asyncio.Event] = {}

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Hear the news until the block ends."""
        listener = asyncio.create_task(self._listen())
        try:
            yield
        finally:
            listener.cancel()

    async def _listen(self) -> None:
        while True:
            # Whether the service is away for too long is found by those who wait, when they ask it.
            with suppress(Answered, StateUnavailable):
                async with aclosing(self._api.changes()) as changes:
                    async for id in changes:
                        if id is None:  # the stream begins, or something of it was lost
                            self._wake_all()
                        elif id in self._waiting:
                            self._waiting[id].set()
            self._wake_all()
            await asyncio.sleep(RECONNECT)

    def _wake_all(self) -> None:
        for event in self._waiting.values():
            event.set()

    async def until(self, state: dict[str, Any], done: str) -> dict[str, Any]:
        """The state in which `done` is something. Raises Answered when it is deleted, and what Patience raises."""
        path = f"/v1/generations/{state['id']}"
        event = self._waiting[state["id"]] = asyncio.Event()
        try:
            while not state[done]:
                # What happened between the last answer and now was not heard by anybody.
                state = await self._patiently(lambda: self._api.get(path))
                if not state[done]:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(event.wait(), UNASKED)
                    event.clear()
        finally:
            self._waiting.pop(state["id"], None)
        return state
