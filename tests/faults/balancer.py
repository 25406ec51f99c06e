"""One address before several nodes: each connection goes to the next one that takes it."""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle
from typing import Self


class Balancer:
    """Listens on `port` of loopback, in a thread, until the block ends. It knows nothing of HTTP."""

    def __init__(self, port: int, backends: Sequence[int]) -> None:
        self._port = port
        self._turns = cycle(backends)
        self._number = len(backends)
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="balancer")
        self._end = asyncio.Event()
        self._open: set[asyncio.StreamWriter] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connect, "127.0.0.1", self._port)
        self._ready.set()
        await self._end.wait()
        server.close()
        for writer in self._open:
            writer.transport.abort()
        await asyncio.sleep(0.05)  # the transports tell their sockets in the next turns of the loop

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(self._number):
            try:
                there = await asyncio.open_connection("127.0.0.1", next(self._turns))
            except OSError:
                continue
            self._open |= {writer, there[1]}
            with suppress(asyncio.CancelledError):  # the end of all of it; asyncio would print it
                await asyncio.gather(_pour(reader, there[1]), _pour(there[0], writer))
            self._open -= {writer, there[1]}
            return
        writer.close()


async def _pour(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await source.read(65536):
            sink.write(piece)
            await sink.drain()
    with suppress(OSError):
        sink.close()
