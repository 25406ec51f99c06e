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

CACHED_REGISTERS = 2_048
CACHED_SETTLED = 256
"""Of them, those whose life is over: they are read a last time and hardly ever again."""

CACHED_BYTES = 4 * 1024 * 1024
"""Of registers as text; decoded they take several times that."""

REQUEST_CHARACTERS = 2_048
"""A request up to this size is kept beside the register: it is read three times in a generation's life."""


@dataclass(slots=True, eq=False)
class Entry:
    """A register in memory; `flags` and `kept_alarm_ms` are what the file says, `size` is its text's.

    `alarm_ms` is later than the file's after alarms that changed nothing but their own time. `committed`: nothing of it
    waits for that. `shelf`: where it is among `Registers`. `request` is None when the file has to be asked.
    `next_alarm_ms`, `write` and `next_spent_micros` are what the batch that touched it wants, and mean nothing outside
    of it: one batch has it at a time.
    """

    id: UUID
    number: int
    generation: Generation
    flags: int
    alarm_ms: int | None
    kept_alarm_ms: int | None
    request: str | None = None
    size: int = 0
    spent_micros: int = 0
    next_alarm_ms: int | None = None
    write: Write | None = None
    next_spent_micros: int = 0
    committed: bool = True
    shelf: "Shelf | None" = None


Shelf = OrderedDict[int, Entry]
"""Here and in a batch a generation's key is the number of its id: a UUID's own hash and equality are Python."""


@dataclass(frozen=True, slots=True)
class Birthing:
    """A generation to be inserted."""

    entry: Entry
    request: str
    idempotency: tuple[str, str] | None


@dataclass(slots=True)
class Batch:
    """`touched`: every register that a job looked at; `rung`: those whose alarm was called.

    `spend`: what this adds to which day. The counts are differences.
    """

    touched: dict[int, Entry] = field(default_factory=dict)
    changed: set[Entry] = field(default_factory=set)
    born: dict[int, Birthing] = field(default_factory=dict)
    keys: dict[str, tuple[UUID, str]] = field(default_factory=dict)
    tasks: list[Assignment] = field(default_factory=list)
    unparked: list[Assignment] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    asks: list[tuple[UUID, Ask]] = field(default_factory=list)
    forgotten: list[int] = field(default_factory=list)
    expired: dict[int, Entry] = field(default_factory=dict)
    spend: dict[int, int] = field(default_factory=dict)
    prices: dict[str, int] = field(default_factory=dict)
    statements: list[Callable[[], Any]] = field(default_factory=list)
    rung: set[int] = field(default_factory=set)
    silenced: list[Entry] = field(default_factory=list)
    known_prices: Mapping[str, int] = field(default_factory=dict)
    parked: int = 0
    unclaimed: int = 0
    unclaimed_bytes: int = 0

    def written(self) -> list[tuple[Entry, Write]]:
        """What was written about which generation."""
        return [(entry, entry.write) for entry in self.touched.values() if entry.write is not None]

    def has_writes(self) -> bool:
        """Whether there is anything to commit."""
        facts = (self.changed, self.born, self.tasks, self.done, self.forgotten, self.expired)
        return any(facts) or bool(self.statements or self.silenced)

    def write(self, store: SqliteStore) -> None:
        """Write everything into the transaction that is open."""
        for birthing in self.born.values():
            store.insert(birthing.entry.id, self._row(birthing.entry), birthing.request)
            self.changed.discard(birthing.entry)
            if birthing.idempotency is not None:
                store.insert_idempotency(*birthing.idempotency, birthing.entry.id)
        self._update(store)
        if self.tasks:
            store.insert_tasks(self.tasks)
        if self.done:
            store.end_tasks(self.done)
        if self.silenced:
            store.clear_alarms(entry.number for entry in self.silenced)
        if self.forgotten:
            store.forget_requests(self.forgotten)
        if self.expired:
            store.expire(entry.number for entry in self.expired.values())
        for day, micros in self.spend.items():
            store.add_spend(day, micros)
        for model, micros in self.prices.items():
            store.raise_price(model, micros)
        for statement in self.statements:
            statement()

    def _update(self, store: SqliteStore) -> None:
        moved: list[Write] = []
        rewritten: list[Write] = []
        for entry in self.changed:
            write = self._row(entry)
            found_as_before = write.flags == entry.flags and write.alarm_at == entry.kept_alarm_ms
            (rewritten if found_as_before else moved).append(write)
        if moved:
            store.update(moved)
        if rewritten:
            store.rewrite(rewritten)

    def _row(self, entry: Entry) -> Write:
        generation = entry.generation
        spent, cost = generation.costs_micros()
        entry.next_spent_micros = spent
        if spent != entry.spent_micros:
            day = day_of(generation.register.created_at)
            self.spend[day] = self.spend.get(day, 0) + spent - entry.spent_micros
        model = generation.register.model
        if model is not None and cost > max(self.known_prices.get(model, 0), self.prices.get(model, 0)):
            self.prices[model] = cost
        text = encode(generation.register)
        entry.write = Write(generation.register.version, flags_of(generation), entry.next_alarm_ms, text, entry.number)
        return entry.write


