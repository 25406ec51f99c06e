"""One bar for a whole batch: how far it is, how fast, what it costs, how long it will take."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from runware_provider.cli.console import err, say

WINDOW = 30.0
"""Seconds over which the rate is taken."""

ENOUGH = 5
"""Requests after which the time that is left can be guessed."""

QUIET = 30.0
"""Seconds between two lines where no terminal shows a bar."""


@dataclass
class Count:
    """What has come of a batch so far. `settled`: requests with an outcome, `kept` of them from earlier runs."""

    total: int
    settled: int = 0
    kept: int = 0
    failed: int = 0
    images: int = 0
    cost_micros: int = 0
    _marks: deque[tuple[float, int, int]] = field(default_factory=lambda: deque(maxlen=1_000))

    def mark(self, now: float) -> None:
        """Remember how far it is, for the rate."""
        self._marks.append((now, self.images, self.settled - self.kept))
        while now - self._marks[0][0] > WINDOW and len(self._marks) > 2:
            self._marks.popleft()

    @property
    def images_per_second(self) -> float:
        """Lately."""
        return self._rate(1)

    @property
    def seconds_left(self) -> float | None:
        """At the rate of lately; None while too little has come to tell."""
        if not self._marks or self._marks[-1][2] < ENOUGH:
            return None
        rate = self._rate(2)
        return (self.total - self.settled) / rate if rate else None

    def _rate(self, which: int) -> float:
        if len(self._marks) < 2:
            return 0.0
        first, last = self._marks[0], self._marks[-1]
        return (last[which] - first[which]) / max(last[0] - first[0], 0.001)


@contextmanager
def bar(count: Count, *, show: bool) -> Iterator[None]:
    """Show `count` on stderr until the block ends: as a bar on a terminal, else as a line now and then."""
    loop = asyncio.get_running_loop()
    on_screen = show and err.is_interactive
    columns = (BarColumn(None), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=err, disable=not on_screen, transient=True, expand=True) as progress:
        line = progress.add_task("", total=count.total)
        ticking = loop.create_task(_tick(count, progress, line, quiet=not show, on_screen=on_screen))
        try:
            yield
        finally:
            ticking.cancel()


async def _tick(count: Count, progress: Progress, line: TaskID, *, quiet: bool, on_screen: bool) -> None:
    now = asyncio.get_running_loop().time
    told = now()
    while True:
        count.mark(now())
        progress.update(line, completed=count.settled, description=summary(count, narrow=err.width < 80))
        if not on_screen and not quiet and now() - told >= QUIET:
            told = now()
            say(err, summary(count, narrow=False))
        await asyncio.sleep(0.2)


def summary(count: Count, *, narrow: bool) -> str:
    """How far it is, in words that fit beside a bar."""
    left = count.seconds_left
    words = [
        f"{count.settled:,}/{count.total:,}",
        f"{count.images_per_second:.1f}{'/s' if narrow else ' images/s'}",
        f"${count.cost_micros / 1e6:,.{2 if count.cost_micros >= 10_000_000 else 4}f}",
    ]
    if left is not None:
        words.append(f"{duration(left)} left")
    if count.failed:
        words.append(f"{count.failed:,} failed")
    return "  ".join(words)


def duration(seconds: float) -> str:
    """`45 s`, `4:05 min` or `2:03 h`."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 6_000:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600:,}:{whole // 60 % 60:02} h"
