"""Small counts of what happens, for whoever looks after the service."""

from collections.abc import Callable
from datetime import UTC, datetime

MINUTES = 120


class Recent:
    """How often something happened, by minute, for the last two hours."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._counts = [0] * MINUTES
        self._minute = self._now()
        self._minute_ends = self._end()

    def add(self) -> None:
        """It happened once more."""
        if self._clock() >= self._minute_ends:
            self._turn()
        self._counts[self._minute % MINUTES] += 1

    def within(self, minutes: int, *, ending: int = 0) -> int:
        """How often it happened in the `minutes` that ended `ending` minutes ago."""
        self._turn()
        return sum(
            self._counts[(self._minute - age) % MINUTES] for age in range(ending, min(ending + minutes, MINUTES))
        )

    def _now(self) -> int:
        return int(self._clock().timestamp() // 60)

    def _end(self) -> datetime:
        return datetime.fromtimestamp((self._minute + 1) * 60, UTC)

    def _turn(self) -> None:
        now = self._now()
        for minute in range(max(self._minute + 1, now - MINUTES + 1), now + 1):
            self._counts[minute % MINUTES] = 0
        self._minute = max(self._minute, now)
        self._minute_ends = self._end()


class Tally:
    """What one process counts."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.unauthorized = Recent(clock)
        """Webhooks with a wrong or missing token."""
        self.acknowledged = Recent(clock)
        """Webhooks that were answered 200."""
