"""What time it is, without jumps."""

import time
from datetime import UTC, datetime, timedelta


class SteadyClock:
    """The wall clock as it was at the start, moved on by the monotonic one.

    A clock that somebody sets, or that a time service corrects, changes nothing in a running process: waits, leases
    and deadlines last as long as they should. The next start follows the wall again.
    """

    def __init__(self) -> None:
        self._wall = datetime.now(UTC)
        self._began = time.monotonic()

    def __call__(self) -> datetime:
        return self._wall + timedelta(seconds=time.monotonic() - self._began)

    def moved(self) -> timedelta:
        """How far the wall clock has been moved since the start."""
        return datetime.now(UTC) - self()
