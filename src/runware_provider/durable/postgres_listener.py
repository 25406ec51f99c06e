"""The one connection on which a process hears of others' commits. It is made anew for as long as the process lives."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import UUID

import asyncpg

from runware_provider.durable.postgres_pool import CONNECT_SECONDS, FAILURES, prepare, said
from runware_provider.durable.postgres_schema import CHANGES_CHANNEL, JOBS_CHANNEL
from runware_provider.logs import get_logger

log = get_logger()

FIRST_WAIT, LONGEST_WAIT = 0.25, 2.0
"""Seconds before a lost connection is made again."""

PROBE = 5.0
"""Seconds between questions on an idle connection: one that died without a word would leave us deaf."""


class Listener:
    """`changed` gets what others committed, `jobs` is called when the queue has news, `missed` after a silence."""

    def __init__(
        self,
        url: str,
        *,
        changed: Callable[[UUID, int, int], None],
        jobs: Callable[[], None],
        missed: Callable[[], Awaitable[None]],
    ) -> None:
        self._url = url
        self._changed = changed
        self._jobs = jobs
        self._missed = missed
        self._listening = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="state-listener")

    async def begun(self) -> None:
        """Wait until it listens, at most as long as a connection may take: what is missed until then is caught up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._listening.wait()

    async def close(self) -> None:
        """Hear nothing more."""
        self._task.cancel()
        await asyncio.wait((self._task,))

    async def _run(self) -> None:
        wait = FIRST_WAIT
        while True:
            try:
                connection = await asyncpg.connect(self._url, timeout=CONNECT_SECONDS)
                try:
                    await prepare(connection)
                    await self._listen(connection)
                    wait = FIRST_WAIT
                    await self._until_lost(connection)
                finally:
                    with suppress(*FAILURES):
                        await connection.close(timeout=1)
            except FAILURES as error:
                log.warning("state_listener_lost", reason=said(error))
            await asyncio.sleep(wait)
            wait = min(LONGEST_WAIT, 2 * wait)

    async def _listen(self, connection: asyncpg.Connection) -> None:
        await connection.add_listener(CHANGES_CHANNEL, self._hear_change)
        await connection.add_listener(JOBS_CHANNEL, self._hear_jobs)
        await self._missed()
        self._jobs()
        self._listening.set()

    @staticmethod
    async def _until_lost(connection: asyncpg.Connection) -> None:
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        while not connection.is_closed():
            with suppress(TimeoutError):
                async with asyncio.timeout(PROBE):
                    await lost.wait()
                return
            await connection.fetchval("SELECT 1", timeout=PROBE)

    def _hear_jobs(self, _connection: object, _pid: object, _channel: object, payload: object) -> None:
        if '"insert"' in str(payload):  # PgQueuer tells of jobs that end, too
            self._jobs()

    def _hear_change(self, _connection: object, _pid: object, _channel: object, payload: object) -> None:
        for change in str(payload).split(","):
            generation_id, version, marks = change.split(":")
            self._changed(UUID(hex=generation_id), int(version), int(marks))
