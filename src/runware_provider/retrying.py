"""Try again what failed in one way, once its cause is mended. Costs nothing: what Runware made is fetched."""

from contextlib import suppress

from pydantic import BaseModel, ConfigDict, Field

from runware_provider.context import Context
from runware_provider.errors import GenerationNotFound, StateDamaged
from runware_provider.stub import get_generation_stub
from runware_provider.types import ListArgs

PAGE = 200


class RetryArgs(BaseModel):
    """`error`: the code of the outputs that are to be tried again; `limit`: at most so many generations."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    error: str = Field(min_length=1, max_length=64, examples=["fetch_failed", "storage_failed"])
    limit: int = Field(1_000, ge=1, le=10_000)


async def retry_failed(ctx: Context, args: RetryArgs) -> int:
    """Try the failed outputs of the newest generations that have such an error; returns how many generations.

    Raises ConfigurationError and ProjectionUnavailable, since it is the read model that knows them, StateUnavailable.
    """
    count, cursor = 0, None
    while count < args.limit:
        page = await ctx.projection.list(ListArgs(error=args.error, limit=PAGE, cursor=cursor))
        for item in page.items[: args.limit - count]:
            with suppress(GenerationNotFound, StateDamaged):  # state may have forgotten it
                await get_generation_stub(ctx, item.id).tell("retry")
                await ctx.runtime.unpark(item.id)
                count += 1
        cursor = page.next_cursor
        if cursor is None:
            break
    return count
