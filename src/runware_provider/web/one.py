"""One generation: its images, what happened to it, and what can be done about it."""

from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID, uuid4

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from runware_provider.context import Context
from runware_provider.create import get_generation, undelete_generation
from runware_provider.errors import GenerationNotFound, InvalidArgs, StateUnavailable
from runware_provider.remembered import get_remembered
from runware_provider.rerun import RerunArgs, rerun_generation
from runware_provider.stub import get_generation_stub
from runware_provider.types import GenerationArgs, GenerationState, SuccessOutput
from runware_provider.web import calls
from runware_provider.web.forms import read_fields
from runware_provider.web.render import MOST_SHOWN, brief, fragment, page, pretty, with_spent
from runware_provider.web.views import errors_of, in_order, prompt_of, state_of_summary, tiles_of

MAX_SHOWN = 64
"""Images on one page."""


async def one(ctx: Context, request: Request) -> Response:
    """`GET /g/{id}`."""
    return await page(ctx, request, "one.html", _values(ctx, request, await _state(ctx, request)))


async def live(ctx: Context, request: Request) -> Response:
    """`GET /g/{id}/live`: the part of the page that changes."""
    values = _values(ctx, request, await _state(ctx, request))
    return await with_spent(ctx, fragment(request, "one_live.html", values))


async def tell(ctx: Context, request: Request) -> Response:
    """`POST /g/{id}/{wish}`. Raises GenerationNotFound, also for a wish that is none, and what creating raises."""
    generation_id, wish = _id(request), request.path_params["wish"]
    if wish not in _WISHES:
        raise GenerationNotFound(f"nothing is called {wish} here")
    fields = await read_fields(request)
    try:
        leads_to = await _WISHES[wish](ctx, generation_id, fields)
    except StateUnavailable as error:
        # It may have been kept all the same: with the same fields, so the same key, nothing is paid for twice.
        again = {"action": request.url.path, "fields": fields}
        return await page(ctx, request, "failed.html", {"title": "Not now", "detail": str(error), "again": again}, 503)
    return RedirectResponse(request.scope.get("root_path", "") + leads_to, 303)


async def _again(ctx: Context, generation_id: UUID, fields: Mapping[str, str], *, remix: bool) -> str:
    key = fields.get("key", "")[:64] or str(uuid4())
    args = RerunArgs(
        generation_id=generation_id,
        remix=remix,
        output_id=_output_id(fields.get("output_id", "")),
        idempotency_key=f"again {key}",
    )
    return f"/g/{(await rerun_generation(ctx, args)).id}"


def _output_id(text: str) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        raise InvalidArgs([("output_id", "is no output's id")]) from None


async def _rerun(ctx: Context, generation_id: UUID, fields: Mapping[str, str]) -> str:
    return await _again(ctx, generation_id, fields, remix=False)


async def _remix(ctx: Context, generation_id: UUID, fields: Mapping[str, str]) -> str:
    return await _again(ctx, generation_id, fields, remix=True)


async def _retry(ctx: Context, generation_id: UUID, _: Mapping[str, str]) -> str:
    await get_generation_stub(ctx, generation_id).tell("retry")
    await ctx.runtime.unpark(generation_id)
    return f"/g/{generation_id}"


async def _replay(ctx: Context, generation_id: UUID, _: Mapping[str, str]) -> str:
    await get_generation_stub(ctx, generation_id).tell("replay")
    return f"/g/{generation_id}"


async def _clear(ctx: Context, generation_id: UUID, _: Mapping[str, str]) -> str:
    await get_generation_stub(ctx, generation_id).tell("clear_error")
    return f"/g/{generation_id}"


async def _delete(ctx: Context, generation_id: UUID, _: Mapping[str, str]) -> str:
    await get_generation(ctx, GenerationArgs(generation_id=generation_id))
    await get_generation_stub(ctx, generation_id).tell("delete")
    return f"/?deleted={generation_id}"


async def _undelete(ctx: Context, generation_id: UUID, _: Mapping[str, str]) -> str:
    await undelete_generation(ctx, GenerationArgs(generation_id=generation_id))
    return f"/g/{generation_id}"


_WISHES: Mapping[str, Callable[[Context, UUID, Mapping[str, str]], Awaitable[str]]] = {
    "rerun": _rerun,
    "remix": _remix,
    "retry": _retry,
    "replay": _replay,
    "clear": _clear,
    "delete": _delete,
    "undelete": _undelete,
}


def _values(ctx: Context, request: Request, state: GenerationState) -> dict[str, object]:
    base = request.scope.get("root_path", "")
    images = [output for output in in_order(state) if isinstance(output, SuccessOutput)]
    costs = [image.cost_micros for image in images if image.cost_micros is not None]
    price = sum(costs) * state.counts.expected // len(costs) if costs else None
    address = f"{request.url.scheme}://{request.url.netloc}{base}/v1/generations"
    tokens = bool(ctx.client_tokens)
    shown = brief(state.input)
    small = shown == state.input and len(pretty(shown)) <= MOST_SHOWN
    reached = {entry.event for entry in state.timeline}
    return {
        "state": state,
        "prompt": prompt_of(state),
        "images": images[:MAX_SHOWN],
        # The policy of our pages allows no image from elsewhere, and a redirect would lead there.
        "here": "?redirect=false" if ctx.settings.content_redirects else "",
        "left_out": max(0, len(images) - MAX_SHOWN),
        "tiles": tiles_of(state)[:MAX_SHOWN],
        "errors": errors_of(state),
        "refused": state.dispatch == "refused" and not images,
        "cost_micros": sum(costs) if costs else None,
        "remembered": state.version == 0,
        "price_micros": price,
        "can_retry": state.counts.failed > 0 and any(code in reached for code in ("delivered", "retry")),
        "curl": calls.curl(address, shown, state.metadata, token=tokens) if small else None,
        "python": calls.python(address, shown, state.metadata, token=tokens) if small else None,
        "key": str(uuid4()),
    }


async def _state(ctx: Context, request: Request) -> GenerationState:
    args = GenerationArgs(generation_id=_id(request))
    try:
        return await get_generation(ctx, args)
    except GenerationNotFound:
        return state_of_summary(await get_remembered(ctx, args))


def _id(request: Request) -> UUID:
    try:
        return UUID(request.path_params["id"])
    except ValueError:
        raise GenerationNotFound("there is no such generation") from None
