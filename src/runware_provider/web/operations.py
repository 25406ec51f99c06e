"""What goes on, on one page, and what a person can do about what does not."""

from collections.abc import Mapping
from datetime import timedelta
from typing import get_args

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from runware_provider.context import Context
from runware_provider.errors import GenerationNotFound, InvalidArgs
from runware_provider.reconcile import ReconcileArgs, ReplayArgs, reconcile, replay
from runware_provider.retrying import RetryArgs, retry_failed
from runware_provider.stats import Statistics, StatsArgs
from runware_provider.web.forms import read_fields
from runware_provider.web.plots import minute_bars, spend_plot
from runware_provider.web.render import page

DAYS = (7, 14, 30, 90)
LISTED = 20
"""Parked tasks and unclaimed deliveries that are shown."""

RETRYABLE = get_args(RetryArgs.model_fields["error"].annotation)
ROUNDS = 10
"""Calls of `retry_failed` that one press makes."""


async def operations(ctx: Context, request: Request, statistics: Statistics) -> Response:
    """`GET /operations`; `days`: how far back the sums go."""
    asked = request.query_params.get("days", "14")
    days = int(asked) if asked in {str(each) for each in DAYS} else 14
    stats = await statistics.stats(StatsArgs(days=days))
    plot = spend_plot(stats.spend, stats.at.date(), days)
    values = {
        "stats": stats,
        "plot": plot,
        "spent": stats.spent_today_micros,
        "total_micros": sum(row.cost_micros for row in stats.spend),
        "total_images": sum(row.images for row in stats.spend),
        "minutes": minute_bars(stats.webhooks_per_minute),
        "parked": await ctx.runtime.parked(limit=LISTED) if stats.parked else [],
        "unclaimed": await ctx.runtime.unclaimed(limit=LISTED) if stats.unclaimed else [],
        "choices": DAYS,
        "every": max(1, days // 7),
        "retryable": RETRYABLE,
        "done": _done(request.query_params),
        "oldest": str(timedelta(seconds=round(stats.oldest_task_seconds))),
    }
    return await page(ctx, request, "operations.html", values)


async def act(ctx: Context, request: Request) -> Response:
    """`POST /operations/{wish}`."""
    fields = await read_fields(request)
    match request.path_params["wish"]:
        case "retry":
            done = f"retried={await _retry_all(ctx, fields.get('error', ''))}"
        case "replay":
            done = f"replayed={await replay(ctx, ReplayArgs(all_failed=True))}"
        case "unpark":
            done = f"unparked={await ctx.runtime.unpark()}"
        case "reconcile":
            done = f"claimed={(await reconcile(ctx, ReconcileArgs(unclaimed=True))).claimed}"
        case wish:
            raise GenerationNotFound(f"nothing is called {wish} here")
    return RedirectResponse(f"{request.scope.get('root_path', '')}/operations?{done}", 303)


async def _retry_all(ctx: Context, error: str) -> int:
    if error not in RETRYABLE:
        raise InvalidArgs([("error", f"must be one of {', '.join(RETRYABLE)}")])
    count, cursor = 0, None
    for _ in range(ROUNDS):
        retried = await retry_failed(ctx, RetryArgs.model_validate({"error": error, "cursor": cursor}))
        count, cursor = count + retried.retried, retried.next_cursor
        if cursor is None:
            break
    return count


_DONE: Mapping[str, str] = {
    "retried": "generations are being tried again",
    "replayed": "generations are being projected again",
    "unparked": "parked tasks were given again",
    "claimed": "unclaimed deliveries found a home",
}


def _done(query: Mapping[str, str]) -> str | None:
    """What was just done, in words."""
    for name, words in _DONE.items():
        if query.get(name, "").isdecimal():
            return f"{query[name][:9]} {words}"
    return None
