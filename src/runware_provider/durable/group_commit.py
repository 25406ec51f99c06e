"""Many calls, one fsync: jobs that wait are run and committed together, while the next ones gather.

Jobs run on the event loop's thread, which takes microseconds. Only the commit, which waits for the disk, runs in a
thread. (With the jobs in a writer thread, a busy loop starves it: each statement would wait for the GIL.)
"""

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from runware_provider.errors import StateUnavailable
from runware_provider.threads import Workers

B = TypeVar("B")
BC = TypeVar("BC", contravariant=True)
T = TypeVar("T")

MAX_BATCH = 512


class Refused(Exception):
    """Raised by a job that has changed nothing and must not be done; carries what its caller is told."""

    def __init__(self, told: Exception) -> None:
        self.told = told


class Store(Protocol[BC]):
    """Where batches go."""

    def write(self, batch: BC) -> bool:
        """Begin a transaction and write `batch` into it; False when there was nothing to write."""

    def commit(self) -> None:
        """Make it durable. Called in a thread."""

    def undo(self, batch: BC) -> None:
        """Forget the transaction, and all that the jobs of `batch` changed in memory."""

    def committed(self, batch: BC) -> None:
        """Everything in `batch` is true now."""


class GroupCommit(Generic[B]):
    """Runs jobs in order of arrival. A job gets the batch it is part of; its return value is told after the commit."""

    def __init__(self, open_batch: Callable[[], B], store: Store[B]) -> None:
        self._open_batch = open_batch
        self._store = store
        self._queue: list[tuple[Callable[[B], Any], asyncio.Future[Any]]] = []
        self._sleeping: asyncio.Future[None] | None = None
        self._closed = False
        self.failed = False
        """Whether the last batch could not be committed, for the disk's or the file's sake."""
        self._loop = asyncio.get_running_loop()
        self._thread = Workers(1, "commit")
        self._task = self._loop.create_task(self._run(), name="group-commit")

    def submit(self, job: Callable[[B], T]) -> asyncio.Future[T]:
        """Run `job` in a coming batch. Whoever is cancelled while waiting leaves it going."""
        future: asyncio.Future[T] = self._loop.create_future()
        if self._closed:
            future.set_exception(StateUnavailable("the runtime is closed"))
            return future
        self._queue.append((job, future))
        if self._sleeping is not None:
            self._wake()
        return future

    async def close(self) -> None:
        """Take no more jobs; return when those that wait are committed."""
        self._closed = True
        self._wake()
        await self._task
        self._thread.end()

    async def _run(self) -> None:
        while True:
            if not self._queue:
                if self._closed:
                    return
                self._sleeping = self._loop.create_future()
                await self._sleeping
                continue
            jobs = self._queue[:MAX_BATCH]
            del self._queue[:MAX_BATCH]
            await self._settle(jobs)

    def _wake(self) -> None:
        sleeping, self._sleeping = self._sleeping, None
        if sleeping is not None and not sleeping.done():
            sleeping.set_result(None)

    async def _settle(self, jobs: list[tuple[Callable[[B], Any], asyncio.Future[Any]]]) -> None:
        """Commit `jobs` together; when one of them is poisoned, in halves, down to it."""
        if not await self._commit(jobs):
            half = len(jobs) // 2
            await self._settle(jobs[:half])
            await self._settle(jobs[half:])

    async def _commit(self, jobs: list[tuple[Callable[[B], Any], asyncio.Future[Any]]]) -> bool:
        """False: one of several raised, nothing of them was kept, and nobody was told."""
        batch = self._open_batch()
        replies: list[Any] = []
        try:
            for job, _ in jobs:
                try:
                    replies.append(job(batch))
                except Refused as refusal:
                    replies.append(refusal)
            if self._store.write(batch):
                await self._thread.run(self._store.commit)
                self.failed = False
        except sqlite3.OperationalError as error:  # the disk or the file: it would be the same for each alone
            self._store.undo(batch)
            self.failed = True
            replies = [Refused(unavailable(error)) for _ in jobs]
        except Exception as error:  # noqa: BLE001  whatever a job raises goes to the one who submitted it
            self._store.undo(batch)
            if len(jobs) > 1:
                return False
            self.failed = self.failed or type(error) is sqlite3.DatabaseError  # a page that is not one
            replies = [Refused(unavailable(error) if isinstance(error, sqlite3.Error) else error)]
        else:
            self._store.committed(batch)
        for (_, future), reply in zip(jobs, replies, strict=True):
            if future.done():
                continue
            if isinstance(reply, Refused):
                future.set_exception(reply.told)
            else:
                future.set_result(reply)
        return True


def unavailable(error: sqlite3.Error) -> StateUnavailable:
    """What a caller is told when the file cannot take a commit."""
    return StateUnavailable(f"the state store cannot commit: {error}. Check the disk's space and permissions")
