"""When the register wants to be woken: backoffs and the times at which Runware is asked. Pure functions of time."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID
from zlib import crc32

STORE_WINDOW = timedelta(hours=24)
"""How long a failure that is not about the image itself is tried on."""

LATE_ASKS = (timedelta(0), timedelta(hours=1), timedelta(hours=6), timedelta(hours=24))
"""When the client has been told the outcome and results are still missing: asked again this long after the deadline."""

LONGEST_WAIT = timedelta(hours=1)
"""The most that a `Retry-After` is followed."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The operator's patience. `undo`: how long a delete can be taken back. `retention`: None keeps for ever."""

    delivery: Literal["webhook", "poll"] = "webhook"
    patience: timedelta = timedelta(minutes=2)
    store_patience: timedelta = timedelta(minutes=2)
    undo: timedelta = timedelta(seconds=30)
    retention: timedelta | None = None


def backoff(attempt: int, *, cap: timedelta, seed: UUID, wish: timedelta | None = None) -> timedelta:
    """The wait after failed attempt number `attempt` (from 1): 1 s doubling to `cap`, spread by a quarter either way.

    The spread comes from `seed`, not from chance: the same register waits the same time. `wish` is a `Retry-After`.
    """
    exact = min(cap, timedelta(seconds=2 ** min(attempt - 1, 20)))
    spread = 0.75 + crc32(seed.bytes + attempt.to_bytes(4, "big")) / 2**33
    return max(exact * spread, min(wish or timedelta(0), LONGEST_WAIT))


def next_ask(
    now: datetime, *, since: datetime, deadline: datetime, policy: Policy, unknown: bool, told: bool
) -> datetime | None:
    """The next time after `now` at which Runware is to be asked about a task that was dispatched at `since`.

    Polling: after 1 s, then ×1.5 up to every 10 s. With webhooks: after 30 s, then doubling, for a missed delivery.
    An outcome that is unknown: from 5 s on, and when `patience` ends. All: at the deadline, then until answered.
    Once the client has been `told` an outcome with results missing: at `LATE_ASKS`.
    """
    since = min(since, now)  # the wall clock may have been set back between two starts
    if told:
        return next((deadline + late for late in LATE_ASKS if deadline + late > now), None)
    if now >= deadline:
        return _next_point(now, deadline, 2.0, 1.5, 60.0)
    if unknown:
        settle = since + policy.patience
        point = _next_point(now, since, 5.0, 2.0, 60.0) if now < settle else _next_point(now, settle, 5.0, 1.5, 30.0)
        point = min(point, settle) if now < settle else point
    elif policy.delivery == "poll":
        point = _next_point(now, since, 1.0, 1.5, 10.0)
    else:
        point = _next_point(now, since, 30.0, 2.0, 600.0)
    return min(point, deadline)


def _next_point(now: datetime, start: datetime, gap: float, factor: float, cap: float) -> datetime:
    """The first point after `now` of a series from `start` whose gaps (seconds) grow by `factor` to `cap`."""
    elapsed = (now - start).total_seconds()
    point = gap
    while point <= elapsed:
        if gap >= cap:
            return start + timedelta(seconds=point + cap * ((elapsed - point) // cap + 1))
        gap = min(cap, gap * factor)
        point += gap
    return start + timedelta(seconds=point)
