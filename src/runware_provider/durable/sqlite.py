"""The embedded runtime: one process, one SQLite file, group commit.

Registers that were used lately are kept decoded. A batch changes them before its commit, but nobody sees them before:
the next batch waits for the commit, readers read the file, and a batch that fails throws its registers away.
"""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from runware_provider.durable import (
    Assignment,
    Birth,
    Clock,
    Created,
    Flag,
    News,
    Parked,
    Reply,
    Stats,
    Step,
    TaskKind,
    UnclaimedDelivery,
    Worker,
)
from runware_provider.durable.admission import made_before
from runware_provider.durable.alarms import Alarms
from runware_provider.durable.group_commit import GroupCommit, Refused
from runware_provider.durable.handout import Handout
from runware_provider.durable.money import Money
from runware_provider.durable.records import (
    FLAGS,
    STAGGER,
    STAGGER_WAIT,
    UNCLAIMED_BYTES,
    UNCLAIMED_LIMIT,
    day_of,
    digest_of,
    marks_of,
    not_found,
    status_of,
    to_ms,
    to_ms_after,
)
from runware_provider.durable.sqlite_batch import REQUEST_CHARACTERS, Batch, Birthing, Entry, Registers
from runware_provider.durable.sqlite_check import check_file
from runware_provider.durable.sqlite_store import SqliteStore
from runware_provider.durable.watchers import Watchers
from runware_provider.errors import (
    GenerationNotFound,
    IdempotencyConflict,
    OverBudget,
    StateUnavailable,
    TooManyInFlight,
)
from runware_provider.generation import Generation
from runware_provider.logs import get_logger
from runware_provider.register import decode, decode_request, encode_request
from runware_provider.schedule import Policy
from runware_provider.types import Ask, Expire, Forget, GenerationState, KeepUnclaimed, Order, Request

log = get_logger()

T = TypeVar("T")

LEFT_OVER_PAGE = 500
READ_AGAIN = 2.0
"""Seconds before a read that failed is tried again."""

RING_AGAIN = 5.0
"""Seconds before an alarm that could not be called rings again."""

