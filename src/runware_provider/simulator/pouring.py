"""Pouring: sending a body in pieces, as fast as the client takes it or slower."""

import asyncio
from collections.abc import Iterable, Iterator

from starlette.types import Scope, Send

from runware_provider.simulator.answers import CLOSING, TRANSPORT

CHUNK = 256 * 1024


async def start(send: Send, status: int, mime: str, size: int | None) -> None:
    """Send the head of an answer; without a size the body is chunked."""
    headers = [(b"content-type", mime.encode()), (b"cache-control", b"public, max-age=86400")]
    if size is not None:
        headers.append((b"content-length", b"%d" % size))
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def pour(scope: Scope, send: Send, pieces: Iterable[bytes], bytes_per_second: int | None = None) -> bool:
    """Send a body in pieces; False when the client went, or the simulator stopped, before the end."""
    transport, closing = scope[TRANSPORT], scope[CLOSING]
    for chunk in pieces:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        # uvicorn swallows what is sent to a client who has gone: an endless body would keep a processor busy for ever.
        if transport is not None and transport.is_closing():
            return False
        if bytes_per_second is not None and not await waited(closing, len(chunk) / bytes_per_second):
            return False
    await send({"type": "http.response.body", "body": b""})
    return True


def chunks(parts: Iterable[bytes], size: int) -> Iterator[bytes]:
    """Cut `parts` into pieces of at most `size`."""
    for part in parts:
        if len(part) <= size:
            yield part
            continue
        for at in range(0, len(part), size):
            yield part[at : at + size]


async def waited(closing: asyncio.Event, seconds: float) -> bool:
    """Wait; False when the simulator stops first."""
    try:
        async with asyncio.timeout(seconds):
            await closing.wait()
    except TimeoutError:
        return True
    return False
