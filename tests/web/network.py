"""A way to the service that can be cut: connections break, and new ones are refused until it is mended."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Wire:
    """One address before a service."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.url = ""

    async def mend(self) -> None:
        """Let connections through, from now on."""
        port = int(self.url.rpartition(":")[2] or 0)
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def cut(self) -> None:
        """Break what is open, and refuse what comes."""
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, away = await asyncio.open_connection("127.0.0.1", self._port)
        mine = {writer, away}
        self._open |= mine
        with suppress(asyncio.CancelledError):
            await asyncio.gather(_pour(reader, away), _pour(there, writer))
        for each in mine:
            each.close()
        self._open -= mine


@asynccontextmanager
async def a_wire(url: str) -> AsyncIterator[Wire]:
    """A wire to the service at `url`."""
    wire = Wire(int(url.rpartition(":")[2]))
    await wire.mend()
    try:
        yield wire
    finally:
        await wire.cut()


async def _pour(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await source.read(65_536):
            sink.write(piece)
            await sink.drain()
    with suppress(OSError):
        sink.close()
