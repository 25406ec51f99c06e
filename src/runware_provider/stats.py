"""What the service does, spends, keeps and fails at, in numbers for people."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field

from runware_provider.context import Context
from runware_provider.errors import ConfigurationError, ProjectionUnavailable
from runware_provider.types import DayOfModel, Storage, Time

KEPT = 10.0
"""Seconds for which sums over the read model are told again."""

STORAGE_KEPT = 300.0
"""The same for what is stored, which reads a row of every image."""

MINUTES = 60


class StatsArgs(BaseModel):
    """`days`: how far back spend and failures go, today included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days: int = Field(14, ge=1, le=92)


class ServiceStats(BaseModel):
    """State as it is now; `spend`, `failures` and `stored` from the read model, at most some seconds old."""

    at: Time
    running: int = Field(description="Generations in flight.")
    max_in_flight: int
    tasks: Mapping[str, int] = Field(description="By kind: waiting or being performed.")
    oldest_task_seconds: float
    parked: int = Field(description="Tasks that nobody tries any more until a person says so.")
    unclaimed: int = Field(description="Deliveries that belong to nothing here.")
    projection_failed: int
    spent_today_micros: int = Field(description="With what is reserved for images without a cost yet.")
    daily_budget_micros: int | None
    webhooks_per_minute: list[int] = Field(description="Of this process, the last hour, the oldest first.")
    days: int
    spend: list[DayOfModel]
    failures: Mapping[str, int] = Field(description="Generations of these days that have an error, by its code.")
    stored: Storage | None
    incomplete: str | None = Field(description="Why the read model could not be asked, when it could not.")


class Statistics:
    """Numbers of one service. Whoever asks while sums are made waits for the same sums."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._sums: dict[int, tuple[float, asyncio.Task[tuple[list[DayOfModel], Mapping[str, int]]]]] = {}
        self._storage: tuple[float, asyncio.Task[Storage]] | None = None

    async def stats(self, args: StatsArgs) -> ServiceStats:
        """Everything. Without the read model, what state knows. Raises StateUnavailable."""
        ctx = self._ctx
        stats = await ctx.runtime.stats()
        spend: list[DayOfModel] = []
        failures: Mapping[str, int] = {}
        stored, incomplete = None, None
        try:
            spend, failures = await asyncio.shield(self._sums_of(args.days))
            stored = await asyncio.shield(self._stored())
        except (ProjectionUnavailable, ConfigurationError) as error:
            incomplete = str(error)
        budget = ctx.settings.daily_budget
        return ServiceStats(
            at=ctx.clock(),
            running=stats.running,
            max_in_flight=ctx.settings.max_in_flight,
            tasks=stats.tasks,
            oldest_task_seconds=stats.oldest_task,
            parked=stats.parked,
            unclaimed=stats.unclaimed,
            projection_failed=stats.projection_failed,
            spent_today_micros=stats.spent_today_micros,
            daily_budget_micros=None if budget is None else int(budget * 1_000_000),
            webhooks_per_minute=[ctx.tally.acknowledged.within(1, ending=age) for age in reversed(range(MINUTES))],
            days=args.days,
            spend=spend,
            failures=failures,
            stored=stored,
            incomplete=incomplete,
        )

    def _sums_of(self, days: int) -> "asyncio.Task[tuple[list[DayOfModel], Mapping[str, int]]]":
        now = asyncio.get_running_loop().time()
        kept = self._sums.get(days)
        if kept is None or _stale(kept[1], now - kept[0], KEPT):
            self._sums = {other: each for other, each in self._sums.items() if not _stale(each[1], now - each[0], KEPT)}
            kept = self._sums[days] = now, asyncio.create_task(self._sum(days), name="stats")
        return kept[1]

    async def _sum(self, days: int) -> tuple[list[DayOfModel], Mapping[str, int]]:
        since = _begin(self._ctx.clock(), days)
        return list(await self._ctx.projection.spend(since)), await self._ctx.projection.failures(since)

    def _stored(self) -> "asyncio.Task[Storage]":
        now = asyncio.get_running_loop().time()
        if self._storage is None or _stale(self._storage[1], now - self._storage[0], STORAGE_KEPT):
            self._storage = now, asyncio.create_task(self._ctx.projection.storage(), name="stats-storage")
        return self._storage[1]


def _stale(task: "asyncio.Task[object]", age: float, limit: float) -> bool:
    """Whether sums must be made anew: they are old, or could not be made."""
    return task.done() and (age > limit or task.cancelled() or task.exception() is not None)


def _begin(now: datetime, days: int) -> datetime:
    """The moment before the first of the last `days` UTC days."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(days=days - 1, milliseconds=1)
