"""HTTP/1.1 on bare asyncio protocols: just enough for clients and servers whose own cost must be small.

Requests and answers are bytes that were made beforehand; only `Content-Length` is understood.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast


@dataclass(frozen=True)
class Later:
    """An answer that is sent after so many seconds."""

    seconds: float
    parts: Sequence[bytes]


Answer = Sequence[bytes] | Later | None
"""The parts of an answer; None to hang up."""

_END = b"\r\n\r\n"


def length_of(head: bytes) -> int:
    """The bytes of the body that follows a head."""
    at = head.find(b"ontent-")
    while at >= 0:  # `Content-Length` or `content-length`, without making a copy of the head
        if head[at + 7 : at + 13] in (b"length", b"Length"):
            return int(head[at + 14 : head.find(b"\r\n", at)])
        at = head.find(b"ontent-", at + 7)
    return 0


class _Framed(asyncio.Protocol):
    """Cuts what comes into heads with their bodies."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._got = b""
        self._parts: list[bytes] = []
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._missing > len(data):  # in the middle of something large
            self._parts.append(data)
            self._missing -= len(data)
            return
        if self._parts or self._got:
            data = b"".join((self._got, *self._parts, data))
            self._got, self._parts, self._missing = b"", [], 0
        while (end := data.find(_END)) >= 0:
            head, begin = data[:end], end + 4
            stop = begin + length_of(data[: end + 2])
            if len(data) < stop:
                self._missing = stop - len(data)
                break
            self.framed(head, data[begin:stop])
            data = data[stop:]
        self._got = data

    def framed(self, head: bytes, body: bytes) -> None:
        raise NotImplementedError


class Connection(_Framed):
    """A client's connection: one request at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect to a port of this machine."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    def ask(self, request: bytes) -> "asyncio.Future[tuple[int, bytes]]":
        """Send `request`; the status and body of its answer."""
        self._answer = self._loop.create_future()
        self._transport.write(request)
        return self._answer

    def framed(self, head: bytes, body: bytes) -> None:
        """See `_Framed`."""
        if self._answer is not None:
            answer, self._answer = self._answer, None
            if not answer.done():
                answer.set_result((int(head[9:12]), body))

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(f"hung up before the answer: {exc}"))

    @property
    def open_still(self) -> bool:
        """Whether the other side has not hung up."""
        return not self._transport.is_closing()

    def close(self) -> None:
        """Hang up."""
        self._transport.close()


class _Served(_Framed):
    def __init__(self, answer: Callable[[bytes, bytes], Answer]) -> None:
        super().__init__()
        self._to = answer

    def framed(self, head: bytes, body: bytes) -> None:
        answer = self._to(head, body)
        if answer is None:
            self._transport.close()
        elif isinstance(answer, Later):
            asyncio.get_running_loop().call_later(answer.seconds, self._send, answer.parts)
        else:
            self._send(answer)

    def _send(self, parts: Sequence[bytes]) -> None:
        for part in parts:
            self._transport.write(part)


async def serve(answer: Callable[[bytes, bytes], Answer], port: int = 0) -> tuple[asyncio.Server, int]:
    """Answer every request with what `answer` makes of its head and body; the server and its port."""
    server = await asyncio.get_running_loop().create_server(lambda: _Served(answer), "127.0.0.1", port)
    found: int = server.sockets[0].getsockname()[1]
    return server, found


def request(method: str, target: str, port: int, body: bytes = b"", **headers: str) -> bytes:
    """A request as bytes. Headers are named with underscores."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    if body:
        headers = {"Content_Type": "application/json", "Content_Length": str(len(body)), **headers}
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + _END + body


def answer(body: bytes, content_type: str = "application/json") -> tuple[bytes, ...]:
    """A 200 as bytes."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    return (head + body,) if len(body) < 4_096 else (head, body)


class Pool:
    """Connections to one port, as many as are asked for at once, kept open."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._idle: list[Connection] = []
        self._all: list[Connection] = []

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send over a free connection, or a new one."""
        connection = self._idle.pop() if self._idle else None
        if connection is None or not connection.open_still:
            connection = await Connection.open(self.port)
            self._all.append(connection)
        answer = await connection.ask(request)
        self._idle.append(connection)
        return answer

    def close(self) -> None:
        """Hang up all of them."""
        for connection in self._all:
            connection.close()


Json = dict[str, Any]
