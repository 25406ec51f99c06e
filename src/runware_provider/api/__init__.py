"""The client HTTP API and Runware's webhook as one ASGI application."""

from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from runware_provider.api import generations, operations, problems
from runware_provider.api.content import output_content
from runware_provider.api.creation import PlainlyCreating
from runware_provider.api.document import GUARDED, describe
from runware_provider.api.events import EventStreams
from runware_provider.api.guard import Guard
from runware_provider.context import Context
from runware_provider.stats import Statistics
from runware_provider.web import gallery
from runware_provider.webhook import webhook

__all__ = ["GUARDED", "create_app", "guarded", "health_app"]


def create_app(ctx: Context) -> FastAPI:
    """The whole service over an open context, without a guard: mount it where your own authentication applies."""
    app = _bare(
        title="runware-provider",
        version=version("runware-provider"),
        description="Durable, queue-based image generation on Runware's API.",
    )

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = describe(app, tokens=bool(ctx.settings.client_tokens))
        return app.openapi_schema

    async def content(request: Request) -> Response:
        return await output_content(ctx, request)

    # Plain routes come first: they are hot, and the router tries in order.
    app.router.routes[:0] = [
        webhook(ctx),
        Route("/v1/generations/{generation_id}/outputs/{output_id}/content", content, methods=["GET"], name="content"),
    ]
    app.create = partial(generations.create_and_wait, ctx)
    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it
    streams, statistics = EventStreams(ctx), Statistics(ctx)
    app.include_router(generations.router(ctx, streams))
    app.include_router(operations.router(ctx, streams, statistics))
    app.include_router(operations.health(ctx))
    app.router.routes.extend(gallery(ctx, statistics))
    problems.install(app)
    return app


def health_app(ctx: Context) -> FastAPI:
    """Health and metrics alone, for a process that only works, without a guard."""
    app = _bare(openapi_url=None)
    app.include_router(operations.health(ctx))
    problems.install(app)
    return app


def _bare(**options: Any) -> PlainlyCreating:
    return PlainlyCreating(
        redirect_slashes=False,  # the address it would name is http:// behind a proxy that ends TLS
        # FastAPI's own shows whole queries, a webhook's token among them; ours are in `tracing` and `metrics`.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        **options,
    )


def guarded(ctx: Context, app: ASGIApp, *, trusted: bool = False) -> ASGIApp:
    """`app` behind the client tokens and limits of the settings; `trusted`: for the owner's own socket."""
    limit = int(ctx.settings.max_request_bytes)
    return Guard(app, ctx.client_tokens, ctx.sessions, limit, count=ctx.metrics.refused, trusted=trusted)
