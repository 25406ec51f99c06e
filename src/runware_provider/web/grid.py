"""The grid of images, newest first, and its parts."""

from dataclasses import replace
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from runware_provider.context import Context
from runware_provider.create import get_generation
from runware_provider.errors import (
    ConfigurationError,
    GenerationNotFound,
    InvalidArgs,
    ProjectionUnavailable,
    RunwareProviderError,
)
from runware_provider.remembered import get_remembered
from runware_provider.types import GenerationArgs, GenerationSummary, ListArgs
from runware_provider.web.filters import SPANS, View, read_view
from runware_provider.web.render import fragment, page, with_spent
from runware_provider.web.views import Card, card_of_state, card_of_summary
from runware_provider.words import SHORT

PAGE = 48
"""Generations that one answer has."""

MAX_IDS = 50
"""Cards that may be asked for by id at once."""


async def grid(ctx: Context, request: Request) -> Response:
    """`GET /`."""
    view, args = read_view(request.query_params, ctx.clock(), PAGE)
    cards, cursor, view, trouble = await _cards(ctx, view, args)
    values = {
        "cards": cards,
        "more": view.query(cursor=cursor) if cursor else None,
        "view": view,
        "trouble": trouble,
        "spans": SPANS,
        "codes": SHORT,
        "first": args.cursor is None,
        "deleted": _uuid(request.query_params.get("deleted", "")),
    }
    return await page(ctx, request, "grid.html", values)


async def cards(ctx: Context, request: Request) -> Response:
    """`GET /cards`: those with `ids`, or a page of a view, and where the next one begins."""
    asked = request.query_params.get("ids")
    if asked is not None:
        ids = [id_ for id_ in map(_uuid, asked.split(",")[:MAX_IDS]) if id_ is not None]
        found = [card for id_ in ids if (card := await _card(ctx, id_)) is not None]
        gone = [str(id_) for id_ in ids if id_ not in {card.id for card in found}]
        return await with_spent(ctx, fragment(request, "cards.html", {"cards": found, "more": None, "gone": gone}))
    view, args = read_view(request.query_params, ctx.clock(), PAGE)
    shown, cursor, view, trouble = await _cards(ctx, view, args)
    more = view.query(cursor=cursor) if cursor else None
    values = {"cards": shown, "more": more, "gone": []}
    return await with_spent(ctx, fragment(request, "cards.html", values, 503 if trouble else 200))


async def _cards(ctx: Context, view: View, args: ListArgs) -> tuple[list[Card], str | None, View, str | None]:
    """A page's cards, where the next begins, the view with what is wrong in it, and why there is nothing at all."""
    if view.problems:  # what is wrong would leave out less, or more, than was meant
        return [], None, view, None
    try:
        found = await ctx.projection.list(args)
    except InvalidArgs as error:
        return [], None, replace(view, problems=dict(error.issues)), None
    except (ProjectionUnavailable, ConfigurationError) as error:
        return [], None, view, str(error)
    return [await _card_of(ctx, item) for item in found.items], found.next_cursor, view, None


async def _card_of(ctx: Context, row: GenerationSummary) -> Card:
    if row.status == "running":  # the read model learns of its images when it is complete
        card = await _card(ctx, row.id)
        if card is not None:
            return card
    return card_of_summary(row)


async def _card(ctx: Context, generation_id: UUID) -> Card | None:
    try:
        return card_of_state(await get_generation(ctx, GenerationArgs(generation_id=generation_id)))
    except GenerationNotFound:
        try:
            return card_of_summary(await get_remembered(ctx, GenerationArgs(generation_id=generation_id)))
        except GenerationNotFound:
            return None
    except RunwareProviderError:  # damaged, or out of reach: what the read model knows must do
        summary = await ctx.projection.get(generation_id)
        return None if summary is None else card_of_summary(summary)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
