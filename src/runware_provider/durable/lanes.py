"""Many calls, few transactions, over a connection that answers later: jobs gather while the lanes are busy.

Jobs with the same key run in order of arrival, and never in two transactions at once.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from runware_provider.errors import StateUnavailable


class Job(Protocol):
    """What can be submitted. `settled` gets its outcome; None has no order to keep."""

    @property
    def key(self) -> Hashable | None: ...
    @property
    def settled(self) -> "asyncio.Future[Any]": ...


J = TypeVar("J", bound=Job)

MAX_BATCH = 256
LANES = 2
"""One waits for the disk while the other one reads and computes; more would only make smaller batches."""


class Lanes(Generic[J]):
    """`settle` gets up to `MAX_BATCH` jobs at once and sets the outcome of each."""

    def __init__(self, settle: Callable[[Sequence[J]], Awaitable[None]], lanes: int = LANES) -> None:
        self._settle = settle
        self._free = lanes
        self._waiting: dict[Hashable, deque[J]] = {}
        self._ready: deque[Hashable] = deque()
        self._busy: set[Hashable] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self._closed = False
        self._loop = asyncio.get_running_loop()

    def submit(self, job: J) -> None:
        """Run `job` in a coming batch."""
        if self._closed:
            job.settled.set_exception(StateUnavailable("the runtime is closed"))
            return
        key = job.key
        if key is None:  # alone in its order
            key = job.settled
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = deque((job,))
            if key not in self._busy:
                self._ready.append(key)
        else:
            waiting.append(job)
        self._schedule()

    async def close(self) -> None:
        """Take no more jobs; return when those that wait are settled."""
        self._closed = True
        while self._running or self._ready:
            self._start()
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._start)  # what is submitted in this turn of the loop goes together

    def _start(self) -> None:
        self._scheduled = False
        while self._free and self._ready:
            batch, keys = self._take()
            self._free -= 1
            task = self._loop.create_task(self._run(batch, keys), name="state-batch")
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _take(self) -> tuple[list[J], list[Hashable]]:
        batch: list[J] = []
        keys: list[Hashable] = []
        while self._ready and len(batch) < MAX_BATCH:
            key = self._ready.popleft()
            waiting = self._waiting[key]
            while waiting and len(batch) < MAX_BATCH:
                batch.append(waiting.popleft())
            if not waiting:
                del self._waiting[key]
            keys.append(key)
        self._busy.update(keys)
        return batch, keys

    async def _run(self, batch: list[J], keys: list[Hashable]) -> None:
        try:
            await self._settle(batch)
        except Exception as error:  # noqa: BLE001  whoever waits must hear of it
            for job in batch:
                if not job.settled.done():
                    job.settled.set_exception(error)
        finally:
            self._free += 1
            self._busy.difference_update(keys)
            self._ready.extend(key for key in keys if key in self._waiting)
            self._schedule()
