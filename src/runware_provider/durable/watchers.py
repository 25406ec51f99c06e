"""Those who wait for a generation to change."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

from runware_provider.errors import ServiceStopping


class Watchers:
    """Call `tell` with what has been committed, `release` when nobody is to wait any longer."""

    def __init__(self) -> None:
        self._waiting: dict[UUID, list[asyncio.Future[int]]] = {}
        self._released = False

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def __contains__(self, generation_id: UUID) -> bool:
        return generation_id in self._waiting

    async def wait(self, generation_id: UUID, after: int, read: Callable[[], Awaitable[int]]) -> int:
        """The first version greater than `after`; `read` gives the committed one. Raises ServiceStopping."""
        future = self._join(generation_id)  # before reading, so that no change falls between
        try:
            version = await read()
            while version <= after:
                if self._released:
                    raise ServiceStopping("the service stops; ask again in a moment")
                version = await future
                future = self._join(generation_id)
            return version
        finally:
            self._leave(generation_id, future)

    def tell(self, generation_id: UUID, version: int) -> None:
        """Wake those who wait for this generation."""
        for future in self._waiting.pop(generation_id, ()):
            if not future.done():
                future.set_result(version)

    def release(self) -> None:
        """Wake everybody with ServiceStopping, from now on too."""
        self._released = True
        for futures in self._waiting.values():
            for future in futures:
                if not future.done():
                    future.set_exception(ServiceStopping("the service stops; ask again in a moment"))

    def _join(self, generation_id: UUID) -> asyncio.Future[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(generation_id, []).append(future)
        return future

    def _leave(self, generation_id: UUID, future: asyncio.Future[int]) -> None:
        if future.done() and not future.cancelled():
            future.exception()  # seen, so that asyncio does not complain of it
        remaining = self._waiting.get(generation_id, [])
        if future in remaining:
            remaining.remove(future)
        if not remaining:
            self._waiting.pop(generation_id, None)
