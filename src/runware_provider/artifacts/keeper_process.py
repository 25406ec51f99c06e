"""Keep images in a process of their own, so that hashing, writing and syncing them never make state and clients wait.

An image that kills that process (its parser, its memory) kills nothing else: those that were on their way with it are
tried again one at a time, and only the one that does it alone has failed.
"""

import asyncio
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from contextlib import suppress
from itertools import count
from pathlib import Path
from uuid import UUID

from runware_provider.artifacts.keeper_wire import READY, Lines, keep_line, plan_line, read_answer, stop_line
from runware_provider.artifacts.plan import Plan
from runware_provider.artifacts.refusal import NotKept
from runware_provider.artifacts.spool import clear_up_after
from runware_provider.errors import storage_failed
from runware_provider.logs import get_logger
from runware_provider.types import Stored

log = get_logger()

END_WAIT = 5.0
"""Seconds that the process gets to end, before it is killed."""


class KeeperDied(Exception):
    """The process died while it kept this image and no other."""


class _Lost(Exception):
    """The process died, and it is not known for whose sake."""


class _NotBegun(OSError):
    """It died before it had begun, so no image is to blame."""


class KeeperProcess:
    """See `Keeps`. The process begins with `start`, or with the first image, and again when it has died.

    `folder` is where it spools; `lock` a descriptor that it holds for as long as it lives.
    """

    def __init__(self, plan: Plan, folder: Path, lock: int | None) -> None:
        self._plan = plan
        self._folder = folder
        self._lock = lock
        self._opening: asyncio.Task[_Connection] | None = None
        self._ends: set[asyncio.Task[None]] = set()
        self._closed = False
        self._suspects = 0
        self._alone = asyncio.Lock()
        self._calm = asyncio.Event()
        self._calm.set()

    def start(self) -> None:
        """Begin, without waiting for it."""
        self._connection()

    async def keep(self, generation_id: UUID, output_id: UUID, url: str, *, attempt: int) -> Stored:
        """See `Artifacts.keep`. Raises KeeperDied as well."""
        await self._calm.wait()
        with suppress(_Lost):
            return await self._ask(generation_id, output_id, url, attempt)
        self._suspects += 1
        self._calm.clear()
        try:
            async with self._alone:
                return await self._ask(generation_id, output_id, url, attempt)
        except _Lost:
            raise KeeperDied("the process that keeps images died of this one") from None
        finally:
            self._suspects -= 1
            if not self._suspects:
                self._calm.set()

    async def _ask(self, generation_id: UUID, output_id: UUID, url: str, attempt: int) -> Stored:
        try:
            connection = await asyncio.shield(self._connection())
            return await connection.keep(generation_id, output_id, url, attempt)
        except OSError as error:
            name = f"generations/{generation_id}/{output_id}"
            raise NotKept(storage_failed(name, f"no process to keep it: {error.strerror or error}")) from error

    def _connection(self) -> "asyncio.Task[_Connection]":
        """To the process that lives, or to the next one."""
        opening = self._opening
        if opening is None or (opening.done() and (opening.exception() or opening.result().gone.is_set())):
            opening = self._opening = asyncio.get_running_loop().create_task(self._open(), name="open-keeper")
        return opening

    async def _open(self) -> "_Connection":
        if self._closed:
            raise OSError("the service stops")
        ours, theirs = socket.socketpair()
        try:
            passed = [theirs.fileno(), *([self._lock] if self._lock is not None else [])]
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # what lies in the folder it was called from is not for import
                "-m",
                "runware_provider.artifacts.keeper_child",
                str(theirs.fileno()),
                stdin=DEVNULL,
                stdout=DEVNULL,
                pass_fds=passed,
            )
            _, connection = await asyncio.get_running_loop().create_connection(_Connection, sock=ours)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        connection.send(plan_line(self._plan))
        end = asyncio.get_running_loop().create_task(self._end(process, connection), name="end-of-keeper")
        self._ends.add(end)
        end.add_done_callback(self._ends.discard)
        return connection

    async def _end(self, process: Process, connection: "_Connection") -> None:
        """Wait for the end of a process, and clear up after it."""
        await connection.gone.wait()
        try:
            async with asyncio.timeout(END_WAIT):
                code = await process.wait()
        except TimeoutError:
            process.kill()
            code = await process.wait()
        if not self._closed:
            log.error("keeper_died", pid=process.pid, code=code, images=connection.lost)
        await asyncio.to_thread(clear_up_after, process.pid, self._folder)

    async def aclose(self) -> None:
        """See `Keeps`."""
        self._closed = True
        if self._opening is not None:
            with suppress(OSError):
                (await self._opening).hang_up()
        if self._ends:
            await asyncio.wait(self._ends)


class _Connection(asyncio.Protocol):
    """To one process."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.lost = 0
        """Images that were on their way when it ended."""
        self._begun = False
        self._lines = Lines()
        self._numbers = count(1)
        self._waiting: dict[int, asyncio.Future[Stored]] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a socket's is one
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for line in self._lines.cut(data):
            if line == READY:
                self._begun = True
                continue
            number, answer = read_answer(line)
            future = self._waiting.pop(number)
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's name
        waiting, self._waiting = self._waiting, {}
        self.lost = len(waiting)
        self.gone.set()
        for future in waiting.values():
            future.set_exception(self._why())

    def _why(self) -> Exception:
        return _Lost() if self._begun else _NotBegun("it ended before it had begun")

    def send(self, line: bytes) -> None:
        """To the process. What is sent to a dead one is lost; those who wait for it are told."""
        self._transport.write(line)

    def hang_up(self) -> None:
        """Which ends the process."""
        self._transport.close()

    async def keep(self, generation_id: UUID, output_id: UUID, url: str, attempt: int) -> Stored:
        """See `Artifacts.keep`. Raises _Lost, _NotBegun."""
        if self.gone.is_set():
            raise self._why()
        number = next(self._numbers)
        future: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self.send(keep_line(number, generation_id, output_id, url, attempt))
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError:
            self.send(stop_line(number))
            while not future.done():  # what is being written is waited for: see `Threads`
                with suppress(asyncio.CancelledError):
                    await asyncio.wait((future,))
            future.exception()  # seen, so that asyncio does not complain of it
            raise
        return future.result()
