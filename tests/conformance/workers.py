"""A worker for tests: it writes down what it is given, does it as it is told, and can be waited for."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

from runware_provider.durable import TASK_KINDS, Assignment, GenerationRuntime, TaskKind
from runware_provider.types import Ask
from tests.conformance.builders import PATIENCE, do, now

Act = Callable[[Assignment], Awaitable[object]]


def slots(number: int = 64) -> dict[TaskKind, int]:
    """The same number of slots for every kind."""
    return dict.fromkeys(TASK_KINDS, number)


class Scribe:
    """By default it does each task faithfully. `asked_at` has the wall clock's time of each question, by id."""

    def __init__(self, runtime: GenerationRuntime, act: Act | None = None) -> None:
        self.given: list[Assignment] = []
        self.ended: list[Assignment] = []
        self.asked: list[tuple[UUID, Ask]] = []
        self.asked_at: dict[UUID, list[float]] = {}
        self.at_once = 0
        self.most_at_once = 0
        self._runtime = runtime
        self._act = act or self.do
        self._news = asyncio.Event()

    async def do(self, assignment: Assignment) -> None:
        """Do it faithfully."""
        await do(self._runtime, assignment)

    async def perform(self, assignment: Assignment) -> None:
        """See `Worker.perform`."""
        self.given.append(assignment)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self._news.set()
        try:
            await self._act(assignment)
            self.ended.append(assignment)
        finally:
            self.at_once -= 1
            self._news.set()

    def ask(self, generation_id: UUID, ask: Ask) -> None:
        """See `Worker.ask`."""
        self.asked.append((generation_id, ask))
        self.asked_at.setdefault(generation_id, []).append(now().timestamp())
        self._news.set()

    def given_of(self, kind: TaskKind) -> list[Assignment]:
        """What was given of one kind."""
        return [each for each in self.given if type(each.task).__name__ == kind]

    async def until(self, holds: Callable[[], bool], *, within: float = PATIENCE) -> None:
        """Wait until something it was told makes `holds` true."""
        async with asyncio.timeout(within):
            while not holds():
                self._news.clear()
                await self._news.wait()


async def for_ever(_: Assignment) -> None:
    """An act that ends only by being cancelled."""
    await asyncio.Event().wait()
