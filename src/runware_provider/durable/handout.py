"""Hands committed tasks to the worker: a bounded number of slots a kind, backoff for those that fail, and quarantine.

A task that an earlier process left is counted before it is given again. One that has already been through two starts
is given while no other such task runs: if it is the one that kills its process, it does not drag others along.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from runware_provider.durable import MAX_ATTEMPTS, Assignment, TaskKind, TryLater
from runware_provider.errors import StateUnavailable
from runware_provider.logs import get_logger

log = get_logger()

FIRST_WAIT = 0.5
"""Seconds before a task that failed is given again; doubles with each failure."""

STORE_WAIT = 2.0
"""Seconds before a task is given again that could not be done for now; doubles up to `LONGEST_WAIT`."""

LONGEST_WAIT = 30.0

SUSPICIOUS = 2
"""Starts after which a task is given alone."""


class Ledger(Protocol):
    """What the hand-out has to have committed."""

    async def pick_up(self, assignment: Assignment) -> None:
        """Count one more start."""

    async def park(self, assignment: Assignment, error: str) -> None:
        """Nobody tries it until a person says so."""


class Handout:
    """Call `give` with committed tasks and `ended` with the numbers of those that are done.

    `freed` is called when a slot of a kind is free and nothing here waits for it.
    """

    def __init__(self, ledger: Ledger, *, freed: Callable[[TaskKind], None] | None = None) -> None:
        self._ledger = ledger
        self._freed = freed
        self._perform: Callable[[Assignment], Awaitable[None]] = _nobody
        self._started = False
        self._room = asyncio.Event()
        self._free: dict[TaskKind, int] = {}
        self._waiting: dict[TaskKind, deque[tuple[Assignment, bool]]] = {}
        self._suspects: deque[tuple[Assignment, bool]] = deque()
        self._suspect_runs = False
        self._running: dict[int, asyncio.Task[None]] = {}
        self._open: dict[int, tuple[TaskKind, float]] = {}
        self._failures: dict[int, int] = {}
        self._waits: dict[int, int] = {}
        self._delayed: dict[int, asyncio.TimerHandle] = {}
        self._stopping = False

    def start(self, perform: Callable[[Assignment], Awaitable[None]], slots: Mapping[TaskKind, int]) -> None:
        """Begin to hand out."""
        self._perform, self._started = perform, True
        self._free = dict(slots)
        for kind in slots:
            self._waiting.setdefault(kind, deque())
            self._fill(kind)

    def give(self, assignment: Assignment, *, left_over: bool = False) -> None:
        """Hand one task out as soon as a slot is free. `left_over`: by an earlier process, so that it is counted."""
        kind = _kind(assignment)
        self._open.setdefault(assignment.number, (kind, time.monotonic()))
        if left_over and assignment.attempts >= SUSPICIOUS:
            self._suspects.append((assignment, True))
        else:
            self._waiting.setdefault(kind, deque()).append((assignment, left_over))
        self._fill(kind)

    def ended(self, number: int) -> None:
        """A task is done and its end is committed."""
        self._open.pop(number, None)
        self._failures.pop(number, None)
        self._waits.pop(number, None)
        self._room.set()

    async def fewer_than(self, number: int) -> None:
        """Wait until fewer than `number` tasks are open."""
        while len(self._open) >= number:
            self._room.clear()
            await self._room.wait()

    def free(self, kind: TaskKind) -> int:
        """Slots that nothing here runs in or waits for."""
        if self._stopping:
            return 0
        return max(0, self._free.get(kind, 0) - len(self._waiting.get(kind, ())))

    def open(self) -> list[int]:
        """Tasks that were given and have not ended."""
        return list(self._open)

    def has_suspect(self) -> bool:
        """Whether a task that is given alone is here."""
        return self._suspect_runs or bool(self._suspects)

    def knows(self, number: int) -> bool:
        """Whether this task was given and has not ended."""
        return number in self._open

    def counts(self) -> dict[str, int]:
        """Open tasks by kind."""
        counts: dict[str, int] = {}
        for kind, _ in self._open.values():
            counts[kind] = counts.get(kind, 0) + 1
        return counts

    def oldest(self) -> float:
        """Seconds since the oldest of the open tasks was given."""
        return time.monotonic() - next(iter(self._open.values()))[1] if self._open else 0.0

    async def stop(self, grace: float) -> None:
        """Hand out nothing more; wait `grace` seconds for what runs, then cancel it. It is given again at a start."""
        self._stopping = True
        for timer in self._delayed.values():
            timer.cancel()
        if self._running:
            _, late = await asyncio.wait(self._running.values(), timeout=grace)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    def _fill(self, kind: TaskKind) -> None:
        if not self._started or self._stopping:
            return
        waiting = self._waiting.get(kind)
        while waiting and self._free.get(kind, 0) > 0:
            assignment, left_over = waiting.popleft()
            self._run(assignment, left_over)
        if self._suspects and not waiting:
            self._take_suspect()

    def _take_suspect(self) -> None:
        if not self._suspects or self._suspect_runs or self._stopping:
            return
        assignment, left_over = self._suspects[0]
        if self._free.get(_kind(assignment), 0) > 0:
            self._suspect_runs = True
            self._suspects.popleft()
            self._run(assignment, left_over)

    def _run(self, assignment: Assignment, left_over: bool) -> None:
        kind = _kind(assignment)
        self._free[kind] = self._free.get(kind, 0) - 1
        task = asyncio.get_running_loop().create_task(self._attempt(assignment, left_over))
        self._running[assignment.number] = task

        def over(_: asyncio.Task[None]) -> None:
            self._running.pop(assignment.number, None)
            self._free[kind] += 1
            if left_over and assignment.attempts >= SUSPICIOUS:
                self._suspect_runs = False
            if self._suspects:
                self._take_suspect()  # before the next of the others, or under steady load its turn would never come
            self._fill(kind)
            if self._freed is not None and self.free(kind):
                self._freed(kind)

        task.add_done_callback(over)

    async def _attempt(self, assignment: Assignment, left_over: bool) -> None:
        number = assignment.number
        try:
            if left_over:
                if assignment.attempts >= MAX_ATTEMPTS:
                    await self._park(assignment, f"its process died {MAX_ATTEMPTS} times while it ran")
                    return
                await self._ledger.pick_up(assignment)
                left_over = False
            await self._perform(assignment)
            if number not in self._open:
                return
            reason = "it returned without an end"
        except (StateUnavailable, TryLater) as error:  # not this task's fault
            waits = self._waits[number] = self._waits.get(number, 0) + 1
            self._later(assignment, left_over, min(LONGEST_WAIT, STORE_WAIT * 2 ** min(waits - 1, 10)))
            log.warning("task_waits", kind=_kind(assignment), id=str(assignment.generation_id), reason=str(error)[:300])
            return
        except Exception as error:  # noqa: BLE001  a worker may raise anything; the task is given again or parked
            reason = f"{type(error).__name__}: {error}"
        if number not in self._open:  # it had ended before it raised
            return
        failures = self._failures[number] = self._failures.get(number, 0) + 1
        log.warning("task_failed", kind=_kind(assignment), id=str(assignment.generation_id), reason=reason[:300])
        if failures >= MAX_ATTEMPTS:
            try:
                await self._park(assignment, reason)
            except StateUnavailable:
                self._later(assignment, left_over, STORE_WAIT)
            return
        self._later(assignment, left_over, FIRST_WAIT * 2 ** (failures - 1))

    def _later(self, assignment: Assignment, left_over: bool, delay: float) -> None:
        if not self._stopping and assignment.number in self._open:
            timer = asyncio.get_running_loop().call_later(delay, self._again, assignment, left_over)
            self._delayed[assignment.number] = timer

    def _again(self, assignment: Assignment, left_over: bool) -> None:
        self._delayed.pop(assignment.number, None)
        if assignment.number not in self._open:
            return
        kind = _kind(assignment)
        self._waiting.setdefault(kind, deque()).append((assignment, left_over))
        self._fill(kind)

    async def _park(self, assignment: Assignment, error: str) -> None:
        await self._ledger.park(assignment, error)
        self.ended(assignment.number)
        log.error("task_parked", kind=_kind(assignment), id=str(assignment.generation_id), reason=error[:300])


def _kind(assignment: Assignment) -> TaskKind:
    return type(assignment.task).__name__  # type: ignore[return-value]  # the tasks' names are the kinds


async def _nobody(assignment: Assignment) -> None:
    raise RuntimeError(f"nobody performs {assignment}: the hand-out was not started")
