"""What one process counts of itself, in plain numbers; `exposition.py` writes them out for Prometheus.

Labels are bounded and known beforehand: no id, no model, nothing that a caller chooses. Names are explained in
`docs/how-to/monitor.md`. (prometheus-client's own counters are made for many threads, and lock.)
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Literal

from runware_provider.durable import TASK_KINDS, TaskKind

Outcome = Literal[
    "accepted",
    "refused",
    "refused_for_now",
    "unknown",
    "stored",
    "fetch_failed",
    "content_rejected",
    "storage_failed",
    "projected",
    "projection_failed",
    "purged",
    "nothing_to_do",
    "waits",
    "raised",
]

OUTCOMES: Mapping[TaskKind, tuple[Outcome, ...]] = {
    "Dispatch": ("accepted", "refused", "refused_for_now", "unknown"),
    "StoreOutput": ("stored", "fetch_failed", "content_rejected", "storage_failed"),
    "Project": ("projected", "projection_failed"),
    "Purge": ("purged",),
}
ANY_KIND: tuple[Outcome, ...] = ("nothing_to_do", "waits", "raised")
"""What may come of a task: by its kind, and of every kind. `waits`: not for now, and it is not to blame."""

WEBHOOK_STATUSES = (200, 401, 408, 413, 503)
REFUSALS = (401, 403, 408, 413, 431)

_WEBHOOK_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)  # Runware waits about 5
_TASK_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class Durations:
    """A histogram of seconds. `total`: of all that was counted."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Each bound with how many took no longer."""
        return list(zip([*map(str, self._bounds), "+Inf"], accumulate(map(float, self._counts)), strict=True))


class Metrics:
    """Counted where it happens, by one thread. Each series is there from the start, at 0."""

    def __init__(self) -> None:
        self.answers = dict.fromkeys(WEBHOOK_STATUSES, 0)
        self.acknowledgements = Durations(_WEBHOOK_SECONDS)
        self.refusals = dict.fromkeys(REFUSALS, 0)
        self.tasks = {(kind, outcome): 0 for kind in TASK_KINDS for outcome in (*OUTCOMES[kind], *ANY_KIND)}
        self.task_seconds = {kind: Durations(_TASK_SECONDS) for kind in TASK_KINDS}
        self.generations_created = 0
        self.stored_bytes = 0

    def acknowledged(self, seconds: float) -> None:
        """A delivery was answered 200, `seconds` after its head was read."""
        self.answers[200] += 1
        self.acknowledgements.add(seconds)

    def answered(self, status: int) -> None:
        """A delivery was answered something else."""
        self.answers[status] += 1

    def refused(self, status: int) -> None:
        """A client's request was refused by the guard."""
        self.refusals[status] += 1

    def task(self, kind: TaskKind, outcome: Outcome, seconds: float) -> None:
        """A task was tried."""
        self.tasks[kind, outcome] += 1
        self.task_seconds[kind].add(seconds)

    def created(self) -> None:
        """A generation was committed for a client."""
        self.generations_created += 1

    def stored(self, size_bytes: int) -> None:
        """An image was stored, and is kept."""
        self.stored_bytes += size_bytes
