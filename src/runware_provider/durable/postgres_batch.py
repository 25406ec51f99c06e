"""One transaction over many generations: what its jobs ask of it, and what it has to write.

Registers are read and locked in order of id before any job runs, so that two batches never wait for each other in a
circle. A job that raises leaves no trace: the others of its generation are run again without it.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from runware_provider.durable import Assignment, Birth, Created, Step
from runware_provider.durable.records import (
    FLAGS,
    day_of,
    encode_task,
    flags_of,
    from_ms,
    marks_of,
    not_found,
    status_of,
    to_ms_after,
)
from runware_provider.generation import Generation
from runware_provider.register import decode, encode
from runware_provider.schedule import Policy
from runware_provider.types import Ask, Dispatch, Expire, Forget, KeepUnclaimed, Order, Project, Purge, StoreOutput


@dataclass(slots=True, eq=False)
class Call:
    """A step on one generation. `rung`: it is the call of its alarm."""

    key: UUID
    step: Step
    reply: Callable[[Generation], Any]
    settled: "asyncio.Future[Any]"
    done: Assignment | None = None
    rung: bool = False


@dataclass(slots=True, eq=False)
class Creation:
    """A generation to be made. All creations of a process are one after the other: they share the limits."""

    birth: Birth
    request: str
    settled: "asyncio.Future[Created]"
    key: str = "creation"


@dataclass(slots=True, eq=False)
class End:
    """A task that ends without a call."""

    done: Assignment
    settled: "asyncio.Future[None]"
    key: None = None


@dataclass(slots=True, eq=False)
class Keep:
    """A delivery that has nowhere to go."""

    delivery: "Unclaimed"
    settled: "asyncio.Future[None]"
    key: str = "unclaimed"


@dataclass(slots=True, frozen=True)
class Unclaimed:
    """What is kept of it. `at_ms`: when it came."""

    generation_id: UUID | None
    reason: str
    body: bytes
    at_ms: int


Job = Call | Creation | End | Keep


@dataclass(slots=True, frozen=True)
class Row:
    """One generation as it is kept."""

    id: UUID
    flags: int
    alarm_ms: int | None
    register: str


@dataclass(slots=True)
class _Applied:
    job: Call
    orders: list[Order]
    reply: Any


class Entry:
    """One locked generation, and the jobs that were applied to it."""

    __slots__ = ("applied", "born", "first_orders", "generation", "id", "kept_version", "row", "spent_before", "text")

    def __init__(self, row: Row | None, generation: Generation) -> None:
        self.id = generation.register.id
        self.row = row
        self.generation = generation
        self.kept_version = generation.version if row else -1
        self.spent_before = generation.spent_micros() if row else 0
        self.applied: list[_Applied] = []
        self.first_orders: list[Order] = []
        self.born: str | None = None
        self.text = ""

    @classmethod
    def load(cls, row: Row, policy: Policy) -> "Entry":
        """Raises StateDamaged, StateTooNew."""
        return cls(row, Generation(decode(row.register), policy))

    @classmethod
    def make(cls, generation: Generation, orders: list[Order], request: str) -> "Entry":
        """One that is to be inserted. Raises what `encode` raises."""
        entry = cls(None, generation)
        entry.first_orders = orders
        entry.born = request
        entry.text = encode(generation.register)
        return entry

    def apply(self, job: Call) -> None:
        """Run a job's step and reply; when either raises, nothing of it stays and its exception comes out."""
        try:
            orders = job.step(self.generation)
            self.applied.append(_Applied(job, orders, job.reply(self.generation)))
        except BaseException:
            self._again([each.job for each in self.applied])
            raise

    def encoded(self) -> dict[Call, Exception]:
        """Encode the register into `text`; those of its jobs that made it what cannot be encoded are taken back."""
        if not self.changed:
            return {}
        with suppress(Exception):  # pydantic's, of many kinds
            self.text = encode(self.generation.register)
            return {}
        jobs = [each.job for each in self.applied]
        kept: list[Call] = []
        refused: dict[Call, Exception] = {}
        for job in jobs:
            try:
                self._again([*kept, job])
                self.text = encode(self.generation.register)
                kept.append(job)
            except Exception as error:  # noqa: BLE001
                refused[job] = error
        self._again(kept)
        return refused

    def _again(self, jobs: Sequence[Call]) -> None:
        """From the text that is kept, with these jobs only."""
        if self.row is None:
            raise RuntimeError("what is not kept yet has no jobs")
        self.generation = Generation(decode(self.row.register), self.generation.policy)
        self.applied = []
        for job in jobs:
            orders = job.step(self.generation)
            self.applied.append(_Applied(job, orders, job.reply(self.generation)))

    def replies(self) -> dict["Call", Any]:
        """What each job is told."""
        return {each.job: each.reply for each in self.applied}

    @property
    def changed(self) -> bool:
        """Whether the register is another one than is kept."""
        return self.generation.version != self.kept_version

    @property
    def rung(self) -> bool:
        """Whether its alarm was called."""
        return any(each.job.rung for each in self.applied)


