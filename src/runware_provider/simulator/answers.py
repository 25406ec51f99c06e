"""Answers: JSON in Runware's shapes, and the ones that ASGI has no message for (broken, hanging, cut short)."""

import asyncio
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runware_provider.simulator.wire import JsonObject, encode

TRANSPORT = "runware_simulator.transport"
CLOSING = "runware_simulator.closing"


def json_answer(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON body with a status."""
    return Response(encode(body), status, headers, "application/json")


def error_answer(status: int, error: JsonObject, retry_after: float | None = None) -> Response:
    """One error for the whole request."""
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    return json_answer({"errors": [error]}, status, headers)


class Connection:
    """The raw side of one exchange, as uvicorn has it; other servers do not show it."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self._transport: Any = scope.get(TRANSPORT)
        self._closing: asyncio.Event = scope[CLOSING]
        if self._transport is None:
            raise RuntimeError("faults of the connection need the simulator to be served by uvicorn")

    def write(self, data: bytes) -> None:
        """Put bytes on the wire as they are."""
        self._transport.write(data)

    async def close(self) -> None:
        """Send what was written, then end the connection."""
        self._transport.close()
        await self._gone()

    async def abort(self) -> None:
        """Break the connection at once."""
        self._transport.abort()
        await self._gone()

    async def wait(self, seconds: float) -> bool:
        """Wait for `seconds`; False as soon as the client has gone or the simulator stops."""
        gone = asyncio.ensure_future(self._gone())
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            done, _ = await asyncio.wait({gone, closing}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            return not done
        finally:
            gone.cancel()
            closing.cancel()

    async def _gone(self) -> None:
        # uvicorn calls an application that ends without an answer an error, unless the client has gone first.
        while (await self._receive())["type"] != "http.disconnect":
            pass


class Broken(Response):
    """Silence for `seconds`, then nothing or `sent_bytes` of an answer (head and body), and the connection breaks."""

    def __init__(self, instead_of: bytes = b"", *, sent_bytes: int | None = None, seconds: float = 0) -> None:
        super().__init__(instead_of)
        self._sent_bytes = sent_bytes
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's shape
        connection = Connection(scope, receive)
        if self._seconds:
            await connection.wait(self._seconds)
        if self._sent_bytes is None:
            await connection.abort()
            return
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(self.body)
        # Never the whole: then it would be an answer.
        whole = head + bytes(self.body)
        connection.write(whole[: min(self._sent_bytes, len(whole) - 1)])
        await connection.close()
