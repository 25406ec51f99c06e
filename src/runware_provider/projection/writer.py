"""Many tasks that each project one generation, gathered into few transactions."""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice, takewhile

from runware_provider.errors import ProjectionFailed, ProjectionUnavailable, projection_failed
from runware_provider.projection.read_model import Projection
from runware_provider.types import GenerationState

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0


@dataclass(slots=True)
class _Waiting:
    state: GenerationState
    until: float
    outcome: asyncio.Future[ProjectionFailed | None]


class ProjectionWriter:
    """Groups calls: while one batch commits, the next gathers. With nothing to do it is nothing, not even a task.

    batch: the most states in one transaction. waiting: the most states kept; further callers wait for room.
    patience: how long a state is tried while the database cannot be reached, from its admission.
    """

    def __init__(
        self,
        projection: Projection,
        *,
        batch: int = 64,
        waiting: int = 1_024,
        patience: timedelta = timedelta(seconds=10),
    ) -> None:
        self._projection = projection
        self._batch = batch
        self._patience = patience.total_seconds()
        self._most = waiting
        self._room: asyncio.Event | None = None
        self._queue: deque[_Waiting] = deque()
        self._drain: asyncio.Task[None] | None = None

    async def project(self, state: GenerationState) -> ProjectionFailed | None:
        """Write one state; returns once it is durable (None), or refused, or the database was away for `patience`.

        A caller that is cancelled does not take its state back: it may still be written, which is harmless.
        """
        while len(self._queue) >= self._most:
            self._room = self._room or asyncio.Event()
            await self._room.wait()
        loop = asyncio.get_running_loop()
        waiting = _Waiting(state, loop.time() + self._patience, loop.create_future())
        self._queue.append(waiting)
        if self._drain is None or self._drain.done():
            self._drain = asyncio.create_task(self._work(), name="projection-writer")
        return await waiting.outcome

    async def aclose(self) -> None:
        """Wait until all that was given is settled."""
        while self._drain is not None and not self._drain.done():
            await asyncio.wait([self._drain])

    async def _work(self) -> None:
        pause = _FIRST_PAUSE
        try:
            while self._queue:
                self._say_room()
                batch = list(islice(self._queue, self._batch))
                try:
                    outcomes = await self._projection.write([waiting.state for waiting in batch])
                except ProjectionUnavailable as error:
                    self._give_up_overdue(error)
                    await self._pause(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    continue
                except Exception as error:  # noqa: BLE001 (a mistake of ours: each caller hears of it, the next ones are served)
                    for waiting in self._taken(batch):
                        waiting.outcome.set_exception(error)
                    continue
                pause = _FIRST_PAUSE
                for waiting, outcome in zip(batch, outcomes, strict=True):
                    self._queue.popleft()
                    if not waiting.outcome.done():
                        waiting.outcome.set_result(outcome)
        finally:
            # Only when the loop itself is going down is anything left: nobody shall wait for ever.
            for waiting in self._queue:
                waiting.outcome.cancel()
            self._queue.clear()
            self._say_room()

    def _say_room(self) -> None:
        if self._room is not None and len(self._queue) < self._most:
            self._room.set()  # whoever finds it taken waits for the next
            self._room = None

    def _taken(self, batch: Sequence[_Waiting]) -> Iterator[_Waiting]:
        """Take `batch`, the head of the queue, off it; those whose caller still waits."""
        for waiting in batch:
            self._queue.popleft()
            if not waiting.outcome.done():
                yield waiting

    def _give_up_overdue(self, error: ProjectionUnavailable) -> None:
        """The database was just tried in vain: that holds for everyone, whether in this batch or behind it."""
        now = asyncio.get_running_loop().time()
        overdue = list(
            takewhile(lambda waiting: waiting.until <= now, self._queue)
        )  # the queue is in order of admission
        for waiting in self._taken(overdue):
            waiting.outcome.set_result(projection_failed(str(error)))
        self._say_room()  # before the pause, which may be as long as somebody's patience

    async def _pause(self, seconds: float) -> None:
        if self._queue:
            left = self._queue[0].until - asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, min(seconds, left)))
