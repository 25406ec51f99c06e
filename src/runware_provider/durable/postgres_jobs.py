"""Takes jobs from PgQueuer's queue for this process's worker, and takes over those of processes that died.

PgQueuer's own loop is not used, its tables and statements are: a job ends in the transaction of the call that ended
its task, a slot that gets free is filled at once, and a death is counted, so that a job that kills is parked.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Final, Literal
from uuid import UUID, uuid4

import asyncpg
from pgqueuer.domain.models import Job
from pgqueuer.domain.types import QueueEntrypoint, QueueManagerId
from pgqueuer.queries import EntrypointExecutionParameter

from runware_provider.durable import Assignment, TaskKind
from runware_provider.durable.handout import SUSPICIOUS, Handout
from runware_provider.durable.postgres_pool import FAILURES, Connection, said
from runware_provider.durable.postgres_schema import jobs
from runware_provider.durable.records import decode_task
from runware_provider.logs import get_logger
from runware_provider.types import Ask

log = get_logger()

Kind = TaskKind | Literal["Ask"]

ASK: Final = "Ask"
"""The kind of job by which a process without a worker puts a question. Losing one does no harm."""

TAKE: Final = 64
"""Jobs that are taken at once."""

OPEN_LIMIT: Final = 2_000
"""Jobs that a process holds at most, those that wait for another try among them."""

POLL: Final = 2.0
"""Seconds between looks at the queue of which no notification spoke: jobs that were put off, or a lost notification."""

GATHERING: Final = 0.004
"""Seconds that notifications gather before they are followed: every node hears of every job."""

AGAIN: Final = 0.5
SUSPECT_WAIT: Final = timedelta(milliseconds=100)
RECLAIM: Final = 500
NEVER: Final = timedelta(days=1)
LOG_KEPT: Final = timedelta(hours=1)
LOG_TRIM: Final = 20_000

_WAITING: Final = (
    "SELECT kind FROM unnest($1::text[]) kind WHERE EXISTS "
    "(SELECT FROM pgqueuer WHERE entrypoint = kind AND status = 'queued' AND execute_after < now())"
)


class Jobs:
    """`lease`: how long a process may be silent before its jobs are taken over by others."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        handout: Handout,
        ask: Callable[[UUID, Ask], None],
        *,
        lease: timedelta,
    ) -> None:
        self._pool = pool
        self._handout = handout
        self._ask = ask
        self._lease = lease
        self._id = QueueManagerId(uuid4())
        self._kinds: list[Kind] = []
        self._promising: set[Kind] = set()
        self._news = asyncio.Event()
        self._stopping = False
        self._hearing = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, slots: Mapping[TaskKind, int]) -> None:
        """Begin to take jobs of the kinds that have slots."""
        self._kinds = [*(kind for kind, number in slots.items() if number > 0), ASK]
        self.wake()
        seconds = self._lease.total_seconds()
        for work, every in ((self._beat, seconds / 4), (self._reclaim, seconds / 5), (self._trim, 60.0)):
            self._spawn(self._repeat(work, every))
        self._spawn(self._run())

    def wake(self, kinds: Iterable[str] | None = None) -> None:
        """There may be something to take, of these kinds or of any."""
        self._promising.update(self._kinds if kinds is None else (kind for kind in self._kinds if kind in kinds))
        self._news.set()

    def hear(self) -> None:
        """Some node has put jobs into the queue: look soon, once for all that is heard of until then."""
        if not self._hearing:
            self._hearing = True
            asyncio.get_running_loop().call_later(GATHERING, self._heard)

    def _heard(self) -> None:
        self._hearing = False
        self.wake()

    def freed(self, kind: TaskKind) -> None:
        """A slot of this kind is free."""
        if kind in self._promising:
            self._news.set()

    async def stop(self, grace: float) -> None:
        """Take nothing more, let what runs finish, and give the rest back to the others."""
        self._stopping = True
        await self._handout.stop(grace)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        try:
            async with self._pool.acquire() as connection:
                await self._put_off(connection, self._handout.open(), timedelta(0))
        except FAILURES as error:
            log.warning("jobs_not_given_back", reason=said(error))

    def _spawn(self, work: Awaitable[None]) -> None:
        self._tasks.append(asyncio.ensure_future(work))

    @staticmethod
    async def _repeat(work: Callable[[], Awaitable[None]], every: float) -> None:
        while True:
            await asyncio.sleep(every)
            try:
                await work()
            except FAILURES as error:
                log.warning("state_not_reached", reason=said(error))

    async def _run(self) -> None:
        while not self._stopping:
            self._news.clear()
            try:
                await self._handout.fewer_than(OPEN_LIMIT)
                await self._take([kind for kind in self._promising if kind == ASK or self._handout.free(kind)])
            except FAILURES as error:
                log.warning("jobs_not_taken", reason=said(error))
                await asyncio.sleep(AGAIN)
                self.wake()
                continue
            if any(kind == ASK or self._handout.free(kind) for kind in self._promising):
                continue
            try:
                async with asyncio.timeout(POLL):
                    await self._news.wait()
            except TimeoutError:
                self.wake()

    async def _take(self, kinds: Sequence[Kind]) -> None:
        """Take what there are slots for."""
        if not kinds:
            return
        self._promising.difference_update(kinds)
        try:
            async with self._pool.acquire() as connection:
                # A notification wakes every node, and most find nothing: that must cost them one statement.
                waiting = await connection.fetch(_WAITING, list(kinds))
                kinds = [row["kind"] for row in waiting]
                if not kinds:
                    return
                taken, spare = await self._pick(connection, kinds)
        except BaseException:
            self._promising.update(kinds)
            raise
        if spare:
            asyncio.get_running_loop().call_later(SUSPECT_WAIT.total_seconds(), self.wake)
        for job in taken:
            if job.entrypoint == ASK:
                generation_id, ask = json.loads(job.payload or b"")
                self._ask(UUID(generation_id), Ask(UUID(ask[0]), details=ask[1]))
            elif job.id not in spare and not self._handout.knows(job.id):
                generation_id, task = json.loads(job.payload or b"")
                assignment = Assignment(job.id, UUID(generation_id), decode_task(task), job.attempts)
                self._handout.give(assignment, left_over=job.attempts > 0)

    async def _pick(self, connection: Connection, kinds: Sequence[Kind]) -> tuple[list[Job], list[int]]:
        """Jobs of these kinds that are ours now, and of them the suspects that were put off again."""
        taken: list[Job] = []
        async with connection.transaction():
            # Whoever picks a job and loses that in a crash of the server leaves it to be picked again.
            await connection.execute("SET LOCAL synchronous_commit = off")
            for kind in kinds:
                number = TAKE if kind == ASK else min(TAKE, self._handout.free(kind))
                found = await self._dequeue(connection, kind, number) if number else []
                taken += found
                if len(found) == number:
                    self._promising.add(kind)
            spare = self._spare_suspects(taken)
            await self._put_off(connection, spare, SUSPECT_WAIT)
            asks = [job.id for job in taken if job.entrypoint == ASK]
            if asks:
                await connection.execute("DELETE FROM pgqueuer WHERE id = ANY($1)", asks)
        return taken, spare

    async def _dequeue(self, connection: Connection, kind: Kind, number: int) -> list[Job]:
        return await jobs(connection).dequeue(
            batch_size=number,
            entrypoints={QueueEntrypoint(kind): EntrypointExecutionParameter(0)},
            queue_manager_id=self._id,
            global_concurrency_limit=None,
            heartbeat_timeout=NEVER,  # taking over is `_reclaim`'s, which counts it
        )

    def _spare_suspects(self, taken: Sequence[Job]) -> list[int]:
        """Of the jobs under suspicion of killing their process, all but the one that may be here."""
        suspects: list[int] = [
            job.id for job in taken if job.attempts >= SUSPICIOUS and not self._handout.knows(job.id)
        ]
        return suspects if self._handout.has_suspect() else suspects[1:]

    async def _put_off(self, connection: Connection, numbers: Sequence[int], wait: timedelta) -> None:
        if numbers:
            await connection.execute(
                "UPDATE pgqueuer SET status = 'queued', queue_manager_id = NULL, execute_after = now() + $2 "
                "WHERE id = ANY($1) AND status = 'picked' AND queue_manager_id = $3",
                list(numbers),
                wait,
                self._id,
            )

    async def _beat(self) -> None:
        """Say that this process lives."""
        numbers = self._handout.open()
        if not numbers:
            return
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL synchronous_commit = off")
            await connection.execute(
                "UPDATE pgqueuer SET heartbeat = now() WHERE id = ANY($1) AND queue_manager_id = $2", numbers, self._id
            )

    async def _reclaim(self) -> None:
        """Put the jobs of silent processes into the queue again, and count that against them."""
        async with self._pool.acquire() as connection:
            freed = await connection.fetch(
                "UPDATE pgqueuer SET status = 'queued', queue_manager_id = NULL, attempts = attempts + 1, "
                "execute_after = now(), updated = now() WHERE id IN "
                "(SELECT id FROM pgqueuer WHERE status = 'picked' AND heartbeat < now() - $1::interval "
                "ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED) RETURNING id",
                self._lease,
                RECLAIM,
            )
        if freed:
            log.warning("jobs_taken_over", number=len(freed))
            self.wake()

    async def _trim(self) -> None:
        """Keep PgQueuer's log, which nothing else empties, to what is recent."""
        async with self._pool.acquire() as connection:
            await connection.execute(
                "DELETE FROM pgqueuer_log WHERE id IN (SELECT id FROM pgqueuer_log "
                "WHERE created < now() - $1::interval ORDER BY created LIMIT $2)",
                LOG_KEPT,
                LOG_TRIM,
            )
