"""Ask Runware now, instead of when the alarms would, and give again what was delivered to nobody."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from uuid import UUID

from pydantic import BaseModel, ConfigDict, StrictBool

from runware_provider.context import Context
from runware_provider.durable import Flag
from runware_provider.errors import GenerationNotFound, StateDamaged, StateTooNew
from runware_provider.generation import Generation
from runware_provider.logs import get_logger
from runware_provider.runware import ASK_BATCH
from runware_provider.schemas import parse_delivery
from runware_provider.stub import get_generation_stub
from runware_provider.types import Ask

log = get_logger()

REPLAYS_WAITING = 500
PROJECTION_WAIT = 10.0
"""Projecting everything anew: so many at once, then the last of them is waited for, this many seconds at most."""

UNCLAIMED_PAGE = 50
"""Deliveries in memory at once; each may be as large as `MAX_BODY_BYTES`."""


class ReconcileArgs(BaseModel):
    """`generation_id`: only this one, running or not. `unclaimed`: give unclaimed deliveries again as well."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation_id: UUID | None = None
    unclaimed: StrictBool = False


class Reconciled(BaseModel):
    """How many generations were asked about, how many of them that changed, and what became of the unclaimed."""

    model_config = ConfigDict(frozen=True)

    asked: int = 0
    answered: int = 0
    changed: int = 0
    claimed: int = 0
    still_unclaimed: int = 0


class ReplayArgs(BaseModel):
    """`generation_id`: this one; `all_failed`: every one whose projection failed; `everything`: all there are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    generation_id: UUID | None = None
    all_failed: StrictBool = False
    everything: StrictBool = False


async def reconcile(ctx: Context, args: ReconcileArgs) -> Reconciled:
    """Put `getResponse` and `getTaskDetails` for what is running and record the answers. Costs nothing.

    Raises RunwareUnavailable, RunwareRefused, GenerationNotFound, and ConfigurationError without a key.
    """
    client = ctx.runware
    asked = answered = changed = 0
    ids = [args.generation_id] if args.generation_id is not None else [each async for each in _ids(ctx, "running")]
    for batch in _batches(ids):
        known: dict[UUID, tuple[UUID, int]] = {}
        for generation_id in batch:
            try:
                task_uuid, version = await ctx.runtime.look(generation_id, _task_and_version)
            except (StateDamaged, StateTooNew) as error:
                if args.generation_id is not None:
                    raise
                log.error("state_not_read", id=str(generation_id), reason=str(error))  # noqa: TRY400  the others go on
                continue
            known[task_uuid] = generation_id, version
        if not known:
            continue
        answers = await client.ask([Ask(task_uuid, details=True) for task_uuid in known])
        asked += len(known)
        for task_uuid, answer in answers.items():
            answered += 1
            generation_id, version = known[task_uuid]
            await get_generation_stub(ctx, generation_id).record_response(answer)
            changed += await ctx.runtime.look(generation_id, _task_and_version) != (task_uuid, version)
    claimed = await _claim(ctx) if args.unclaimed else 0
    return Reconciled(
        asked=asked,
        answered=answered,
        changed=changed,
        claimed=claimed,
        still_unclaimed=(await ctx.runtime.stats()).unclaimed,
    )


async def replay(ctx: Context, args: ReplayArgs) -> int:
    """Project again from state; returns how many were asked for. Raises GenerationNotFound."""
    if args.generation_id is not None:
        await get_generation_stub(ctx, args.generation_id).tell("replay")
        return 1
    count = 0
    if not args.all_failed and not args.everything:
        return count
    async for generation_id in _ids(ctx, None if args.everything else "projection_failed"):
        try:
            version = await get_generation_stub(ctx, generation_id).tell("replay")
        except GenerationNotFound:  # it expired while we went on
            continue
        count += 1
        if count % REPLAYS_WAITING == 0:  # go no faster than the database takes them
            with suppress(TimeoutError, GenerationNotFound):
                async with asyncio.timeout(PROJECTION_WAIT):
                    await ctx.runtime.changed(generation_id, after=version)
    return count


def _task_and_version(generation: Generation) -> tuple[UUID, int]:
    return generation.register.task_uuid, generation.version


async def _claim(ctx: Context) -> int:
    """Give each of them once more, a page at a time; those that find no home stay."""
    count = after = 0
    while page := await ctx.runtime.unclaimed(limit=UNCLAIMED_PAGE, after=after):
        claimed: list[int] = []
        for delivery in page:
            after = delivery.number
            if delivery.generation_id is None or delivery.reason in {"foreign_task", "too_many_results"}:
                continue
            try:
                await get_generation_stub(ctx, delivery.generation_id).record_webhook(parse_delivery(delivery.body))
            except GenerationNotFound:
                continue
            except Exception:  # it may be unclaimed because it did this before; the others must not suffer
                log.exception("still_unclaimed", id=str(delivery.generation_id), number=delivery.number)
                continue
            claimed.append(delivery.number)
        await ctx.runtime.forget_unclaimed(claimed)
        count += len(claimed)
    return count


async def _ids(ctx: Context, flag: Flag | None) -> AsyncIterator[UUID]:
    after: UUID | None = None
    while page := await ctx.runtime.ids(flag=flag, after=after):
        for generation_id in page:
            yield generation_id
        after = page[-1]


def _batches(ids: list[UUID]) -> list[list[UUID]]:
    return [ids[start : start + ASK_BATCH] for start in range(0, len(ids), ASK_BATCH)]
