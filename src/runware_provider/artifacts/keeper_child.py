"""The process that keeps images and does nothing else. Its whole life is one socket: it ends when that does.

`python -m runware_provider.artifacts.keeper_child FD`, for `KeeperProcess` alone.
"""

import asyncio
import os
import signal
import socket
import sys
from uuid import UUID

import uvloop

from runware_provider.artifacts.keeper import Keeper
from runware_provider.artifacts.keeper_wire import (
    READY,
    Lines,
    broken_line,
    not_kept_line,
    read_plan,
    read_wish,
    stored_line,
)
from runware_provider.artifacts.plan import Plan
from runware_provider.artifacts.refusal import NotKept
from runware_provider.artifacts.stores import open_store
from runware_provider.artifacts.threads import Threads
from runware_provider.tuning import leave_a_core, tune


class _Service(asyncio.Protocol):
    """The keeper's end of the socket. What arrives before the store is open waits."""

    def __init__(self) -> None:
        self.plan: asyncio.Future[Plan] = asyncio.get_running_loop().create_future()
        self._lines = Lines()
        self._keeper: Keeper | None = None
        self._running: dict[int, asyncio.Task[None]] = {}
        self._waiting: list[bytes] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # a socket's is one
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        lines = self._lines.cut(data)
        if lines and not self.plan.done():
            self.plan.set_result(read_plan(lines.pop(0)))
        if self._keeper is None:
            self._waiting += lines
            return
        for line in lines:
            self._take(line, self._keeper)

    def begin(self, keeper: Keeper) -> None:
        """Do what was asked for, and what will be."""
        self._keeper = keeper
        self._transport.write(READY + b"\n")
        for line in self._waiting:
            self._take(line, keeper)
        self._waiting.clear()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's name
        # As if it had been killed, which is what everything here is made for: nobody is there to be told.
        os._exit(0)

    def _take(self, line: bytes, keeper: Keeper) -> None:
        number, wanted = read_wish(line)
        if wanted is not None:
            self._running[number] = asyncio.get_running_loop().create_task(self._keep(number, keeper, wanted))
        elif task := self._running.get(number):
            task.cancel()

    async def _keep(self, number: int, keeper: Keeper, wanted: tuple[UUID, UUID, str, int]) -> None:
        generation_id, output_id, url, attempt = wanted
        try:
            answer = stored_line(number, await keeper.keep(generation_id, output_id, url, attempt=attempt))
        except NotKept as refusal:
            answer = not_kept_line(number, refusal)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  whatever it is, somebody waits for it
            answer = broken_line(number, error)
        del self._running[number]
        self._transport.write(answer)


async def work(connection: socket.socket) -> None:
    """Keep images for whoever holds the other end. Does not return: it exits."""
    _, service = await asyncio.get_running_loop().create_connection(_Service, sock=connection)
    plan = await service.plan
    store = await asyncio.to_thread(open_store, plan.url, plan.data_dir, plan.bucket_access, fresh=False)
    service.begin(Keeper(plan, store, Threads(store.threads)))
    await asyncio.get_running_loop().create_future()


def main() -> None:
    """The process."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group: the service says when it is over
        signal.signal(number, signal.SIG_IGN)
    tune()
    leave_a_core()
    uvloop.run(work(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
