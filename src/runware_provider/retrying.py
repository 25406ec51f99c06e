"""Try again what failed in one way, once its cause is mended. Costs nothing: what Runware made is fetched."""

from contextlib import suppress
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from runware_provider.context import Context
from runware_provider.errors import GenerationNotFound, StateDamaged
from runware_provider.stub import get_generation_stub
from runware_provider.types import ListArgs

PAGE = 200
LOOKS = 50
"""Pages that one call looks through: each may be an empty stretch of 10,000 rows."""


class RetryArgs(BaseModel):
    """`error`: what the outputs failed by, of what trying again can mend; `limit`: at most so many generations.

    `cursor`: where an earlier call ended.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    error: Literal["fetch_failed", "storage_failed", "content_rejected"]
    limit: int = Field(1_000, ge=1, le=10_000)
    cursor: str | None = Field(None, max_length=200)


class Retried(BaseModel):
    """How many generations have outputs that will be tried again. `next_cursor`: there may be more, from here on."""

    retried: int
    next_cursor: str | None = None


async def retry_failed(ctx: Context, args: RetryArgs) -> Retried:
    """Try the failed outputs of generations that have such an error, the newest first.

    Raises ConfigurationError and ProjectionUnavailable, since it is the read model that knows them, StateUnavailable.
    """
    count, cursor = 0, args.cursor
    for _ in range(LOOKS):
        room = min(PAGE, args.limit - count)
        page = await ctx.projection.list(ListArgs(error=args.error, limit=room, cursor=cursor))
        for item in page.items:
            with suppress(GenerationNotFound, StateDamaged):  # state may have forgotten it
                await get_generation_stub(ctx, item.id).tell("retry")
                await ctx.runtime.unpark(item.id)
                count += 1
        cursor = page.next_cursor
        if cursor is None or count >= args.limit:
            break
    return Retried(retried=count, next_cursor=cursor)
