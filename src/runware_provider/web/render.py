"""From templates to pages."""

import json
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import HTMLResponse

from runware_provider import words
from runware_provider.context import Context
from runware_provider.errors import StateUnavailable
from runware_provider.types import wire_time
from runware_provider.web.assets import PAGE_HEADERS, address
from runware_provider.web.thumbnails import SIZES
from runware_provider.web.views import STEPS

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def environment() -> "Environment":
    """Jinja2, which takes long to import: at the first page, not at the start."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "money": words.money,
        "about": words.about,
        "size": words.size,
        "wire": wire_time,
        "pretty": pretty,
    }
    made.globals |= {"explain": words.explain, "short": words.SHORT, "steps": STEPS, "widths": SIZES}
    return made


MOST_CHARACTERS = 2_000
"""Of one string in what is shown; an input may hold whole images as text."""


MOST_SHOWN = 20_000
"""Characters of JSON that a page shows."""


def pretty(value: Any) -> str:
    """JSON for people, cut where it is too much for them."""
    text = json.dumps(brief(value), ensure_ascii=False, indent=2)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}… ({len(text):,} characters)"


def brief(value: Any) -> Any:
    """`value` with its long strings cut, which they then say."""
    match value:
        case str() if len(value) > MOST_CHARACTERS:
            return f"{value[:80]}… ({len(value):,} characters)"
        case dict():
            return {name: brief(each) for name, each in value.items()}
        case list():
            return [brief(each) for each in value]
        case _:
            return value


def fragment(request: Request, template: str, values: Mapping[str, Any], status: int = 200) -> HTMLResponse:
    """A part of a page, for a script of ours."""
    base = request.scope.get("root_path", "")
    content = environment().get_template(template).render(base=base, **values)
    return HTMLResponse(content, status, PAGE_HEADERS)


async def with_spent(ctx: Context, answer: HTMLResponse) -> HTMLResponse:
    """`answer` with what today has cost, for the head of the page that it goes into."""
    with suppress(StateUnavailable):
        answer.headers["X-Spent-Today"] = words.about((await ctx.runtime.stats()).spent_today_micros)
    return answer


async def page(
    ctx: Context, request: Request, template: str, values: Mapping[str, Any], status: int = 200
) -> HTMLResponse:
    """A whole page, with what stands on each of them."""
    base = request.scope.get("root_path", "")
    try:
        spent = (await ctx.runtime.stats()).spent_today_micros
    except StateUnavailable:
        spent = None
    budget = ctx.settings.daily_budget
    around = {
        "at": request.scope["path"].removeprefix(base),
        "spent": spent,
        "budget": None if budget is None else int(budget * 1_000_000),
        "can_sign_out": bool(ctx.client_tokens),
        "style": address(base, "app.css"),
        "theme": address(base, "theme.js"),
        "script": address(base, "app.js"),
        "icon": address(base, "icon.svg"),
    }
    return fragment(request, template, around | dict(values), status)
