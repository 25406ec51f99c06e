"""One generation as server-sent events: its state at every version, until nothing more will happen."""

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import UUID

from starlette.responses import StreamingResponse

from runware_provider.context import Context
from runware_provider.create import get_generation
from runware_provider.errors import GenerationNotFound, RunwareProviderError
from runware_provider.logs import get_logger
from runware_provider.types import GenerationArgs, GenerationState

log = get_logger()

HEARTBEAT = 15.0
"""Seconds between signs of life, so that proxies keep the connection."""

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def generation_events(ctx: Context, generation_id: UUID) -> StreamingResponse:
    """A stream of `state` events whose id is the version. A reconnect gets the latest state, for each holds all.

    Ends after the state that is settled, or with an event `deleted` or `problem`. Raises GenerationNotFound.
    """
    first = await get_generation(ctx, GenerationArgs(generation_id=generation_id))
    return StreamingResponse(_events(ctx, first), media_type="text/event-stream", headers=HEADERS)


async def _events(ctx: Context, state: GenerationState) -> AsyncIterator[bytes]:
    try:
        async for event in _states(ctx, state):
            yield event
    except GenerationNotFound:
        yield _event("deleted", b"{}")
    except RunwareProviderError as error:  # the answer has begun: what went wrong can only be told inside it
        log.warning("events_ended", id=str(state.id), reason=str(error)[:300])
        yield _event("problem", json.dumps({"detail": str(error)}).encode())


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
                yield b": still here\n\n"
        state = await get_generation(ctx, args)


def _event(kind: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)
