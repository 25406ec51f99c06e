"""What one process counts, for Prometheus, and what the state store says at each scrape.

prometheus-client writes it out; its own counters, made for many threads, take longer than what is counted here.

Labels are bounded and known beforehand: no id, no model, nothing that a caller chooses. Names are explained in
`docs/how-to/monitor.md`.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import accumulate, chain
from typing import Literal

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from runware_provider.durable import TASK_KINDS, GenerationRuntime, Stats, TaskKind
from runware_provider.errors import StateUnavailable

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

STATE_WAIT = 5.0
"""Seconds that a scrape waits for the state store; Prometheus itself waits 10 for the whole."""

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

_PREFIX = "runware_provider_"


class _Durations:
    """A histogram of seconds."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def tell(self, family: HistogramMetricFamily, labels: Sequence[str] = ()) -> None:
        """Add what was counted to `family`."""
        bounds = [*map(str, self._bounds), "+Inf"]
        family.add_metric(labels, list(zip(bounds, accumulate(map(float, self._counts)), strict=True)), self._sum)


class Metrics:
    """Counted where it happens, by one thread, in plain numbers. Each series is there from the start, at 0."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._build = InfoMetricFamily(f"{_PREFIX}build", "This release.", {"version": version("runware-provider")})
        self._answers = dict.fromkeys(WEBHOOK_STATUSES, 0)
        self._acknowledgements = _Durations(_WEBHOOK_SECONDS)
        self._refusals = dict.fromkeys(REFUSALS, 0)
        self._tasks = {(kind, outcome): 0 for kind in TASK_KINDS for outcome in (*OUTCOMES[kind], *ANY_KIND)}
        self._task_seconds = {kind: _Durations(_TASK_SECONDS) for kind in TASK_KINDS}
        self._created = self._stored_bytes = 0

    def acknowledged(self, seconds: float) -> None:
        """A delivery was answered 200, `seconds` after its head was read."""
        self._answers[200] += 1
        self._acknowledgements.add(seconds)

    def answered(self, status: int) -> None:
        """A delivery was answered something else."""
        self._answers[status] += 1

    def refused(self, status: int) -> None:
        """A client's request was refused by the guard."""
        self._refusals[status] += 1

    def task(self, kind: TaskKind, outcome: Outcome, seconds: float) -> None:
        """A task was tried."""
        self._tasks[kind, outcome] += 1
        self._task_seconds[kind].add(seconds)

    def created(self) -> None:
        """A generation was committed for a client."""
        self._created += 1

    def stored(self, size_bytes: int) -> None:
        """An image was stored, and is kept."""
        self._stored_bytes += size_bytes

    async def exposition(self, runtime: GenerationRuntime) -> bytes:
        """Everything as Prometheus reads it (`CONTENT_TYPE`). Without the state store, what the process knows."""
        stats, ready = None, False
        try:
            async with asyncio.timeout(STATE_WAIT):
                stats = await runtime.stats()
                await runtime.ready()
                ready = True
        except (StateUnavailable, TimeoutError):
            pass
        return generate_latest(_Families(self._own(), _of_state(stats, ready=ready)))

    def _own(self) -> Iterator[Metric]:
        yield self._build
        yield from self._registry.collect()
        yield _by_status(
            "webhook_answers", "Answers to webhook deliveries; 401 is a wrong or missing token.", self._answers
        )
        acknowledgements = HistogramMetricFamily(
            f"{_PREFIX}webhook_acknowledgement_seconds", "From the head of a delivery to its 200, with the commit."
        )
        self._acknowledgements.tell(acknowledgements)
        yield acknowledgements
        yield _by_status(
            "requests_refused", "Requests of clients that were refused before they were looked at.", self._refusals
        )
        tasks = CounterMetricFamily(
            f"{_PREFIX}tasks", "Tasks that were tried, by what came of it.", labels=("kind", "outcome")
        )
        for labels, count in self._tasks.items():
            tasks.add_metric(labels, count)
        yield tasks
        seconds = HistogramMetricFamily(
            f"{_PREFIX}task_duration_seconds", "How long one try of a task took.", labels=("kind",)
        )
        for kind, durations in self._task_seconds.items():
            durations.tell(seconds, (kind,))
        yield seconds
        yield _counter("generations_created", "Generations that were accepted from clients.", self._created)
        yield _counter("stored_bytes", "Bytes of the images that were stored.", self._stored_bytes)


class _Families:
    """What is written out once."""

    def __init__(self, *families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return chain(*self._families)


def _of_state(stats: Stats | None, *, ready: bool) -> Iterator[Metric]:
    """What the state store says; nothing of it is shown while it cannot be read, for an old number would be a lie."""
    yield _gauge("up", "Whether the state store can be read and can commit.", float(ready))
    if stats is None:
        return
    yield _gauge("generations_running", "Generations that are not complete.", stats.running)
    yield _gauge("generations_projection_failed", "Generations the read model refused.", stats.projection_failed)
    ended = CounterMetricFamily(
        f"{_PREFIX}generations_ended", "Generations that this process completed.", labels=("status",)
    )
    for status in ("completed", "failed"):
        ended.add_metric((status,), stats.ended.get(status, 0))
    yield ended
    depth = GaugeMetricFamily(f"{_PREFIX}tasks_open", "Tasks that wait or are being performed.", labels=("kind",))
    for kind in TASK_KINDS:
        depth.add_metric((kind,), stats.tasks.get(kind, 0))
    yield depth
    yield _gauge("oldest_task_age_seconds", "How long the oldest of them has been open.", stats.oldest_task)
    yield _gauge("tasks_parked", "Tasks that nobody tries any more until a person says so.", stats.parked)
    yield _gauge("deliveries_unclaimed", "Deliveries that belonged to nothing here.", stats.unclaimed)
    yield _gauge(
        "spent_today_dollars",
        "What this UTC day has cost, with what is reserved for images without a cost yet.",
        stats.spent_today_micros / 1_000_000,
    )


def _by_status(name: str, documentation: str, counts: Mapping[int, int]) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, documentation, labels=("status",))
    for status, count in counts.items():
        family.add_metric((str(status),), count)
    return family


def _counter(name: str, documentation: str, value: float) -> Metric:
    return CounterMetricFamily(_PREFIX + name, documentation, value)


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(_PREFIX + name, documentation, value)
