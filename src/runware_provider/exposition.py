"""Everything as Prometheus reads it: what the process counted, and what the state store says at each scrape."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from itertools import chain

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from runware_provider.durable import TASK_KINDS, GenerationRuntime, Stats
from runware_provider.errors import StateUnavailable
from runware_provider.metrics import Metrics

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

STATE_WAIT = 5.0
"""Seconds that a scrape waits for the state store; Prometheus itself waits 10 for the whole."""

_PREFIX = "runware_provider_"


async def exposition(metrics: Metrics, runtime: GenerationRuntime) -> bytes:
    """Everything (`CONTENT_TYPE`). Without the state store, what the process knows."""
    stats, ready = None, False
    try:
        async with asyncio.timeout(STATE_WAIT):
            stats = await runtime.stats()
            await runtime.ready()
            ready = True
    except (StateUnavailable, TimeoutError):
        pass
    return generate_latest(_Families(_counted(metrics), _of_state(stats, ready=ready)))


def _counted(metrics: Metrics) -> Iterator[Metric]:
    yield InfoMetricFamily(f"{_PREFIX}build", "This release.", {"version": version("runware-provider")})
    yield from _of_the_process().collect()
    yield _by_status(
        "webhook_answers", "Answers to webhook deliveries; 401 is a wrong or missing token.", metrics.answers
    )
    acknowledgements = HistogramMetricFamily(
        f"{_PREFIX}webhook_acknowledgement_seconds", "From the head of a delivery to its 200, with the commit."
    )
    acknowledgements.add_metric((), metrics.acknowledgements.buckets(), metrics.acknowledgements.total)
    yield acknowledgements
    yield _by_status(
        "requests_refused", "Requests of clients that were refused before they were looked at.", metrics.refusals
    )
    tasks = CounterMetricFamily(
        f"{_PREFIX}tasks", "Tasks that were tried, by what came of it.", labels=("kind", "outcome")
    )
    for labels, count in metrics.tasks.items():
        tasks.add_metric(labels, count)
    yield tasks
    seconds = HistogramMetricFamily(
        f"{_PREFIX}task_duration_seconds", "How long one try of a task took.", labels=("kind",)
    )
    for kind, durations in metrics.task_seconds.items():
        seconds.add_metric((kind,), durations.buckets(), durations.total)
    yield seconds
    yield _counter("generations_created", "Generations that were accepted from clients.", metrics.generations_created)
    yield _counter("stored_bytes", "Bytes of the images that were stored.", metrics.stored_bytes)


@cache
def _of_the_process() -> CollectorRegistry:
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    return registry


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