class Registers:
    """Registers that were used lately, decoded; bounded by number and size. Few of those that nothing is awaited of."""

    def __init__(self) -> None:
        self._running: Shelf = OrderedDict()
        self._settled: Shelf = OrderedDict()
        self._bytes = 0

    def get(self, key: int) -> Entry | None:
        """The register, when it is here."""
        return self._running.get(key) or self._settled.get(key)

    def committed(self, generation_id: UUID) -> Entry | None:
        """The register, when it is here and as the file has it."""
        entry = self.get(generation_id.int)
        return entry if entry is not None and entry.committed else None

    def all(self) -> list[Entry]:
        """Those that are here."""
        return [*self._running.values(), *self._settled.values()]

    def forget(self, key: int) -> None:
        """It is no longer what the file says."""
        if entry := self.get(key):
            self._take(key, entry)

    def clear(self) -> None:
        """Forget them all."""
        self._running.clear()
        self._settled.clear()
        self._bytes = 0

    def remember(self, batch: Batch) -> None:
        """What `batch` touched is what the file says."""
        for entry in batch.silenced:
            entry.kept_alarm_ms = None
        for key, entry in batch.touched.items():
            entry.alarm_ms = entry.next_alarm_ms
            entry.committed = True
            size = entry.size
            if write := entry.write:
                entry.flags, entry.kept_alarm_ms, entry.size = write.flags, write.alarm_at, _size(entry, write)
                entry.spent_micros, entry.write = entry.next_spent_micros, None
            shelf = self._settled if entry.generation.settled else self._running
            if entry.shelf is shelf:
                shelf.move_to_end(key)
                self._bytes += entry.size - size
                continue
            if entry.shelf is not None:
                del entry.shelf[key]
                self._bytes -= size
            shelf[key], entry.shelf = entry, shelf
            self._bytes += entry.size
        for key in batch.expired:
            self.forget(key)
        while len(self._settled) > CACHED_SETTLED:
            self._drop(self._settled)
        while self._settled and (len(self._settled) + len(self._running) > CACHED_REGISTERS or self._is_large()):
            self._drop(self._settled)
        while len(self._running) > CACHED_REGISTERS or (self._is_large() and len(self._running) > 1):
            self._drop(self._running)

    def _is_large(self) -> bool:
        return self._bytes > CACHED_BYTES

    def _drop(self, shelf: Shelf) -> None:
        self._take(*next(iter(shelf.items())))

    def _take(self, key: int, entry: Entry) -> None:
        if entry.shelf is not None:
            del entry.shelf[key]
            entry.shelf = None
            self._bytes -= entry.size


def _size(entry: Entry, write: Write) -> int:
    return len(write.register) + len(entry.request or "")
