"""The client HTTP API and Runware's webhook as one ASGI application."""

from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from runware_provider.api import generations, operations, problems
from runware_provider.api.content import output_content
from runware_provider.api.guard import Guard
from runware_provider.api.plain_paths import PLAIN_PATHS
from runware_provider.context import Context
from runware_provider.webhook import webhook

__all__ = ["create_app", "guarded"]


GUARDED = (401, 403, 431)
BODIES = (400, 408, 413, 415)
"""What every route of the client API may answer before it is reached, and what those with a body may."""


def create_app(ctx: Context) -> FastAPI:
    """The whole service over an open context, without a guard: mount it where your own authentication applies."""
    app = FastAPI(
        title="runware-provider",
        version=version("runware-provider"),
        description="Durable, queue-based image generation on Runware's API.",
    )

    async def content(request: Request) -> Response:
        return await output_content(ctx, request)

    # Plain routes come first: they are hot, and the router tries in order.
    app.router.routes[:0] = [
        webhook(ctx),
        Route("/v1/generations/{generation_id}/outputs/{output_id}/content", content, methods=["GET"], name="content"),
    ]
    app.openapi = partial(_described, app)  # type: ignore[method-assign]  # FastAPI's own way to extend it
    app.include_router(generations.router(ctx))
    app.include_router(operations.router(ctx))
    problems.install(app)
    return app


def _described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the plain routes that FastAPI does not see."""
    if app.openapi_schema is None:
        app.openapi_schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        app.openapi_schema["paths"] |= PLAIN_PATHS
        app.openapi_schema["components"]["schemas"] |= problems.components()
        for path, operations in app.openapi_schema["paths"].items():
            for operation in operations.values() if path.startswith("/v1/") else ():
                answers = (*GUARDED, *(BODIES if "requestBody" in operation else ()))
                for status, answer in problems.documented(*answers).items():
                    operation["responses"].setdefault(str(status), answer)
    return app.openapi_schema


def guarded(ctx: Context, app: ASGIApp, *, trusted: bool = False) -> ASGIApp:
    """`app` behind the client tokens and limits of the settings; `trusted`: for the owner's own socket."""
    settings = ctx.settings
    tokens = [token.get_secret_value() for token in settings.client_tokens]
    return Guard(app, tokens, int(settings.max_request_bytes), trusted=trusted)
