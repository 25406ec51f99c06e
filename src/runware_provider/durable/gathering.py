"""One statement for all that ask in the same turn of the event loop."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar
from uuid import UUID

T = TypeVar("T")

MAX_IDS = 500
"""Ids in one statement; of those that are more, each such many have one of their own."""


class Gathering(Generic[T]):
    """`read` gives what there is of some ids. Nobody waits for others: what comes later has a statement of its own."""

    def __init__(self, read: Callable[[Sequence[UUID]], Awaitable[Mapping[UUID, T]]]) -> None:
        self._read = read
        self._waiting: dict[UUID, list[asyncio.Future[T | None]]] = {}
        self._under_way: set[asyncio.Task[None]] = set()

    async def get(self, id: UUID) -> T | None:
        """What there is of it; None when there is nothing. Raises what `read` raises."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._begin)
        future: asyncio.Future[T | None] = loop.create_future()
        self._waiting.setdefault(id, []).append(future)
        return await future

    def _begin(self) -> None:
        waiting, self._waiting = list(self._waiting.items()), {}
        for start in range(0, len(waiting), MAX_IDS):
            task = asyncio.get_running_loop().create_task(self._answer(dict(waiting[start : start + MAX_IDS])))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _answer(self, waiting: Mapping[UUID, Sequence[asyncio.Future[T | None]]]) -> None:
        try:
            found = await self._read(list(waiting))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  it is theirs who asked
            for future in (each for futures in waiting.values() for each in futures):
                if future.done():
                    continue
                if isinstance(error, asyncio.CancelledError):
                    future.cancel()
                else:
                    future.set_exception(error)
            return
        for id, futures in waiting.items():
            for future in futures:
                if not future.done():
                    future.set_result(found.get(id))
