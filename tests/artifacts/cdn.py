"""A CDN on loopback that says exactly the bytes it is told to say, and no more."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress

Writer = asyncio.StreamWriter
Answer = Callable[[Writer], Awaitable[None]]


def raw(*pieces: bytes, stall: bool = False) -> Answer:
    """Send `pieces`, then close the connection, or say nothing more when `stall`."""

    async def answer(writer: Writer) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if stall:
            await asyncio.Event().wait()

    return answer


def head(status: str = "200 OK", **headers: object) -> bytes:
    """A response head; `_` in names stands for `-`. It says that the connection will not be kept."""
    headers = {"Connection": "close"} | headers
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def body(data: bytes, status: str = "200 OK", **headers: object) -> Answer:
    """A whole answer with its length; the connection is closed after it."""
    return raw(head(status, Content_Length=len(data), **headers), data)


def chunked(data: bytes, *, end: bool = True) -> Answer:
    """`data` as one chunk, with or without the chunk that ends the body."""
    return raw(
        head(Transfer_Encoding="chunked"), f"{len(data):x}\r\n".encode(), data, b"\r\n0\r\n\r\n" if end else b"\r\n"
    )


def closed(data: bytes) -> Answer:
    """`data` without a length: only the end of the connection ends it."""
    return raw(head(), data)


def redirect(location: str, status: str = "302 Found") -> Answer:
    """A redirect to `location`."""
    return raw(head(status, Location=location, Content_Length=0))


def endless(piece: bytes) -> Answer:
    """`piece`, over and over, without a length."""

    async def answer(writer: Writer) -> None:
        writer.write(head())
        while True:
            writer.write(piece)
            await writer.drain()

    return answer


class Cdn:
    """Serves `answers` by path; `asked` has every request's head, `connections` counts those that were made."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.connections = 0
        self.secure = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen on a free port."""
        self.secure = tls is not None
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Hang up on everybody."""
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def says(self, answer: Answer, path: str = "/image") -> str:
        """Answer with this at `path`; returns the URL."""
        self.answers[path] = answer
        return self.url(path)

    def url(self, path: str) -> str:
        """The URL of `path`."""
        return f"http{'s' if self.secure else ''}://127.0.0.1:{self.port}{path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.asked.append(request)
            await self.answers[request.split()[1]](writer)
        writer.close()
        with suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
            await writer.wait_closed()
