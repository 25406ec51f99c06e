"""Those who wait for a generation to change."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from runware_provider.durable.records import not_found
from runware_provider.errors import ServiceStopping


@dataclass(frozen=True, slots=True, eq=False)
class _Watcher:
    after: int
    future: "asyncio.Future[int]"


class Watchers:
    """Call `tell` with what has been committed, `release` when nobody is to wait any longer."""

    def __init__(self) -> None:
        self._waiting: dict[UUID, list[_Watcher]] = {}
        self._released = False

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def ids(self) -> list[UUID]:
        """Those that somebody waits for."""
        return list(self._waiting)

    async def wait(self, generation_id: UUID, after: int, read: Callable[[], Awaitable[int]]) -> int:
        """The first version greater than `after` that is told; `read` gives the committed one.

        Raises ServiceStopping, GenerationNotFound.
        """
        watcher = _Watcher(after, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(generation_id, []).append(watcher)  # before reading: no change falls between
        try:
            version = await read()
            if version > after:
                return version
            if self._released:
                raise _stopping()
            return await watcher.future
        finally:
            self._leave(generation_id, watcher)

    def tell(self, generation_id: UUID, version: int) -> None:
        """Wake those to whom this version is news."""
        for watcher in self._waiting.get(generation_id, ()):
            if version > watcher.after and not watcher.future.done():
                watcher.future.set_result(version)

    def gone(self, generation_id: UUID) -> None:
        """Tell those who wait for this generation that it exists no more."""
        self._fail(generation_id, not_found(generation_id))

    def release(self) -> None:
        """Wake everybody with ServiceStopping, from now on too."""
        self._released = True
        for generation_id in self._waiting:
            self._fail(generation_id, _stopping())

    def _fail(self, generation_id: UUID, error: Exception) -> None:
        for watcher in self._waiting.get(generation_id, ()):
            if not watcher.future.done():
                watcher.future.set_exception(error)

    def _leave(self, generation_id: UUID, watcher: _Watcher) -> None:
        future = watcher.future
        if future.done() and not future.cancelled():
            future.exception()  # seen, so that asyncio does not complain of it
        remaining = self._waiting[generation_id]
        remaining.remove(watcher)
        if not remaining:
            del self._waiting[generation_id]


def _stopping() -> ServiceStopping:
    return ServiceStopping("the service stops; ask again in a moment")
