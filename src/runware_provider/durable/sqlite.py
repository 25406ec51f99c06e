"""The embedded runtime: one process, one SQLite file, group commit.

Steps and statements of a batch run on the event loop's thread, which takes microseconds. Only COMMIT, which waits for
the disk, runs in a thread, and the next batch gathers meanwhile. (With statements in a writer thread, a busy loop
starves it: each statement would wait for the GIL.)

Registers that were used lately are kept decoded. A batch changes them before its commit, but nobody sees them before:
the next batch waits for the commit, readers read the file, and a batch that fails throws its registers away.
"""

import asyncio
import sqlite3
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from runware_provider.durable import (
    Assignment,
    Birth,
    Clock,
    Created,
    Flag,
    Parked,
    Reply,
    Stats,
    Step,
    TaskKind,
    UnclaimedDelivery,
    Worker,
)
from runware_provider.durable.alarms import Alarms
from runware_provider.durable.handout import Handout
from runware_provider.durable.sqlite_store import FLAGS, SqliteStore, Write, to_ms, to_ms_after
from runware_provider.errors import GenerationNotFound, IdempotencyConflict, StateUnavailable
from runware_provider.generation import Generation
from runware_provider.logs import get_logger
from runware_provider.register import decode, decode_request, encode, encode_request
from runware_provider.schedule import Policy
from runware_provider.types import Ask, Forget, GenerationState, KeepUnclaimed, Order, Request

log = get_logger()

T = TypeVar("T")

MAX_BATCH = 512
CACHED_REGISTERS = 4_096
CACHED_BYTES = 8 * 1024 * 1024
"""Of registers as text; decoded they take several times that."""
LEFT_OVER_PAGE = 500
READ_AGAIN = 2.0
"""Seconds before a read that failed is tried again."""

ALARM_HORIZON = timedelta(minutes=10)
ALARM_PAGE = 5_000
UNCLAIMED_LIMIT = 10_000
UNCLAIMED_BYTES = 256 * 1024 * 1024


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@dataclass(slots=True)
class _Entry:
    """A register in memory; `flags` and `alarm_ms` are what the file says, `size` is its text's."""

    number: int
    generation: Generation
    flags: int
    alarm_ms: int | None
    size: int = 0


@dataclass(slots=True)
class _Batch:
    """What a batch has done so far, to be written, and to be told once it is committed."""

    touched: dict[UUID, _Entry] = field(default_factory=dict)
    changed: dict[UUID, int] = field(default_factory=dict)
    born: dict[UUID, tuple[_Entry, str, tuple[str, str] | None]] = field(default_factory=dict)
    keys: dict[str, tuple[UUID, str]] = field(default_factory=dict)
    tasks: list[Assignment] = field(default_factory=list)
    done: list[int] = field(default_factory=list)
    asks: list[tuple[UUID, Ask]] = field(default_factory=list)
    forgotten: list[int] = field(default_factory=list)
    statements: list[Callable[[], Any]] = field(default_factory=list)
    alarms: dict[UUID, int | None] = field(default_factory=dict)
    written: dict[UUID, Write] = field(default_factory=dict)
    silenced: list[_Entry] = field(default_factory=list)
    given: list[Assignment] = field(default_factory=list)
    parked: int = 0
    unclaimed: int = 0
    unclaimed_bytes: int = 0

    def writes(self) -> bool:
        return bool(
            self.changed or self.born or self.tasks or self.done or self.forgotten or self.statements or self.silenced
        )


_Job = Callable[[_Batch], Any]


class _Refused(Exception):
    """A job that had changed nothing when it found that it must not be done; carries what its caller is told."""

    def __init__(self, told: Exception) -> None:
        self.told = told


