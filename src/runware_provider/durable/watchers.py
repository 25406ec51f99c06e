"""Those who wait for a generation to change, and those who follow them all."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from runware_provider.durable import DELETED
from runware_provider.durable.records import not_found
from runware_provider.errors import ServiceStopping

FEED_LIMIT = 1_024
"""Generations whose news are kept for one reader. Who is slower than that reads the list again."""


@dataclass(slots=True, eq=False)
class _Watcher:
    """`future` comes to the version that was waited for, or to None when one has to look."""

    after: int
    marks: int
    future: "asyncio.Future[int | None]"

    def wants(self, version: int, marks: int) -> bool:
        return version > self.after and (not self.marks or bool(marks & (self.marks | DELETED)))


class Feed:
    """See `News`. Of each generation it holds the newest version, and `FEED_LIMIT` generations at most."""

    def __init__(self) -> None:
        self._versions: dict[UUID, int] = {}
        self._lost = self._released = False
        self._stirred = asyncio.Event()

    async def take(self) -> Mapping[UUID, int] | None:
        """See `News.take`."""
        await self._stirred.wait()
        if self._released:
            raise _stopping()
        self._stirred.clear()
        taken, self._versions = self._versions, {}
        lost, self._lost = self._lost, False
        return None if lost else taken

    def tell(self, generation_id: UUID, version: int) -> None:
        """Something was committed."""
        if not self._lost:
            self._versions[generation_id] = max(version, self._versions.get(generation_id, 0))
            if len(self._versions) > FEED_LIMIT:
                self.lose()
            self._stirred.set()

    def lose(self) -> None:
        """Something was committed, and nobody knows what any more."""
        self._lost, self._versions = True, {}
        self._stirred.set()

    def release(self) -> None:
        """There will be no news."""
        self._released = True
        self._stirred.set()


class Watchers:
    """Call `tell` with what has been committed, `release` when nobody is to wait any longer."""

    def __init__(self) -> None:
        self._waiting: dict[int, list[_Watcher]] = {}  # by the number of the id: a UUID's own hash is Python
        self._feeds: set[Feed] = set()
        self._released = False

    def __bool__(self) -> bool:
        return bool(self._waiting or self._feeds)

    @contextmanager
    def follow(self) -> Iterator[Feed]:
        """See `GenerationRuntime.news`."""
        feed = Feed()
        if self._released:
            feed.release()
        self._feeds.add(feed)
        try:
            yield feed
        finally:
            self._feeds.remove(feed)

    def lose(self) -> None:
        """Changes were missed: those who follow everything must look for themselves."""
        for feed in self._feeds:
            feed.lose()

    def ids(self) -> list[UUID]:
        """Those that somebody waits for."""
        return [UUID(int=key) for key in self._waiting]

    async def wait(
        self, generation_id: UUID, after: int, marks: int, read: Callable[[], Awaitable[tuple[int, int]]]
    ) -> int:
        """See `GenerationRuntime.changed`; `read` gives the committed version and its marks, if any are asked for."""
        loop = asyncio.get_running_loop()
        watcher = _Watcher(after, marks, loop.create_future())
        self._waiting.setdefault(generation_id.int, []).append(watcher)  # before reading: no change falls between
        try:
            while True:
                version, present = await read()
                if watcher.wants(version, present):
                    return version
                if self._released:
                    raise _stopping()
                told = await watcher.future
                if told is not None:
                    return told
                watcher.future = loop.create_future()
        finally:
            self._leave(generation_id, watcher)

    def tell(self, generation_id: UUID, version: int, marks: int | None) -> None:
        """Wake those who wait for this version. `marks`: None when they are not known."""
        for feed in self._feeds:
            feed.tell(generation_id, version)
        for watcher in self._waiting.get(generation_id.int, ()):
            if watcher.future.done():
                continue
            if marks is None and watcher.marks and version > watcher.after:
                watcher.future.set_result(None)
            elif watcher.wants(version, marks or 0):
                watcher.future.set_result(version)

    def gone(self, generation_id: UUID) -> None:
        """Tell those who wait for this generation that it exists no more."""
        self._fail(generation_id.int, not_found(generation_id))

    def release(self) -> None:
        """Wake everybody with ServiceStopping, from now on too."""
        self._released = True
        for feed in self._feeds:
            feed.release()
        for key in self._waiting:
            self._fail(key, _stopping())

    def _fail(self, key: int, error: Exception) -> None:
        for watcher in self._waiting.get(key, ()):
            if not watcher.future.done():
                watcher.future.set_exception(error)

    def _leave(self, generation_id: UUID, watcher: _Watcher) -> None:
        future = watcher.future
        if future.done() and not future.cancelled():
            future.exception()  # seen, so that asyncio does not complain of it
        remaining = self._waiting[generation_id.int]
        remaining.remove(watcher)
        if not remaining:
            del self._waiting[generation_id.int]


def _stopping() -> ServiceStopping:
    return ServiceStopping("the service stops; ask again in a moment")
