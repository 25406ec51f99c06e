"""One timer for all alarms that this process knows of."""

import asyncio
import heapq
from collections.abc import Callable
from uuid import UUID

MAX_STEP = 3_600.0
"""Seconds. The wall clock may jump; the timer never trusts it for longer."""


class Alarms:
    """When to wake which generation, in milliseconds of the wall clock.

    `ring` gets the ids that are due, at most `burst` at a time, and must set their next alarms.
    """

    def __init__(self, now_ms: Callable[[], int], ring: Callable[[list[UUID]], None], *, burst: int = 250) -> None:
        self._now_ms = now_ms
        self._ring = ring
        self._burst = burst
        self._at: dict[int, int] = {}  # by the number of the id: a UUID's own hash and order are Python
        self._heap: list[tuple[int, int]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
        self._stopped = False

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, generation_id: UUID) -> bool:
        return generation_id.int in self._at

    def set(self, generation_id: UUID, at_ms: int | None) -> None:
        """Wake `generation_id` at `at_ms` and not before; None: not at all.

        An alarm that is due and has not rung yet is not put off: what it is for has not been done.
        """
        key = generation_id.int
        known = self._at.get(key)
        if known is not None and (known == at_ms or known <= self._now_ms()):
            return
        if at_ms is None:
            self._at.pop(key, None)
            return
        self._at[key] = at_ms
        heapq.heappush(self._heap, (at_ms, key))
        if len(self._heap) > 4 * len(self._at) + 64:  # most of it is out of date
            self._heap = [(at, each) for each, at in self._at.items()]
            heapq.heapify(self._heap)
        self._arm()

    def stop(self) -> None:
        """Ring no more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        if not self._heap or self._stopped:
            return
        due = self._heap[0][0]
        if self._timer is not None:
            if self._timer_at <= due:
                return
            self._timer.cancel()
        delay = min(MAX_STEP, max(0.0, (due - self._now_ms()) / 1000))
        self._timer_at = due
        self._timer = asyncio.get_running_loop().call_later(delay, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = self._now_ms()
        due: list[UUID] = []
        while self._heap and self._heap[0][0] <= now and len(due) < self._burst:
            at, key = heapq.heappop(self._heap)
            if self._at.get(key) == at:
                del self._at[key]
                due.append(UUID(int=key))
        if due:
            self._ring(due)
        self._arm()
