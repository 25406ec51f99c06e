"""Server-sent events: one generation to its end, or whatever changes among all of them."""

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import UUID

from starlette.responses import Response, StreamingResponse

from runware_provider.api.problems import problem
from runware_provider.context import Context
from runware_provider.create import get_generation
from runware_provider.errors import GenerationNotFound, RunwareProviderError
from runware_provider.logs import get_logger
from runware_provider.types import GenerationArgs, GenerationState

log = get_logger()

HEARTBEAT = 15.0
"""Seconds between signs of life, so that proxies keep the connection."""

MAX_STREAMS = 1_000
"""Streams that are open at once, of both kinds. Whoever comes then is asked to come again."""

RECONNECT_MS = 1_000
"""After which a browser that was cut off comes back."""

STILL_HERE = b": still here\n\n"

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class EventStreams:
    """The streams of one service, counted."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._open = 0

    async def of_generation(self, generation_id: UUID) -> Response:
        """A stream of `state` events whose id is the version. A reconnect gets the latest state, for each holds all.

        Ends after the state that is settled, or with an event `deleted` or `problem`. Raises GenerationNotFound.
        """
        first = await get_generation(self._ctx, GenerationArgs(generation_id=generation_id))
        return self._stream(_states(self._ctx, first), str(generation_id))

    def of_all(self, last_event_id: str | None) -> Response:
        """A stream of `changed` events: which generation, and its version. Many changes of one may come as one.

        It begins with `ready`: from then on nothing is missed, so what one looks at is read after it. When news was
        lost, and at a reconnect, which is known by its `Last-Event-ID`, comes `reload`: read the list again. Ends with
        `problem` when the service stops.
        """
        return self._stream(_changes(self._ctx, reconnect=last_event_id is not None), "all")

    def _stream(self, events: AsyncIterator[bytes], what: str) -> Response:
        if self._open >= MAX_STREAMS:
            return problem(503, f"{self._open} event streams are open; try again", headers={"Retry-After": "5"})
        return StreamingResponse(self._counted(events, what), media_type="text/event-stream", headers=HEADERS)

    async def _counted(self, events: AsyncIterator[bytes], what: str) -> AsyncIterator[bytes]:
        self._open += 1
        try:
            async for event in events:
                yield event
        except GenerationNotFound:
            yield _event("deleted", b"{}")
        except RunwareProviderError as error:  # the answer has begun: what went wrong can only be told inside it
            log.warning("events_ended", id=what, reason=str(error)[:300])
            yield _event("problem", json.dumps({"detail": str(error)}).encode())
        finally:
            self._open -= 1


async def _states(ctx: Context, state: GenerationState) -> AsyncIterator[bytes]:
    args = GenerationArgs(generation_id=state.id)
    while True:
        yield b"id: %d\n" % state.version + _event("state", state.model_dump_json().encode())
        if state.settled:
            return
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT):
                    await ctx.runtime.changed(state.id, after=state.version)
                break
            except TimeoutError:
                yield STILL_HERE
        state = await get_generation(ctx, args)


async def _changes(ctx: Context, *, reconnect: bool) -> AsyncIterator[bytes]:
    with ctx.runtime.news() as news:
        yield b"retry: %d\nid: 1\n" % RECONNECT_MS + _event("ready", b"{}")
        if reconnect:
            yield _event("reload", b"{}")
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT):
                    versions = await news.take()
            except TimeoutError:
                yield STILL_HERE
                continue
            if versions is None:
                yield _event("reload", b"{}")
            else:
                yield b"".join(
                    _event("changed", b'{"id":"%b","version":%d}' % (str(each).encode(), version))
                    for each, version in versions.items()
                )


def _event(kind: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
