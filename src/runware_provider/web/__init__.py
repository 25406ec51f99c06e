"""The gallery: pages for people, rendered here, in the service's own process."""

from collections.abc import Awaitable, Callable
from functools import cache, partial
from uuid import UUID

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from runware_provider.artifacts import StoreUnavailable
from runware_provider.context import Context
from runware_provider.errors import (
    GenerationNotFound,
    IdempotencyConflict,
    InvalidArgs,
    OutputNotFound,
    OverBudget,
    RunwareProviderError,
    RunwareRefused,
    SeedsUnknown,
    TooManyInFlight,
)
from runware_provider.remembered import get_image
from runware_provider.stats import Statistics
from runware_provider.types import OutputArgs
from runware_provider.web import grid, new, one, operations, sign_in
from runware_provider.web.assets import static
from runware_provider.web.paths import CARDS, GRID, NEW, ONE, OPERATIONS, SIGN_IN, SIGN_OUT, STATIC, THUMBNAILS
from runware_provider.web.render import page
from runware_provider.web.thumbnails import Busy, NoThumbnail, Thumbnails

__all__ = ["gallery"]

Handler = Callable[[Context, Request], Awaitable[Response]]


def gallery(ctx: Context, statistics: Statistics) -> list[Route]:
    """The routes of all pages. Whoever mounts them elsewhere guards them as the API."""

    @cache
    def thumbnails() -> Thumbnails:
        return Thumbnails(ctx.artifacts, ctx.runtime, ctx.projection, ctx.owner.data_dir.absolute() / "thumbnails")

    def route(path: str, handler: Handler, method: str = "GET") -> Route:
        async def answer(request: Request) -> Response:
            try:
                return await handler(ctx, request)
            except RunwareProviderError as error:
                return await _failed(ctx, request, error)

        return Route(path, answer, methods=[method], include_in_schema=False)

    async def operate(ctx: Context, request: Request) -> Response:
        return await operations.operations(ctx, request, statistics)

    return [
        route(GRID, grid.grid),
        route(CARDS, grid.cards),
        route(NEW, new.form),
        route(NEW, new.create, "POST"),
        route(f"{ONE}{{id}}", one.one),
        route(f"{ONE}{{id}}/live", one.live),
        route(f"{ONE}{{id}}/{{wish}}", one.tell, "POST"),
        route(OPERATIONS, operate),
        route(f"{OPERATIONS}/{{wish}}", operations.act, "POST"),
        route(SIGN_IN, sign_in.form),
        route(SIGN_IN, sign_in.begin, "POST"),
        route(SIGN_OUT, sign_in.end, "POST"),
        Route(f"{THUMBNAILS}{{id}}/{{output_id}}/{{size}}", partial(_thumbnail, ctx, thumbnails), methods=["GET"]),
        Route(f"{STATIC}{{name}}", static, methods=["GET"]),
    ]


async def _thumbnail(ctx: Context, thumbnails: Callable[[], Thumbnails], request: Request) -> Response:
    """`GET /thumbnails/{id}/{output_id}/{size}`. Its content never changes."""
    try:
        args = OutputArgs(
            generation_id=UUID(request.path_params["id"]), output_id=UUID(request.path_params["output_id"])
        )
        size = int(request.path_params["size"])
        image = await get_image(ctx, args)
        if image is None:
            return PlainTextResponse("it is no image", 404)
        etag = f'"{image.sha256[:32]}-{size}"'
        headers = {
            "ETag": etag,
            "Cache-Control": "private, max-age=31536000, immutable",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'",
        }
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        content = await thumbnails().get(args.generation_id, image, size)
    except (ValueError, NoThumbnail, GenerationNotFound, OutputNotFound) as error:
        return PlainTextResponse(str(error), 404)
    except (Busy, StoreUnavailable, RunwareProviderError):
        return PlainTextResponse("try again", 503, {"Retry-After": "2"})
    return Response(content, headers=headers, media_type="image/webp")


async def _failed(ctx: Context, request: Request, error: RunwareProviderError) -> Response:
    """A page that says what is wrong."""
    match error:
        case GenerationNotFound() | OutputNotFound():
            status, title = 404, "Not here"
        case InvalidArgs():
            status, title = 422, "That cannot be done"
        case SeedsUnknown():
            status, title = 409, "Not the same again"
        case OverBudget():
            status, title = 402, "Over budget"
        case IdempotencyConflict():
            status, title = 409, "Sent before"
        case TooManyInFlight():
            status, title = 429, "Too much at once"
        case RunwareRefused():
            status, title = 502, "Runware refused"
        case _:
            status, title = 503, "Not now"
    return await page(ctx, request, "failed.html", {"title": title, "detail": str(error), "again": None}, status)
