"""What a batch has done so far: to be written in one transaction, and to be told once it is committed."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from runware_provider.durable import Assignment
from runware_provider.durable.records import day_of, flags_of
from runware_provider.durable.sqlite_store import SqliteStore, Write
from runware_provider.generation import Generation
from runware_provider.register import encode
from runware_provider.types import Ask

CACHED_REGISTERS = 4_096
CACHED_BYTES = 8 * 1024 * 1024
"""Of registers as text; decoded they take several times that."""


@dataclass(slots=True)
class Entry:
    """A register in memory; `flags` and `kept_alarm_ms` are what the file says, `size` is its text's.

    `alarm_ms` is later than the file's after alarms that changed nothing but their own time.
    """

    number: int
    generation: Generation
    flags: int
    alarm_ms: int | None
    kept_alarm_ms: int | None
    size: int = 0
    spent_micros: int = 0


@dataclass(frozen=True, slots=True)
class Birthing:
    """A generation to be inserted."""

    entry: Entry
    request: str
    idempotency: tuple[str, str] | None


@dataclass(slots=True)
class Batch:
    """`touched`: every register that a job looked at; `rung`: those whose alarm was called; `alarms`: what all want.

    `spent`: what each that was written costs; `spend`: what that adds to which day. The counts are differences.
    """

    touched: dict[UUID, Entry] = field(default_factory=dict)
    changed: set[UUID] = field(default_factory=set)
    born: dict[UUID, Birthing] = field(default_factory=dict)
    keys: dict[str, tuple[UUID, str]] = field(default_factory=dict)
    tasks: list[Assignment] = field(default_factory=list)
    unparked: list[Assignment] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    asks: list[tuple[UUID, Ask]] = field(default_factory=list)
    forgotten: list[int] = field(default_factory=list)
    expired: dict[UUID, int] = field(default_factory=dict)
    spent: dict[UUID, int] = field(default_factory=dict)
    spend: dict[int, int] = field(default_factory=dict)
    prices: dict[str, int] = field(default_factory=dict)
    statements: list[Callable[[], Any]] = field(default_factory=list)
    rung: set[UUID] = field(default_factory=set)
    alarms: dict[UUID, int | None] = field(default_factory=dict)
    silenced: list[Entry] = field(default_factory=list)
    written: dict[UUID, Write] = field(default_factory=dict)
    known_prices: Mapping[str, int] = field(default_factory=dict)
    parked: int = 0
    unclaimed: int = 0
    unclaimed_bytes: int = 0

    def has_writes(self) -> bool:
        """Whether there is anything to commit."""
        facts = (self.changed, self.born, self.tasks, self.done, self.forgotten, self.expired)
        return any(facts) or bool(self.statements or self.silenced)

    def write(self, store: SqliteStore) -> None:
        """Write everything into the transaction that is open."""
        for generation_id, birthing in self.born.items():
            store.insert(generation_id, self._row(generation_id, birthing.entry), birthing.request)
            if birthing.idempotency is not None:
                store.insert_idempotency(*birthing.idempotency, generation_id)
        store.update(self._row(each, self.touched[each]) for each in self.changed if each not in self.born)
        if self.tasks:
            store.insert_tasks(self.tasks)
        if self.done:
            store.end_tasks(self.done)
        if self.silenced:
            store.clear_alarms(entry.number for entry in self.silenced)
        if self.forgotten:
            store.forget_requests(self.forgotten)
        if self.expired:
            store.expire(self.expired.values())
        for day, micros in self.spend.items():
            store.add_spend(day, micros)
        for model, micros in self.prices.items():
            store.raise_price(model, micros)
        for statement in self.statements:
            statement()

    def _row(self, generation_id: UUID, entry: Entry) -> Write:
        generation = entry.generation
        spent = self.spent[generation_id] = generation.spent_micros()
        if spent != entry.spent_micros:
            day = day_of(generation.register.created_at)
            self.spend[day] = self.spend.get(day, 0) + spent - entry.spent_micros
        model, cost = generation.register.model, generation.highest_cost_micros()
        if model is not None and cost > max(self.known_prices.get(model, 0), self.prices.get(model, 0)):
            self.prices[model] = cost
        text = encode(generation.register)
        write = Write(generation.version, flags_of(generation), self.alarms[generation_id], text, entry.number)
        self.written[generation_id] = write
        return write


class Registers:
    """Registers that were used lately, decoded; bounded by number and size."""

    def __init__(self) -> None:
        self._entries: OrderedDict[UUID, Entry] = OrderedDict()
        self._bytes = 0

    def get(self, generation_id: UUID) -> Entry | None:
        """The register, when it is here."""
        return self._entries.get(generation_id)

    def forget(self, generation_id: UUID) -> None:
        """It is no longer what the file says."""
        if entry := self._entries.pop(generation_id, None):
            self._bytes -= entry.size

    def remember(self, batch: Batch) -> None:
        """What `batch` touched is what the file says."""
        for entry in batch.silenced:
            entry.kept_alarm_ms = None
        for generation_id, entry in batch.touched.items():
            self.forget(generation_id)
            entry.alarm_ms = batch.alarms[generation_id]
            if write := batch.written.get(generation_id):
                entry.flags, entry.kept_alarm_ms, entry.size = write.flags, write.alarm_at, len(write.register)
                entry.spent_micros = batch.spent[generation_id]
            if generation_id not in batch.expired:
                self._entries[generation_id] = entry
                self._bytes += entry.size
        while len(self._entries) > CACHED_REGISTERS or (self._bytes > CACHED_BYTES and len(self._entries) > 1):
            self._bytes -= self._entries.popitem(last=False)[1].size