ALARM_HORIZON = timedelta(minutes=10)
ALARM_PAGE = 5_000


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class SqliteRuntime:
    """See `GenerationRuntime`. `path` is the state file; only one process may have it open."""

    def __init__(self, path: Path, policy: Policy, clock: Clock = utc_now) -> None:
        self._policy = policy
        self._clock = clock
        self._store = SqliteStore(path)
        self._registers = Registers()
        self._watchers = Watchers()
        self._handout = Handout(self)
        self._alarms = Alarms(lambda: to_ms(self._clock()), self._ring)
        self._worker: Worker | None = None
        counts = self._store.counts()
        self._money = Money(counts.spend, counts.prices)
        self._flag_counts = counts.flags
        self._parked = counts.parked
        self._unclaimed, self._unclaimed_bytes = counts.unclaimed, counts.unclaimed_bytes
        self._left_over = Counter(counts.tasks)
        self._ended: Counter[str] = Counter()
        self._stopped = False
        self._left_over_before = self._store.next_task
        self._background: set[asyncio.Task[Any]] = set()
        self._commits = GroupCommit(self._open_batch, self)

    # The protocol

    def create(self, birth: Birth) -> asyncio.Future[Created]:
        """See `GenerationRuntime.create`."""
        request = encode_request(birth.request)

        def job(batch: Batch) -> Created:
            if birth.idempotency is not None:
                key = birth.idempotency[0]
                known = batch.keys.get(key) or self._store.idempotent(key)
                if known is not None:
                    try:
                        return made_before(birth, known)
                    except IdempotencyConflict as error:
                        raise Refused(error) from error
            if birth.id.int in batch.born or self._store.load(birth.id) is not None:
                return Created(birth.id, created=False)  # called again after StateUnavailable
            running = self._flag_counts["running"] + len(batch.born)
            if birth.max_in_flight is not None and running >= birth.max_in_flight:
                raise Refused(TooManyInFlight(birth.max_in_flight))
            try:
                price = self._money.admit(birth, batch)
            except OverBudget as error:
                raise Refused(error) from error
            if birth.idempotency is not None:
                batch.keys[birth.idempotency[0]] = (birth.id, birth.idempotency[1])
            generation, orders = Generation.init(
                id=birth.id,
                task_uuid=birth.task_uuid,
                expected=birth.expected,
                now=birth.now,
                deadline=birth.deadline,
                policy=self._policy,
                model=birth.model,
                price_micros=price,
            )
            kept = request if len(request) <= REQUEST_CHARACTERS else None
            entry = Entry(birth.id, self._store.next_number, generation, 0, None, None, kept)
            self._store.next_number += 1
            batch.born[birth.id.int] = Birthing(entry, request, birth.idempotency)
            batch.touched[birth.id.int] = entry
            self._carry_out(batch, entry, orders)
            return Created(birth.id, created=True)

        return self._commits.submit(job)

    def call(
        self, generation_id: UUID, step: Step, reply: Reply[T], *, done: Assignment | None = None
    ) -> asyncio.Future[T]:
        """See `GenerationRuntime.call`."""

        def job(batch: Batch) -> T:
            generation = self._step(batch, generation_id, step)
            if done is not None:
                batch.done.append(done.number)
            return reply(generation)

        return self._commits.submit(job)

    async def finish(self, assignment: Assignment) -> None:
        """See `GenerationRuntime.finish`."""
        await self._commits.submit(lambda batch: batch.done.append(assignment.number))

    async def get_state(self, generation_id: UUID) -> GenerationState:
        """See `GenerationRuntime.get_state`."""
        entry = self._registers.committed(generation_id)
        if entry is not None and entry.request is not None:
            return entry.generation.get_state(decode_request(entry.request))
        register, request = self._found(generation_id, self._store.read)
        return Generation(decode(register), self._policy).get_state(decode_request(request))

    async def get_request(self, generation_id: UUID) -> Request:
        """See `GenerationRuntime.get_request`."""
        entry = self._registers.committed(generation_id)
        if entry is not None and entry.request is not None:
            return decode_request(entry.request)
        return decode_request(self._found(generation_id, self._store.read)[1])

    async def look(self, generation_id: UUID, reply: Reply[T]) -> T:
        """See `GenerationRuntime.look`."""
        entry = self._registers.committed(generation_id)
        if entry is not None:
            return reply(entry.generation)
        return reply(Generation(decode(self._found(generation_id, self._store.read_register)), self._policy))

    def _found(self, generation_id: UUID, read: Callable[[UUID], T | None]) -> T:
        """What `read` reads of the file, which holds what is committed and nothing else."""
        row = _reading(lambda: read(generation_id))
        if row is None:
            raise not_found(generation_id)
        return row

    async def changed(self, generation_id: UUID, *, after: int, marks: int = 0) -> int:
        """See `GenerationRuntime.changed`."""

        async def read() -> tuple[int, int]:
            if marks:
                return await self.look(generation_id, lambda generation: (generation.version, marks_of(generation)))
            entry = self._registers.committed(generation_id)
            return entry.generation.version if entry else self._found(generation_id, self._store.read_version), 0

        return await self._watchers.wait(generation_id, after, marks, read)

    def news(self) -> AbstractContextManager[News]:
        """See `GenerationRuntime.news`."""
        return self._watchers.follow()

    def release(self) -> None:
        """See `GenerationRuntime.release`."""
        self._watchers.release()

    async def ready(self) -> None:
        """See `GenerationRuntime.ready`. A commit of nothing that matters, when the last one failed."""
        if self._commits.failed:
            await self._commits.submit(lambda batch: batch.statements.append(self._store.touch))

    async def ids(self, *, flag: Flag | None = None, after: UUID | None = None, limit: int = 500) -> Sequence[UUID]:
        """See `GenerationRuntime.ids`."""
        return _reading(lambda: self._store.ids(flag, after, limit))

    async def keep_unclaimed(self, generation_id: UUID | None, reason: str, body: bytes, now: datetime) -> None:
        """See `GenerationRuntime.keep_unclaimed`."""

        def job(batch: Batch) -> None:
            batch.statements.append(partial(self._write_unclaimed, batch, generation_id, reason, body, to_ms(now)))

        await self._commits.submit(job)

    async def unclaimed(self, *, limit: int = 100, after: int = 0) -> Sequence[UnclaimedDelivery]:
        """See `GenerationRuntime.unclaimed`."""
        return _reading(lambda: self._store.unclaimed(limit, after))

    async def forget_unclaimed(self, numbers: Sequence[int]) -> None:
        """See `GenerationRuntime.forget_unclaimed`."""

        def job(batch: Batch) -> None:
            def statement() -> None:
                count, size = self._store.forget_unclaimed(numbers)
                batch.unclaimed -= count
                batch.unclaimed_bytes -= size

            batch.statements.append(statement)

        await self._commits.submit(job)

    async def parked(self, *, limit: int = 100) -> Sequence[Parked]:
        """See `GenerationRuntime.parked`."""
        return _reading(lambda: self._store.parked(limit))

    async def unpark(self, generation_id: UUID | None = None) -> int:
        """See `GenerationRuntime.unpark`."""

        def job(batch: Batch) -> list[Assignment]:
            found: list[Assignment] = []

            def statement() -> None:
                found.extend(self._store.unpark(generation_id))
                batch.unparked.extend(found)
                batch.parked -= len(found)

            batch.statements.append(statement)
            return found

        return len(await self._commits.submit(job))

    async def secret(self, name: str, make: Callable[[], str]) -> str:
        """See `GenerationRuntime.secret`."""

        def job(batch: Batch) -> str:
            known = self._store.secret(name)
            if known is not None:
                return known
            secret = make()
            batch.statements.append(lambda: self._store.insert_secret(name, secret))
            return secret

        return await self._commits.submit(job)

    async def stats(self) -> Stats:
        """See `GenerationRuntime.stats`."""
        tasks = dict(self._left_over + Counter(self._handout.counts()))
        return Stats(
            running=self._flag_counts["running"],
            projection_failed=self._flag_counts["projection_failed"],
            spent_today_micros=self._money.spent(day_of(self._clock())),
            tasks=tasks,
            parked=self._parked,
            unclaimed=self._unclaimed,
            oldest_task=self._handout.oldest(),
            ended=dict(self._ended),
        )

    async def advice(self) -> Sequence[str]:
        """See `GenerationRuntime.advice`. How the file is used is not the operator's to set."""
        return ()

    async def check(self) -> Sequence[str]:
        """See `GenerationRuntime.check`."""
        return await asyncio.to_thread(check_file, self._store.path)

    def start(self, worker: Worker, *, slots: Mapping[TaskKind, int]) -> None:
        """See `GenerationRuntime.start`."""
        self._worker = worker
        self._handout.start(worker.perform, slots)
        self._spawn(self._give_left_over(), "left-over-tasks")
        self._spawn(self._load_alarms(), "load-alarms")
        # Read now: what is created from here on is nobody's left-over.
        self._spawn(self._look_after_running(self._running_after(None)), "look-after-running")

    async def stop(self, *, grace: float = 10.0) -> None:
        """See `GenerationRuntime.stop`."""
        if self._stopped:
            return
        self._stopped = True
        self._alarms.stop()
        await self._handout.stop(grace)
        for task in self._background:
            task.cancel()
        if self._background:
            await asyncio.wait(self._background)
        with suppress(StateUnavailable):
            await self._commits.submit(lambda batch: batch.statements.append(self._store.forgive))
        await self._commits.close()
        self._watchers.release()
        self._registers.clear()
        self._store.close()

    # What the hand-out needs

    async def pick_up(self, assignment: Assignment) -> None:
        """Commit that one more start has picked this task up."""

        def job(batch: Batch) -> None:
            batch.statements.append(lambda: self._store.pick_up(assignment.number))

        await self._commits.submit(job)

    async def park(self, assignment: Assignment, error: str) -> None:
        """Commit that nobody tries this task any more."""
        now = to_ms(self._clock())

        def job(batch: Batch) -> None:
            batch.statements.append(lambda: self._store.park(assignment.number, error[:2_000], now))
            batch.parked += 1

        await self._commits.submit(job)

    # What the group commit needs

    def _open_batch(self) -> Batch:
        return Batch(known_prices=self._money.prices)

    def write(self, batch: Batch) -> bool:
        """See `group_commit.Store`."""
        now = self._clock()
        now_ms = to_ms(now)
        for key, entry in batch.touched.items():
            if key in batch.expired:
                entry.next_alarm_ms = None
                continue
            rung = key in batch.rung
            if not rung and entry.alarm_ms is not None and entry.alarm_ms <= now_ms:
                entry.next_alarm_ms = entry.alarm_ms  # due, and what it is for has not been done
                continue
            at = entry.generation.alarm_at(now)
            entry.next_alarm_ms = None if at is None else to_ms_after(at)
            if rung and at is None and entry.kept_alarm_ms is not None and entry not in batch.changed:
                # What rang and awaits nothing more must not ring again at every start.
                batch.silenced.append(entry)
        if not batch.has_writes():
            return False
        self._store.begin()
        batch.write(self._store)
        return True

    def commit(self) -> None:
        """See `group_commit.Store`."""
        self._store.commit()

    def undo(self, batch: Batch) -> None:
        """See `group_commit.Store`."""
        try:
            self._store.rollback()
        except sqlite3.Error as error:
            log.exception("rollback_failed", reason=str(error))
        for key in batch.touched:
            self._registers.forget(key)

    def committed(self, batch: Batch) -> None:
        """See `group_commit.Store`: remember it, hand over its tasks, and wake those who wait for it."""
        self._count(batch)
        self._money.remember(batch)
        written = batch.written() if self._watchers else ()
        news = [(entry.id, write.version, marks_of(entry.generation)) for entry, write in written]
        self._registers.remember(batch)
        for number in batch.done:
            self._handout.ended(number)
        for assignment in (*batch.tasks, *batch.unparked):
            self._handout.give(assignment)
        if self._worker is not None:
            for entry in batch.touched.values():
                self._alarms.set(entry.id, entry.alarm_ms)
            for generation_id, ask in batch.asks:
                self._ask(generation_id, ask)
        for generation_id, version, marks in news:
            self._watchers.tell(generation_id, version, marks)
        for entry in batch.expired.values():
            self._watchers.gone(entry.id)

    def _count(self, batch: Batch) -> None:
        """Keep what `stats` says true."""
        for entry, write in batch.written():
            before = entry.flags
            if before == write.flags:
                continue
            if before & FLAGS["running"] and entry.generation.register.completed_at is not None:
                self._ended[status_of(entry.generation)] += 1
            for flag, bit in FLAGS.items():
                self._flag_counts[flag] += bool(write.flags & bit) - bool(before & bit)
        for entry in batch.expired.values():
            for flag, bit in FLAGS.items():
                self._flag_counts[flag] -= bool(entry.flags & bit)
        self._parked += batch.parked
        self._unclaimed += batch.unclaimed
        self._unclaimed_bytes += batch.unclaimed_bytes

    def _ask(self, generation_id: UUID, ask: Ask) -> None:
        try:
            if self._worker is not None:
                self._worker.ask(generation_id, ask)
        except Exception:
            log.exception("ask_failed", id=str(generation_id))

    # What jobs do

    def _step(self, batch: Batch, generation_id: UUID, step: Step) -> Generation:
        entry = self._entry(batch, generation_id)
        generation = entry.generation
        before = generation.register.version
        orders = step(generation)
        if generation.register.version != before:
            batch.changed.add(entry)
            entry.committed = False
        if orders:
            self._carry_out(batch, entry, orders)
        return generation

    def _entry(self, batch: Batch, generation_id: UUID) -> Entry:
        key = generation_id.int
        entry = batch.touched.get(key) or self._registers.get(key)
        if entry is None:
            row = self._store.load(generation_id)
            if row is None:
                raise Refused(not_found(generation_id))
            generation = Generation(decode(row.register), self._policy)
            size, spent = len(row.register), generation.spent_micros()
            entry = Entry(
                generation_id, row.number, generation, row.flags, row.alarm_at, row.alarm_at, None, size, spent
            )
        batch.touched[key] = entry
        return entry

    def _carry_out(self, batch: Batch, entry: Entry, orders: list[Order]) -> None:
        for order in orders:
            match order:
                case Ask():
                    batch.asks.append((entry.id, order))
                case KeepUnclaimed(reason=reason, body=body):
                    now_ms = to_ms(self._clock())
                    batch.statements.append(partial(self._write_unclaimed, batch, entry.id, reason, body, now_ms))
                case Forget():
                    batch.forgotten.append(entry.number)
                    entry.request = None
                case Expire():
                    batch.expired[entry.id.int] = entry
                case _:
                    batch.tasks.append(Assignment(self._store.next_task, entry.id, order, 0))
                    self._store.next_task += 1

    def _write_unclaimed(self, batch: Batch, generation_id: UUID | None, reason: str, body: bytes, now_ms: int) -> None:
        digest = digest_of(generation_id, body)
        if not self._store.keep_unclaimed(generation_id, reason, body, digest, now_ms):
            return
        batch.unclaimed += 1
        batch.unclaimed_bytes += len(body)
        while (
            self._unclaimed + batch.unclaimed > UNCLAIMED_LIMIT
            or self._unclaimed_bytes + batch.unclaimed_bytes > UNCLAIMED_BYTES
        ):
            dropped = self._store.drop_oldest_unclaimed()
            if dropped is None:
                return
            batch.unclaimed -= 1
            batch.unclaimed_bytes -= dropped

    # Alarms and what was left over

    def _ring(self, due: list[UUID]) -> None:
        for generation_id in due:
            self._spawn(self._alarm(generation_id), "alarm")

    async def _alarm(self, generation_id: UUID) -> None:
        def job(batch: Batch) -> None:
            batch.rung.add(generation_id.int)
            self._step(batch, generation_id, lambda generation: generation.alarm(self._clock()))

        try:
            await self._commits.submit(job)
        except GenerationNotFound:
            return
        except Exception as error:
            log.exception("alarm_failed", id=str(generation_id), reason=str(error)[:300])
            self._alarms.set(generation_id, to_ms(self._clock() + timedelta(seconds=RING_AGAIN)))

    async def _load_alarms(self) -> None:
        """Know of the alarms of the next minutes; those far away stay in the file."""
        while True:
            horizon = to_ms(self._clock() + ALARM_HORIZON)
            position = (-1, b"")
            try:
                while page := self._store.alarms(position, horizon, ALARM_PAGE):
                    for at_ms, generation_id in page:
                        if generation_id not in self._alarms:
                            self._alarms.set(generation_id, at_ms)
                    position = (page[-1][0], page[-1][1].bytes)
                    await asyncio.sleep(0)
            except sqlite3.Error as error:
                log.error("alarms_not_read", reason=str(error))  # noqa: TRY400  the next round tries again
                await asyncio.sleep(READ_AGAIN)
            else:
                await asyncio.sleep(ALARM_HORIZON.total_seconds() / 2)

    async def _look_after_running(self, page: Sequence[UUID]) -> None:
        """Call every running generation once at the start, a few at a time: deliveries may have been lost meanwhile."""
        while page:
            self._ring(list(page))
            await asyncio.sleep(STAGGER_WAIT)
            page = self._running_after(page[-1])

    def _running_after(self, position: UUID | None) -> Sequence[UUID]:
        try:
            return self._store.ids("running", position, STAGGER)
        except sqlite3.Error as error:
            log.error("running_not_read", reason=str(error))  # noqa: TRY400  their own alarms ring later
            return ()

    async def _give_left_over(self) -> None:
        """Give what an earlier process left, a page at a time."""
        position, end = 0, self._left_over_before
        while True:
            try:
                page = self._store.tasks(after=position, before=end, limit=LEFT_OVER_PAGE)
            except sqlite3.Error as error:
                log.error("tasks_not_read", reason=str(error))  # noqa: TRY400  tried again
                await asyncio.sleep(READ_AGAIN)
                continue
            if not page:
                self._left_over.clear()
                return
            for assignment in page:
                self._left_over[type(assignment.task).__name__] -= 1
                if not self._handout.knows(assignment.number):  # unless it was unparked meanwhile
                    self._handout.give(assignment, left_over=True)
            position = page[-1].number
            await self._handout.fewer_than(LEFT_OVER_PAGE)

    def _spawn(self, coroutine: Any, name: str) -> None:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _reading(read: Callable[[], T]) -> T:
    try:
        return read()
    except sqlite3.Error as error:
        raise StateUnavailable(f"the state store cannot be read: {error}") from error