@dataclass(slots=True)
class Writes:
    """What a batch has to write: rows, jobs for the queue, ends of tasks, money. `news`: versions and their marks."""

    updated: list[tuple[UUID, int, int, int | None, str]] = field(default_factory=list)
    born: list[tuple[UUID, int, int, int | None, str]] = field(default_factory=list)
    news: list[tuple[UUID, int, int]] = field(default_factory=list)
    requests: list[tuple[UUID, str]] = field(default_factory=list)
    alarms: list[tuple[UUID, int | None]] = field(default_factory=list)
    tasks: list[tuple[str, bytes]] = field(default_factory=list)
    asks: list[tuple[UUID, Ask]] = field(default_factory=list)
    unclaimed: list[Unclaimed] = field(default_factory=list)
    forgotten: list[UUID] = field(default_factory=list)
    expired: list[UUID] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    spend: dict[int, int] = field(default_factory=dict)
    prices: dict[str, int] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)

    def add(self, entry: Entry, clock_ms: int, known_prices: dict[str, int]) -> None:
        """Take what the jobs of `entry` made of it."""
        expires = False
        self.done += [each.job.done.number for each in entry.applied if each.job.done is not None]
        for orders in (entry.first_orders, *(each.orders for each in entry.applied)):
            for order in orders:
                match order:
                    case Ask():
                        self.asks.append((entry.id, order))
                    case KeepUnclaimed(reason=reason, body=body):
                        self.unclaimed.append(Unclaimed(entry.id, reason, body, clock_ms))
                    case Forget():
                        self.forgotten.append(entry.id)
                    case Expire():
                        expires = True
                    case _:
                        self.tasks.append((type(order).__name__, payload(entry.id, order)))
        if expires:
            self.expired.append(entry.id)
            return
        generation = entry.generation
        alarm_ms = self._alarm(entry, clock_ms)
        if entry.changed:
            row = (entry.id, generation.version, flags_of(generation), alarm_ms, entry.text)
            (self.born if entry.row is None else self.updated).append(row)
            self.news.append((entry.id, generation.version, marks_of(generation)))
            if entry.row and entry.row.flags & FLAGS["running"] and generation.register.completed_at is not None:
                self.ended.append(status_of(generation))
            self._add_money(entry, known_prices)
        elif entry.row is not None and entry.rung:
            self.alarms.append((entry.id, alarm_ms))
        if entry.born is not None:
            self.requests.append((entry.id, entry.born))

    def _alarm(self, entry: Entry, clock_ms: int) -> int | None:
        kept = entry.row.alarm_ms if entry.row else None
        if kept is not None and kept <= clock_ms and not entry.rung:
            return kept  # due, and what it is for has not been done
        at = entry.generation.alarm_at(from_ms(clock_ms))
        return None if at is None else to_ms_after(at)

    def _add_money(self, entry: Entry, known_prices: dict[str, int]) -> None:
        generation = entry.generation
        spent, cost = generation.costs_micros()
        difference = spent - entry.spent_before
        if difference:
            day = day_of(generation.register.created_at)
            self.spend[day] = self.spend.get(day, 0) + difference
        model = generation.register.model
        if model is not None and cost > max(known_prices.get(model, 0), self.prices.get(model, 0)):
            self.prices[model] = cost

    def __bool__(self) -> bool:
        return any(
            (self.updated, self.born, self.alarms, self.tasks, self.unclaimed, self.forgotten, self.expired, self.done)
        )


def payload(generation_id: UUID, task: Dispatch | StoreOutput | Project | Purge) -> bytes:
    """A task as a job of the queue."""
    return json.dumps([str(generation_id), encode_task(task)]).encode()


def run(calls: Sequence[Call], rows: Sequence[Row], policy: Policy) -> tuple[dict[UUID, Entry], dict[Call, Exception]]:
    """Apply `calls` to `rows` in their order; what was refused, with its reason, beside what came of the rest."""
    kept = {row.id: row for row in rows}
    entries: dict[UUID, Entry] = {}
    refused: dict[Call, Exception] = {}
    for call in calls:
        row = kept.get(call.key)
        try:
            if row is None:
                raise not_found(call.key)  # noqa: TRY301  told like every other
            entry = entries.get(call.key)
            if entry is None:
                entry = entries[call.key] = Entry.load(row, policy)
            entry.apply(call)
        except Exception as error:  # noqa: BLE001  whatever a step raises goes to the one who submitted it
            refused[call] = error
    for entry in entries.values():
        refused.update(entry.encoded())
    return entries, refused
