"""The form for a new generation."""

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from runware_provider.context import Context
from runware_provider.create import create_generation, get_generation, wait_for
from runware_provider.errors import (
    ConfigurationError,
    GenerationNotFound,
    IdempotencyConflict,
    InvalidArgs,
    OverBudget,
    RunwareProviderError,
    ServiceStopping,
    StateUnavailable,
    TooManyInFlight,
)
from runware_provider.types import GenerationArgs, GenerationState, JsonObject, ListArgs
from runware_provider.web import asking
from runware_provider.web.asking import Form
from runware_provider.web.forms import read_fields
from runware_provider.web.render import page

LISTED_WAIT = timedelta(seconds=1)
"""For the read model to have it, so that the grid shows it at once."""


async def form(ctx: Context, request: Request) -> Response:
    """`GET /new`; `from`: the generation to begin from."""
    shown = asking.blank()
    with suppress(ValueError, GenerationNotFound):
        wanted = UUID(request.query_params.get("from", ""))
        shown = asking.like(await get_generation(ctx, GenerationArgs(generation_id=wanted)))
    return await _page(ctx, request, shown, None, 200)


async def _source(ctx: Context, id_: str) -> JsonObject:
    """The input of the generation that a form began from; empty when it is no more."""
    try:
        return (await get_generation(ctx, GenerationArgs(generation_id=UUID(id_)))).input
    except (ValueError, GenerationNotFound):
        return {}


async def create(ctx: Context, request: Request) -> Response:
    """`POST /new`. What is wrong stands beside its field, and nothing that was typed is lost."""
    fields = await read_fields(request)
    source = await _source(ctx, fields.get("from", "")) if fields.get("kept") else {}
    shown, args = asking.read_form(fields, source)
    if args is None:
        return await _page(ctx, request, shown, None, 422)
    try:
        state = await create_generation(ctx, args)
    except InvalidArgs as error:
        return await _page(ctx, request, asking.refused_by_us(shown, error), None, 422)
    except (
        ConfigurationError,
        IdempotencyConflict,
        OverBudget,
        StateUnavailable,
        TooManyInFlight,
    ) as error:
        status = 402 if isinstance(error, OverBudget) else 409 if isinstance(error, IdempotencyConflict) else 503
        # What could not be committed may have been all the same: sent again, it must be the same generation.
        key = str(uuid4()) if isinstance(error, IdempotencyConflict) else shown.key
        refused = replace(shown, problems={"form": str(error)}, key=key)
        return await _page(ctx, request, refused, None, status)
    if state.dispatch == "refused":
        return await _page(ctx, request, asking.refused_by_runware(shown, state), state, 422)
    with suppress(ServiceStopping):
        state = await wait_for(ctx, GenerationArgs(generation_id=state.id), _is_listed, LISTED_WAIT)
    base = request.scope.get("root_path", "")
    return RedirectResponse(f"{base}/#g-{state.id}" if _is_listed(state) else f"{base}/g/{state.id}", 303)


def _is_listed(state: GenerationState) -> bool:
    return state.projected_at is not None


async def _page(ctx: Context, request: Request, shown: Form, refused: GenerationState | None, status: int) -> Response:
    values = {
        "form": shown,
        "sizes": asking.SIZES,
        "formats": asking.FORMATS,
        "refused": None if refused is None else refused.id,
        "price": await _price(ctx),
    }
    return await page(ctx, request, "new.html", values, status)


async def _price(ctx: Context) -> int | None:
    """What an image cost lately, as far as the newest complete generations tell."""
    try:
        found = await ctx.projection.list(ListArgs(status="completed", limit=1))
    except RunwareProviderError:
        return None
    for item in found.items:
        known = [artifact.cost_micros for artifact in item.artifacts if artifact.cost_micros is not None]
        if known:
            return sum(known) // len(known)
    return None