class SqliteRuntime:
    """See `GenerationRuntime`. `path` is the state file; only one process may have it open."""

    def __init__(self, path: Path, policy: Policy, clock: Clock = utc_now) -> None:
        self._policy = policy
        self._clock = clock
        self._store = SqliteStore(path)
        self._committer = ThreadPoolExecutor(1, "commit")
        self._queue: list[tuple[_Job, asyncio.Future[Any]]] = []
        self._wake = asyncio.Event()
        self._cache: OrderedDict[UUID, _Entry] = OrderedDict()
        self._cached_bytes = 0
        self._watchers: dict[UUID, list[asyncio.Future[int]]] = {}
        self._handout = Handout(self)
        self._alarms = Alarms(lambda: to_ms(self._clock()), self._ring)
        self._worker: Worker | None = None
        counts = self._store.counts()
        self._flag_counts = counts.flags
        self._parked = counts.parked
        self._unclaimed, self._unclaimed_bytes = counts.unclaimed, counts.unclaimed_bytes
        self._left_over = Counter(counts.tasks)
        self._left_over_before = self._store.next_task
        self._background: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._loop_task = asyncio.get_running_loop().create_task(self._run(), name="sqlite-runtime")

    # The protocol

    async def create(self, birth: Birth) -> Created:
        """See `GenerationRuntime.create`."""
        request = encode_request(birth.request)

        def job(batch: _Batch) -> Created:
            if birth.idempotency is not None:
                key, digest = birth.idempotency
                known = batch.keys.get(key) or self._store.idempotent(key)
                if known is not None:
                    if known[1] != digest:
                        raise _Refused(
                            IdempotencyConflict(
                                "this Idempotency-Key was used with another input; send a new key for a new request"
                            )
                        )
                    return Created(known[0], created=False)
            if birth.id in batch.born or self._store.load(birth.id) is not None:
                return Created(birth.id, created=False)  # called again after StateUnavailable
            if birth.idempotency is not None:
                batch.keys[birth.idempotency[0]] = (birth.id, birth.idempotency[1])
            generation, orders = Generation.init(
                id=birth.id,
                task_uuid=birth.task_uuid,
                expected=birth.expected,
                now=birth.now,
                deadline=birth.deadline,
                policy=self._policy,
            )
            entry = _Entry(self._store.next_number, generation, 0, None)
            self._store.next_number += 1
            batch.born[birth.id] = (entry, request, birth.idempotency)
            batch.touched[birth.id] = entry
            self._carry_out(batch, birth.id, entry, orders)
            return Created(birth.id, created=True)

        return await self._submit(job)

    async def call(self, generation_id: UUID, step: Step, reply: Reply[T], *, done: Assignment | None = None) -> T:
        """See `GenerationRuntime.call`."""

        def job(batch: _Batch) -> T:
            entry = self._entry(batch, generation_id)
            before = entry.generation.version
            orders = step(entry.generation)
            if entry.generation.version != before:
                batch.changed[generation_id] = entry.generation.version
            if done is not None:
                batch.done.append(done.number)
            self._carry_out(batch, generation_id, entry, orders)
            return reply(entry.generation)

        return await self._submit(job)

    async def finish(self, assignment: Assignment) -> None:
        """See `GenerationRuntime.finish`."""
        await self._submit(lambda batch: batch.done.append(assignment.number))

    async def get_state(self, generation_id: UUID) -> GenerationState:
        """See `GenerationRuntime.get_state`."""
        register, request = self._read(generation_id)
        return Generation(decode(register), self._policy).get_state(decode_request(request))

    async def get_request(self, generation_id: UUID) -> Request:
        """See `GenerationRuntime.get_request`."""
        return decode_request(self._read(generation_id)[1])

    def _read(self, generation_id: UUID) -> tuple[str, str]:
        row = _reading(lambda: self._store.read(generation_id))
        if row is None:
            raise _not_found(generation_id)
        return row

    async def changed(self, generation_id: UUID, *, after: int) -> int:
        """See `GenerationRuntime.changed`."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        watchers = self._watchers.setdefault(generation_id, [])
        watchers.append(future)
        try:
            version = _reading(lambda: self._store.read_version(generation_id))
            if version is None:
                raise _not_found(generation_id)
            while version <= after:
                version = await future
                future = asyncio.get_running_loop().create_future()
                self._watchers.setdefault(generation_id, []).append(future)
            return version
        finally:
            remaining = self._watchers.get(generation_id, [])
            if future in remaining:
                remaining.remove(future)
            if not remaining:
                self._watchers.pop(generation_id, None)

    async def ids(self, *, flag: Flag | None = None, after: UUID | None = None, limit: int = 500) -> Sequence[UUID]:
        """See `GenerationRuntime.ids`."""
        return _reading(lambda: self._store.ids(flag, after, limit))

    async def keep_unclaimed(self, generation_id: UUID | None, reason: str, body: bytes, now: datetime) -> None:
        """See `GenerationRuntime.keep_unclaimed`."""

        def job(batch: _Batch) -> None:
            batch.statements.append(partial(self._write_unclaimed, batch, generation_id, reason, body, to_ms(now)))

        await self._submit(job)

    async def unclaimed(self, *, limit: int = 100) -> Sequence[UnclaimedDelivery]:
        """See `GenerationRuntime.unclaimed`."""
        return _reading(lambda: self._store.unclaimed(limit))

    async def forget_unclaimed(self, numbers: Sequence[int]) -> None:
        """See `GenerationRuntime.forget_unclaimed`."""

        def job(batch: _Batch) -> None:
            def statement() -> None:
                count, size = self._store.forget_unclaimed(numbers)
                batch.unclaimed -= count
                batch.unclaimed_bytes -= size

            batch.statements.append(statement)

        await self._submit(job)

    async def parked(self, *, limit: int = 100) -> Sequence[Parked]:
        """See `GenerationRuntime.parked`."""
        return _reading(lambda: self._store.parked(limit))

    async def unpark(self, generation_id: UUID | None = None) -> int:
        """See `GenerationRuntime.unpark`."""

        def job(batch: _Batch) -> list[Assignment]:
            found: list[Assignment] = []

            def statement() -> None:
                found.extend(self._store.unpark(generation_id))
                batch.given.extend(found)
                batch.parked -= len(found)

            batch.statements.append(statement)
            return found

        return len(await self._submit(job))

    async def secret(self, name: str, make: Callable[[], str]) -> str:
        """See `GenerationRuntime.secret`."""

        def job(batch: _Batch) -> str:
            known = self._store.secret(name)
            if known is not None:
                return known
            secret = make()
            batch.statements.append(lambda: self._store.insert_secret(name, secret))
            return secret

        return await self._submit(job)

    def stats(self) -> Stats:
        """See `GenerationRuntime.stats`."""
        tasks = dict(self._left_over + Counter(self._handout.counts()))
        return Stats(
            running=self._flag_counts["running"],
            projection_failed=self._flag_counts["projection_failed"],
            tasks=tasks,
            parked=self._parked,
            unclaimed=self._unclaimed,
        )

    def start(self, worker: Worker, *, slots: Mapping[TaskKind, int]) -> None:
        """See `GenerationRuntime.start`."""
        self._worker = worker
        self._handout.start(worker.perform, slots)
        self._spawn(self._give_left_over(), "left-over-tasks")
        self._spawn(self._load_alarms(), "load-alarms")

    async def stop(self, *, grace: float = 10.0) -> None:
        """See `GenerationRuntime.stop`."""
        self._alarms.stop()
        await self._handout.stop(grace)
        for task in self._background:
            task.cancel()
        if self._background:
            await asyncio.wait(self._background)
        self._closed = True
        self._wake.set()
        await self._loop_task
        for watchers in self._watchers.values():
            for future in watchers:
                if not future.done():
                    future.set_exception(StateUnavailable("the runtime is closed"))
        self._committer.shutdown()
        self._store.close()

    # What the hand-out needs

    async def pick_up(self, assignment: Assignment) -> None:
        """Commit that one more start has picked this task up."""

        def job(batch: _Batch) -> None:
            batch.statements.append(lambda: self._store.pick_up(assignment.number))

        await self._submit(job)

    async def park(self, assignment: Assignment, error: str) -> None:
        """Commit that nobody tries this task any more."""
        now = to_ms(self._clock())

        def job(batch: _Batch) -> None:
            batch.statements.append(lambda: self._store.park(assignment.number, error[:2_000], now))
            batch.parked += 1

        await self._submit(job)

    # Batches

    def _submit(self, job: Callable[[_Batch], T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._closed:
            future.set_exception(StateUnavailable("the runtime is closed"))
            return future
        self._queue.append((job, future))
        self._wake.set()
        return future

    async def _run(self) -> None:
        while True:
            if not self._queue:
                if self._closed:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            jobs = self._queue[:MAX_BATCH]
            del self._queue[:MAX_BATCH]
            await self._settle(jobs)

    async def _settle(self, jobs: list[tuple[_Job, asyncio.Future[Any]]]) -> None:
        """Commit `jobs` together; when one of them is poisoned, in halves, down to it."""
        if not await self._commit(jobs):
            half = len(jobs) // 2
            await self._settle(jobs[:half])
            await self._settle(jobs[half:])

    async def _commit(self, jobs: list[tuple[_Job, asyncio.Future[Any]]]) -> bool:
        """Run and commit `jobs` together. False: nothing of them was kept, and nobody was told."""
        batch = _Batch()
        replies: list[Any] = []
        try:
            for job, _ in jobs:
                try:
                    replies.append(job(batch))
                except _Refused as refusal:
                    replies.append(refusal)
            self._prepare_alarms(batch)
            if batch.writes():
                self._store.begin()
                self._write(batch)
                await asyncio.get_running_loop().run_in_executor(self._committer, self._store.commit)
        except sqlite3.OperationalError as error:  # the disk or the file: it would be the same for each alone
            self._undo(batch)
            replies = [_Refused(_unavailable(error)) for _ in jobs]
        except Exception as error:  # noqa: BLE001  whatever a step raises goes to the one who called
            self._undo(batch)
            if len(jobs) > 1:
                return False
            replies = [_Refused(_unavailable(error) if isinstance(error, sqlite3.Error) else error)]
        else:
            self._committed(batch)
        for (_, future), reply in zip(jobs, replies, strict=True):
            if future.done():
                continue
            if isinstance(reply, _Refused):
                future.set_exception(reply.told)
            else:
                future.set_result(reply)
        return True

    def _undo(self, batch: _Batch) -> None:
        try:
            self._store.rollback()
        except sqlite3.Error as error:
            log.exception("rollback_failed", reason=str(error))
        for generation_id in batch.touched:
            if entry := self._cache.pop(generation_id, None):
                self._cached_bytes -= entry.size

    def _entry(self, batch: _Batch, generation_id: UUID) -> _Entry:
        entry = batch.touched.get(generation_id) or self._cache.get(generation_id)
        if entry is None:
            row = self._store.load(generation_id)
            if row is None:
                raise _Refused(_not_found(generation_id))
            generation = Generation(decode(row.register), self._policy)
            entry = _Entry(row.number, generation, row.flags, row.alarm_at, len(row.register))
        batch.touched[generation_id] = entry
        return entry

    def _carry_out(self, batch: _Batch, generation_id: UUID, entry: _Entry, orders: list[Order]) -> None:
        for order in orders:
            match order:
                case Ask():
                    batch.asks.append((generation_id, order))
                case KeepUnclaimed(reason=reason, body=body):
                    now_ms = to_ms(self._clock())
                    batch.statements.append(partial(self._write_unclaimed, batch, generation_id, reason, body, now_ms))
                case Forget():
                    batch.forgotten.append(entry.number)
                case _:
                    batch.tasks.append(Assignment(self._store.next_task, generation_id, order, 0))
                    self._store.next_task += 1

    def _prepare_alarms(self, batch: _Batch) -> None:
        now = self._clock()
        for generation_id, entry in batch.touched.items():
            at = entry.generation.alarm_at(now)
            batch.alarms[generation_id] = None if at is None else to_ms_after(at)
            unchanged = generation_id not in batch.changed and generation_id not in batch.born
            if unchanged and at is None and entry.alarm_ms is not None:
                # What rang and awaits nothing more must not ring again at every start.
                batch.silenced.append(entry)

    def _write(self, batch: _Batch) -> None:
        store = self._store
        for generation_id, (entry, request, idempotency) in batch.born.items():
            store.insert(generation_id, self._row(batch, generation_id, entry), request)
            if idempotency is not None:
                store.insert_idempotency(*idempotency, generation_id)
        store.update(
            self._row(batch, generation_id, batch.touched[generation_id])
            for generation_id in batch.changed
            if generation_id not in batch.born
        )
        if batch.tasks:
            store.insert_tasks(batch.tasks)
        if batch.done:
            store.end_tasks(batch.done)
        if batch.silenced:
            store.clear_alarms(entry.number for entry in batch.silenced)
        if batch.forgotten:
            store.forget_requests(batch.forgotten)
        for statement in batch.statements:
            statement()

    def _row(self, batch: _Batch, generation_id: UUID, entry: _Entry) -> Write:
        generation = entry.generation
        write = Write(
            generation.version,
            _flags(generation),
            batch.alarms[generation_id],
            encode(generation.register),
            entry.number,
        )
        batch.written[generation_id] = write
        return write

    def _write_unclaimed(
        self, batch: _Batch, generation_id: UUID | None, reason: str, body: bytes, now_ms: int
    ) -> None:
        digest = sha256(b"%b/%b" % (generation_id.bytes if generation_id else b"", body)).digest()
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

    def _committed(self, batch: _Batch) -> None:
        """Everything here is true now: remember it."""
        for entry in batch.silenced:
            entry.alarm_ms = None
        for generation_id, write in batch.written.items():
            entry = batch.touched[generation_id]
            for flag, bit in FLAGS.items():
                self._flag_counts[flag] += bool(write.flags & bit) - bool(entry.flags & bit)
            entry.flags, entry.alarm_ms = write.flags, write.alarm_at
            self._cached_bytes += len(write.register) - entry.size if generation_id in self._cache else 0
            entry.size = len(write.register)
        for generation_id, entry in batch.touched.items():
            if generation_id not in self._cache:
                self._cached_bytes += entry.size
                self._cache[generation_id] = entry
            else:
                self._cache.move_to_end(generation_id)
        while len(self._cache) > CACHED_REGISTERS or (self._cached_bytes > CACHED_BYTES and len(self._cache) > 1):
            self._cached_bytes -= self._cache.popitem(last=False)[1].size
        self._parked += batch.parked
        self._unclaimed += batch.unclaimed
        self._unclaimed_bytes += batch.unclaimed_bytes
        self._tell(batch)

    def _tell(self, batch: _Batch) -> None:
        """Hand over what was committed, and wake those who wait for it."""
        for number in batch.done:
            self._handout.ended(number)
        for assignment in (*batch.tasks, *batch.given):
            self._handout.give(assignment)
        if self._worker is not None:
            for generation_id, alarm_ms in batch.alarms.items():
                self._alarms.set(generation_id, alarm_ms)
            for generation_id, ask in batch.asks:
                try:
                    self._worker.ask(generation_id, ask)
                except Exception:
                    log.exception("ask_failed", id=str(generation_id))
        if self._watchers:
            for generation_id in batch.written:
                for future in self._watchers.pop(generation_id, ()):
                    if not future.done():
                        future.set_result(batch.written[generation_id].version)

    # Alarms and what was left over

    def _ring(self, due: list[UUID]) -> None:
        for generation_id in due:
            self._spawn(self._alarm(generation_id), "alarm")

    async def _alarm(self, generation_id: UUID) -> None:
        try:
            await self.call(generation_id, lambda generation: generation.alarm(self._clock()), lambda _: None)
        except GenerationNotFound:
            return
        except Exception as error:
            log.exception("alarm_failed", id=str(generation_id), reason=str(error)[:300])
            self._alarms.set(generation_id, to_ms(self._clock() + timedelta(seconds=5)))

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


def _flags(generation: Generation) -> int:
    register = generation.register
    running = register.completed_at is None and register.deleted_at is None
    return (FLAGS["running"] if running else 0) | (
        FLAGS["projection_failed"] if register.projection.error is not None else 0
    )


def _unavailable(error: sqlite3.Error) -> StateUnavailable:
    return StateUnavailable(f"the state store cannot commit: {error}. Check the disk's space and permissions")


def _not_found(generation_id: UUID) -> GenerationNotFound:
    return GenerationNotFound(f"there is no generation {generation_id}")


def _reading(read: Callable[[], T]) -> T:
    try:
        return read()
    except sqlite3.Error as error:
        raise StateUnavailable(f"the state store cannot be read: {error}") from error
