"""Create generations, and wait for what becomes of them."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from json import dumps
from time import time_ns
from uuid import UUID

from uuid_utils.compat import uuid4, uuid7

from runware_provider.context import Context
from runware_provider.durable import ANSWERED, REFUSED, SETTLED, Birth
from runware_provider.errors import (
    GenerationNotFound,
    IdempotencyConflict,
    RunwareProviderError,
    ServiceStopping,
)
from runware_provider.schemas import check_create
from runware_provider.stub import get_generation_stub
from runware_provider.tracing import listening, span
from runware_provider.types import (
    CreateArgs,
    GenerationArgs,
    GenerationState,
    Request,
    SuccessOutput,
)

DISPATCH_WAIT = timedelta(seconds=5)
"""How long `create_generation` waits for Runware's answer to the dispatch."""


class GenerationFailed(RunwareProviderError):
    """`generate` got no image at all; `state` says why."""

    def __init__(self, state: GenerationState) -> None:
        self.state = state
        first = state.error or next((output.error for output in state.outputs if output.type == "error"), None)
        super().__init__(f"generation {state.id} failed: {first.code if first else 'no image came'}")


@dataclass(frozen=True, slots=True)
class Image:
    """A stored image. `read` fetches its bytes from the object store."""

    output: SuccessOutput
    _ctx: Context

    async def read(self) -> bytes:
        """All the bytes."""
        content = await self._ctx.artifacts.read(self.output.key)
        return b"".join([piece async for piece in content])


async def create_generation(ctx: Context, args: CreateArgs, *, wait: timedelta | None = None) -> GenerationState:
    """Commit a new generation, have it dispatched, and return its state once the dispatch's outcome is known.

    Waits up to 5 s for that; a generation that Runware refused for good has `dispatch == "refused"` and its `error`.
    With `wait` it is waited for until it is settled, at most so long since it was kept. A caller that is cancelled
    leaves the generation going. With an `idempotency_key` that was used for the same input the first generation's
    state is returned.

    Raises InvalidArgs, IdempotencyConflict, TooManyInFlight, OverBudget, StateUnavailable, GenerationNotFound when it
    is deleted meanwhile, and ConfigurationError without a key.
    """
    expected = check_create(args)
    _ = ctx.runware  # without a key nothing is accepted that could not be sent
    idempotency = None
    if args.idempotency_key is not None:
        digest = sha256(dumps([args.input, args.metadata], sort_keys=True).encode()).hexdigest()
        idempotency = (args.idempotency_key, digest)
    now, budget, began = ctx.clock(), ctx.settings.daily_budget, time_ns()
    created = await ctx.runtime.create(
        Birth(
            id=UUID(int=uuid7().int),
            task_uuid=uuid4(),
            request=Request(args.input, args.metadata),
            expected=expected,
            now=now,
            deadline=now + ctx.settings.deadline,
            idempotency=idempotency,
            max_in_flight=ctx.settings.max_in_flight,
            model=args.input["model"],
            daily_budget_micros=None if budget is None else int(budget * 1_000_000),
        )
    )
    if created.created:
        ctx.metrics.created()
    one = GenerationArgs(generation_id=created.id)
    now_s = asyncio.get_running_loop().time
    kept_at = now_s()
    try:
        # Who waits when the service stops is told what there is: it is kept, and goes on at the next start.
        with suppress(ServiceStopping):
            if wait is not None and wait >= DISPATCH_WAIT and not listening():
                await _until(ctx, created.id, SETTLED | REFUSED, wait)  # woken once, and not at the dispatch as well
                return await get_generation(ctx, one)
            with span(
                "create", created.id, began=began, first=created.created, linked=True, expected=expected
            ) as noted:
                # A first version has not been sent.
                await _until(ctx, created.id, ANSWERED, DISPATCH_WAIT, after=1 if created.created else 0)
                if noted.recording:
                    noted.note(dispatch=(await get_generation(ctx, one)).dispatch)
            if wait is not None:
                left = max(timedelta(0), wait - timedelta(seconds=now_s() - kept_at))
                await _until(ctx, created.id, SETTLED | REFUSED, left)
        return await get_generation(ctx, one)
    except GenerationNotFound:
        if created.created:
            raise
        raise IdempotencyConflict(
            "the generation that this Idempotency-Key made was deleted; send a new key for a new request"
        ) from None


async def generate(ctx: Context, args: CreateArgs) -> list[Image]:
    """Create a generation, wait until it is complete and in the read model, and return the stored images.

    Raises GenerationFailed when there is none, and what `create_generation` raises.
    """
    state = await create_generation(ctx, args, wait=timedelta(hours=1))
    while not state.settled:
        state = await wait_until_settled(ctx, state, timedelta(hours=1))
    images = [Image(output, ctx) for output in state.outputs if output.type == "success"]
    if not images:
        raise GenerationFailed(state)
    return images


async def get_generation(ctx: Context, args: GenerationArgs) -> GenerationState:
    """The committed state. Raises GenerationNotFound, also for what was deleted."""
    state = await ctx.runtime.get_state(args.generation_id)
    if state.deleted_at is not None:
        raise GenerationNotFound(f"generation {args.generation_id} was deleted")
    return state


async def undelete_generation(ctx: Context, args: GenerationArgs) -> GenerationState:
    """Take a delete back, within 30 s of it; the state then. Raises GenerationNotFound, also when it is too late."""
    await get_generation_stub(ctx, args.generation_id).tell("undelete")
    try:
        return await get_generation(ctx, args)
    except GenerationNotFound:
        raise GenerationNotFound(f"generation {args.generation_id} is deleted, and its images are gone") from None


async def wait_until_settled(ctx: Context, state: GenerationState, limit: timedelta) -> GenerationState:
    """The state once it is settled, or the present one after `limit`; `state` is what is known of it.

    Raises GenerationNotFound, ServiceStopping.
    """
    if state.settled:
        return state
    await _until(ctx, state.id, SETTLED, limit, after=state.version)
    return await get_generation(ctx, GenerationArgs(generation_id=state.id))


async def wait_for(
    ctx: Context, args: GenerationArgs, until: Callable[[GenerationState], bool], limit: timedelta
) -> GenerationState:
    """The first state for which `until` holds, or the present one after `limit`.

    Raises GenerationNotFound, ServiceStopping.
    """
    after = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(limit.total_seconds()):
            while True:
                await ctx.runtime.changed(args.generation_id, after=after)
                state = await get_generation(ctx, args)
                if until(state):
                    return state
                after = state.version
    return await get_generation(ctx, args)


async def _until(ctx: Context, generation_id: UUID, marks: int, limit: timedelta, *, after: int = 0) -> None:
    """Return once a version after `after` has one of `marks` or is deleted, or after `limit`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(limit.total_seconds()):
            await ctx.runtime.changed(generation_id, after=after, marks=marks)
