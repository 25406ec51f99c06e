"""The runtime for many machines: state in PostgreSQL, tasks as jobs of PgQueuer, any number of processes.

No register is kept in memory: each batch locks and reads what it works on, so that any process may work on any
generation. See `postgres_batch` for a transaction, `postgres_jobs` for tasks.
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from runware_provider.durable import (
    TASK_KINDS,
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
from runware_provider.durable import postgres_store as store
from runware_provider.durable.gathering import Gathering
from runware_provider.durable.handout import Handout
from runware_provider.durable.lanes import LANES, Lanes
from runware_provider.durable.postgres_batch import (
    Call,
    Creation,
    End,
    Entry,
    Job,
    Keep,
    Unclaimed,
    Writes,
    run,
)
from runware_provider.durable.postgres_check import advise, check_state
from runware_provider.durable.postgres_creation import admit
from runware_provider.durable.postgres_jobs import ASK, Jobs
from runware_provider.durable.postgres_listener import Listener
from runware_provider.durable.postgres_pool import FAILURES, Connection, is_passing, open_pool, said, unavailable
from runware_provider.durable.postgres_schema import GONE, require_head
from runware_provider.durable.records import STAGGER, STAGGER_WAIT, day_of, marks_of, not_found, to_ms
from runware_provider.durable.watchers import Watchers
from runware_provider.errors import StateUnavailable
from runware_provider.generation import Generation
from runware_provider.logs import get_logger
from runware_provider.register import decode, decode_request, encode_request
from runware_provider.schedule import Policy
from runware_provider.types import Ask, GenerationState, Request

log = get_logger()

T = TypeVar("T")

POOL = LANES + 8
"""Connections of one process at most, beside the one that listens."""

PATIENCE = 2.0
"""Seconds that a batch whose transaction had not come to its commit is tried again: a failover, a restart."""

TRY_AGAIN = 0.1

SWEEP, SWEEP_EVERY = 250, 1.0
"""Alarms that are called in one transaction, and the most seconds between two looks for those that are due."""

ALARM_AGAIN = timedelta(seconds=5)
"""An alarm that could not be called rings again after it."""

LEASE = timedelta(seconds=10)
STOP_WAIT = 5.0


class PostgresRuntime:
    """See `GenerationRuntime`. Opened by `open`; belongs to one event loop."""

    def __init__(self, url: str, pool: asyncpg.Pool, policy: Policy, clock: Clock, lease: timedelta) -> None:
        self._pool = pool
        self._policy = policy
        self._clock = clock
        self._worker: Worker | None = None
        self._prices: dict[str, int] = {}
        self._ended: Counter[str] = Counter()
        self._stopped = False
        self._being_made: dict[UUID, asyncio.Future[Any]] = {}
        self._part = int.from_bytes(os.urandom(2), "big") >> 2  # a row of spend of our own, or nearly
        self._watchers = Watchers()
        self._rows = Gathering(lambda ids: self._with(lambda connection: store.read(connection, ids)))
        self._registers = Gathering(lambda ids: self._with(lambda connection: store.read_registers(connection, ids)))
        self._handout = Handout(self, freed=lambda kind: self._jobs.freed(kind))
        self._jobs = Jobs(pool, self._handout, self._ask, lease=lease)
        self._lanes: Lanes[Job] = Lanes(self._settle)
        self._alarm_set = asyncio.Event()
        self._soonest_ms = 0
        self._background: list[asyncio.Task[None]] = []
        self._listener = Listener(url, changed=self._hear, jobs=self._jobs.hear, missed=self._catch_up)

    @classmethod
    async def open(cls, url: str, policy: Policy, clock: Clock, *, lease: timedelta | None = None) -> "PostgresRuntime":
        """Connect to the state at `url`. `lease`: how long a process may be silent before others take its tasks
        over; None is `LEASE`.

        Raises ConfigurationError when the database cannot be used or its schema is not there, StateTooNew.
        """
        pool = await open_pool(url, POOL)
        try:
            async with pool.acquire() as connection:
                await require_head(connection, url)
        except BaseException:
            pool.terminate()
            raise
        runtime = cls(url, pool, policy, clock, lease or LEASE)
        await runtime._listener.begun()
        return runtime

    # The protocol

    async def create(self, birth: Birth) -> Created:
        """See `GenerationRuntime.create`."""
        request = encode_request(birth.request)
        future = self._submit(lambda future: Creation(birth, request, future))
        self._being_made[birth.id] = future
        try:
            created: Created = await asyncio.shield(future)
            return created
        finally:
            self._being_made.pop(birth.id, None)

    async def call(self, generation_id: UUID, step: Step, reply: Reply[T], *, done: Assignment | None = None) -> T:
        """See `GenerationRuntime.call`."""
        made = self._being_made.get(generation_id)
        if made is not None and not made.done():
            await asyncio.wait((made,))  # who knows the id comes after its creation
        answer: T = await self._submit(lambda future: Call(generation_id, step, reply, future, done))
        return answer

    async def finish(self, assignment: Assignment) -> None:
        """See `GenerationRuntime.finish`."""
        await self._submit(lambda future: End(assignment, future))

    async def get_state(self, generation_id: UUID) -> GenerationState:
        """See `GenerationRuntime.get_state`."""
        register, request = await self._read(generation_id)
        return Generation(decode(register), self._policy).get_state(decode_request(request))

    async def get_request(self, generation_id: UUID) -> Request:
        """See `GenerationRuntime.get_request`."""
        return decode_request((await self._read(generation_id))[1])

    async def look(self, generation_id: UUID, reply: Reply[T]) -> T:
        """See `GenerationRuntime.look`."""
        register = await self._registers.get(generation_id)
        if register is None:
            raise not_found(generation_id)
        return reply(Generation(decode(register), self._policy))

    async def changed(self, generation_id: UUID, *, after: int, marks: int = 0) -> int:
        """See `GenerationRuntime.changed`."""

        async def read() -> tuple[int, int]:
            if marks:
                return await self.look(generation_id, lambda generation: (generation.version, marks_of(generation)))
            return await self._with(lambda connection: store.read_version(connection, generation_id)), 0

        return await self._watchers.wait(generation_id, after, marks, read)

    def news(self) -> AbstractContextManager[News]:
        """See `GenerationRuntime.news`."""
        return self._watchers.follow()

    def release(self) -> None:
        """See `GenerationRuntime.release`."""
        self._watchers.release()

    async def ready(self) -> None:
        """See `GenerationRuntime.ready`."""
        if await self._with(lambda connection: connection.fetchval("SHOW transaction_read_only")) == "on":
            raise StateUnavailable("the state store cannot commit: the database is read-only")

    async def ids(self, *, flag: Flag | None = None, after: UUID | None = None, limit: int = 500) -> Sequence[UUID]:
        """See `GenerationRuntime.ids`."""
        return await self._with(lambda connection: store.ids(connection, flag, after, limit))

    async def keep_unclaimed(self, generation_id: UUID | None, reason: str, body: bytes, now: datetime) -> None:
        """See `GenerationRuntime.keep_unclaimed`."""
        delivery = Unclaimed(generation_id, reason, body, to_ms(now))
        await self._submit(lambda future: Keep(delivery, future))

    async def unclaimed(self, *, limit: int = 100, after: int = 0) -> Sequence[UnclaimedDelivery]:
        """See `GenerationRuntime.unclaimed`."""
        return await self._with(lambda connection: store.unclaimed(connection, limit, after))

    async def forget_unclaimed(self, numbers: Sequence[int]) -> None:
        """See `GenerationRuntime.forget_unclaimed`."""
        await self._with(lambda connection: store.forget_unclaimed(connection, numbers))

    async def parked(self, *, limit: int = 100) -> Sequence[Parked]:
        """See `GenerationRuntime.parked`."""
        return await self._with(lambda connection: store.parked(connection, limit))

    async def unpark(self, generation_id: UUID | None = None) -> int:
        """See `GenerationRuntime.unpark`."""
        number = await self._in_transaction(lambda connection: store.unpark(connection, generation_id))
        self._jobs.wake()
        return number

    async def secret(self, name: str, make: Callable[[], str]) -> str:
        """See `GenerationRuntime.secret`."""
        return await self._in_transaction(lambda connection: store.secret(connection, name, make()))

    async def stats(self) -> Stats:
        """See `GenerationRuntime.stats`."""
        stats = await self._with(lambda connection: store.stats(connection, day_of(self._clock())))
        return replace(stats, ended=dict(self._ended))

    async def advice(self) -> Sequence[str]:
        """See `GenerationRuntime.advice`."""
        return await self._with(advise)

    async def check(self) -> Sequence[str]:
        """See `GenerationRuntime.check`."""
        return await self._with(check_state)

    def start(self, worker: Worker, *, slots: Mapping[TaskKind, int]) -> None:
        """See `GenerationRuntime.start`."""
        self._worker = worker
        self._handout.start(worker.perform, {kind: slots.get(kind, 0) for kind in TASK_KINDS})
        self._jobs.start(slots)
        self._background += [
            asyncio.ensure_future(self._ring()),
            asyncio.ensure_future(self._look_after_running()),
        ]

    async def stop(self, *, grace: float = 10.0) -> None:
        """See `GenerationRuntime.stop`."""
        if self._stopped:
            return
        self._stopped = True
        for task in self._background:
            task.cancel()
        if self._background:
            await asyncio.wait(self._background)
        await self._jobs.stop(grace)
        await self._lanes.close()
        self._watchers.release()
        await self._listener.close()
        try:
            async with asyncio.timeout(STOP_WAIT):
                await self._pool.close()
        except (TimeoutError, *FAILURES):
            self._pool.terminate()

    # What the hand-out needs

    async def pick_up(self, assignment: Assignment) -> None:
        """Nothing: who takes a dead process's jobs over has counted it."""

    async def park(self, assignment: Assignment, error: str) -> None:
        """Commit that nobody tries this task any more."""
        now_ms = to_ms(self._clock())
        await self._in_transaction(lambda connection: store.park(connection, assignment.number, error[:2_000], now_ms))

    # Transactions

    def _submit(self, make: Callable[["asyncio.Future[Any]"], Job]) -> "asyncio.Future[Any]":
        future = _future()
        self._lanes.submit(make(future))
        return future

    async def _settle(self, batch: Sequence[Job]) -> None:
        """One transaction for a batch; when its content cannot be written, in halves, down to what is to blame."""
        try:
            outcomes = await self._trying(lambda connection: self._commit(connection, batch))
        except FAILURES as error:
            if not is_passing(error) and len(batch) > 1:
                middle = len(batch) // 2
                await self._settle(batch[:middle])
                await self._settle(batch[middle:])
                return
            outcomes = dict.fromkeys(batch, unavailable(error))
        for job in batch:
            if job.settled.done():
                continue
            outcome = outcomes[job]
            if isinstance(outcome, Exception):
                job.settled.set_exception(outcome)
            else:
                job.settled.set_result(outcome)

    async def _trying(self, work: Callable[[Connection], Awaitable[T]], *, repeatable: bool = False) -> T:
        """`work`: again while nothing can have been committed, or after any loss when it may be done twice."""
        until = asyncio.get_running_loop().time() + PATIENCE
        while True:
            begun = False
            try:
                async with self._pool.acquire() as connection:
                    begun = True
                    return await work(connection)
            except _NotCommitted as failure:
                error = failure.error
            except FAILURES as failure:
                if begun and not repeatable:
                    raise
                error = failure
            if asyncio.get_running_loop().time() > until or not is_passing(error):
                raise error
            await asyncio.sleep(TRY_AGAIN)

    async def _commit(self, connection: Connection, batch: Sequence[Job]) -> dict[Job, Any]:
        calls = [job for job in batch if isinstance(job, Call)]
        creations = [job for job in batch if isinstance(job, Creation)]
        outcomes: dict[Any, Any] = {}
        async with _transaction(connection):
            rows = await store.lock(connection, {call.key for call in calls}) if calls else []
            entries, refused = run(calls, rows, self._policy)
            outcomes.update(refused)
            born: dict[Creation, Entry] = {}
            if creations:
                born, told = await admit(connection, creations, self._policy)
                outcomes.update(told)
            writes = Writes(
                done=[job.done.number for job in batch if isinstance(job, End)],
                unclaimed=[job.delivery for job in batch if isinstance(job, Keep)],
            )
            await self._write(connection, [*entries.values(), *born.values()], writes)
        for entry in entries.values():
            outcomes.update(entry.replies())
        self._committed(writes)
        return {job: outcomes.get(job) for job in batch}

    async def _write(self, connection: Connection, entries: Iterable[Entry], writes: Writes) -> None:
        clock_ms = to_ms(self._clock())
        for entry in entries:
            writes.add(entry, clock_ms, self._prices)
        if self._worker is None:  # somebody who has one must ask
            for generation_id, ask in writes.asks:
                writes.tasks.append((ASK, json.dumps([str(generation_id), [str(ask.task_uuid), ask.details]]).encode()))
        if writes:
            await store.write(connection, writes, part=self._part)

    def _committed(self, writes: Writes) -> None:
        for model, micros in writes.prices.items():
            self._prices[model] = max(micros, self._prices.get(model, 0))
        self._ended.update(writes.ended)
        for number in writes.done:
            self._handout.ended(number)
        if writes.tasks:
            self._jobs.wake({kind for kind, _ in writes.tasks})
        if self._watchers:
            for generation_id, version, marks in writes.news:
                self._watchers.tell(generation_id, version, marks)
            for generation_id in writes.expired:
                self._watchers.gone(generation_id)
        if self._worker is not None:
            for generation_id, ask in writes.asks:
                self._ask(generation_id, ask)
            self._note_alarms(row[3] for row in (*writes.born, *writes.updated))

    async def _with(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Read, or write what may be written twice."""
        try:
            return await self._trying(work, repeatable=True)
        except FAILURES as error:
            raise unavailable(error, "answer") from error

    async def _in_transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async def wrapped(connection: Connection) -> T:
            async with connection.transaction():
                return await work(connection)

        return await self._with(wrapped)

    async def _read(self, generation_id: UUID) -> tuple[str, str]:
        row = await self._rows.get(generation_id)
        if row is None:
            raise not_found(generation_id)
        return row

    # Alarms

    async def _ring(self) -> None:
        """Call alarms when they are due, whichever process set them."""
        while True:
            self._alarm_set.clear()
            self._soonest_ms = to_ms(self._clock() + timedelta(seconds=SWEEP_EVERY))
            try:
                if await self._trying(self._sweep) == SWEEP:
                    continue
                self._note_alarms([await self._with(store.next_due)])
            except (StateUnavailable, *FAILURES) as error:
                log.warning("alarms_not_called", reason=said(error))
            with suppress(TimeoutError):
                while True:
                    self._alarm_set.clear()
                    wait = self._soonest_ms - to_ms(self._clock())
                    async with asyncio.timeout(max(wait, 1) / 1000):
                        await self._alarm_set.wait()

    def _note_alarms(self, alarms_ms: Iterable[int | None]) -> None:
        """Sweep no later than the first of these."""
        soonest = min((each for each in alarms_ms if each is not None), default=None)
        if soonest is not None and soonest < self._soonest_ms:
            self._soonest_ms = soonest
            self._alarm_set.set()

    async def _sweep(self, connection: Connection) -> int:
        async with _transaction(connection):
            rows = await store.lock_due(connection, to_ms(self._clock()), SWEEP)
            entries, refused = run([self._alarm(row.id, _future()) for row in rows], rows, self._policy)
            for call, error in refused.items():
                log.error("alarm_failed", id=str(call.key), reason=said(error))
            writes = Writes(alarms=[(call.key, to_ms(self._clock() + ALARM_AGAIN)) for call in refused])
            await self._write(connection, entries.values(), writes)
        self._committed(writes)
        return len(rows)

    def _alarm(self, generation_id: UUID, settled: "asyncio.Future[Any]") -> Call:
        return Call(generation_id, lambda generation: generation.alarm(self._clock()), _nothing, settled, rung=True)

    async def _look_after_running(self) -> None:
        """Call every running generation once at the start, a few at a time: deliveries may have been lost meanwhile."""
        position: UUID | None = None
        while True:
            try:
                page = await self.ids(flag="running", after=position, limit=STAGGER)
                if not page:
                    return
                await asyncio.gather(*(self._call_alarm(each) for each in page))
                position = page[-1]
            except StateUnavailable as error:
                log.warning("running_not_read", reason=str(error))
            await asyncio.sleep(STAGGER_WAIT)

    async def _call_alarm(self, generation_id: UUID) -> None:
        try:
            await self._submit(lambda future: self._alarm(generation_id, future))
        except Exception as error:
            log.exception("alarm_failed", id=str(generation_id), reason=said(error))

    # News

    def _ask(self, generation_id: UUID, ask: Ask) -> None:
        try:
            if self._worker is not None:
                self._worker.ask(generation_id, ask)
        except Exception:
            log.exception("ask_failed", id=str(generation_id))

    def _hear(self, generation_id: UUID, version: int, marks: int | None) -> None:
        if version == GONE:
            self._watchers.gone(generation_id)
        else:
            self._watchers.tell(generation_id, version, marks)

    async def _catch_up(self) -> None:
        """What was committed while nobody listened."""
        self._watchers.lose()
        watched = self._watchers.ids()
        if watched:
            found = dict(await self._with(lambda connection: store.versions(connection, watched)))
            for generation_id in watched:
                self._hear(generation_id, found.get(generation_id, GONE), None)


class _NotCommitted(Exception):
    """A transaction failed before its commit was asked for: the same may be tried again."""

    def __init__(self, error: Exception) -> None:
        self.error = error


@asynccontextmanager
async def _transaction(connection: Connection) -> AsyncIterator[None]:
    """Commits at the end of the block. What goes wrong before that raises _NotCommitted."""
    transaction = connection.transaction()
    try:
        await transaction.start()
        yield
    except BaseException as error:
        with suppress(*FAILURES):  # the connection is gone, and the transaction with it
            await transaction.rollback()
        if isinstance(error, FAILURES):
            raise _NotCommitted(error) from error
        raise
    await transaction.commit()


def _future() -> "asyncio.Future[Any]":
    return asyncio.get_running_loop().create_future()


def _nothing(_: Generation) -> None:
    return None
