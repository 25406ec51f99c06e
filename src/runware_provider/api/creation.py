"""`POST /v1/generations`, for the request as nearly every client sends it: one body, read once, and nothing around it.

Whatever is not so, or is wrong, goes the way of the route that FastAPI describes, which has the words for it.
"""

from collections.abc import Awaitable, Callable

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runware_provider.types import CreateArgs

Create = Callable[[CreateArgs, str | None], Awaitable[Response]]
"""Makes the generation and answers, after the wait that the caller prefers."""

MAX_HEADER = 255
"""Characters of `Idempotency-Key` and `Prefer`, as the described route has them."""

_DESCRIBED = "runware_provider.described"


class PlainCreation(Route):
    """The route. `described` is where the rest goes: an application in which this route may be met again."""

    def __init__(self, create: Create, described: ASGIApp) -> None:
        super().__init__("/v1/generations", _Endpoint(create, described), methods=["POST"], include_in_schema=False)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See `Route`."""
        if scope["type"] != "http" or scope["method"] != "POST" or _DESCRIBED in scope:
            return Match.NONE, {}
        return super().matches(scope)


class _Endpoint:
    def __init__(self, create: Create, described: ASGIApp) -> None:
        self._create = create
        self._described = described

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        headers = request.headers
        key, prefer = headers.get("idempotency-key"), headers.get("prefer")
        plain = (
            headers.get("content-type") == "application/json"
            and (key is None or 0 < len(key) <= MAX_HEADER)
            and (prefer is None or len(prefer) <= MAX_HEADER)
        )
        if not plain:
            await self._described({**scope, _DESCRIBED: True}, receive, send)
            return
        body = await request.body()
        try:
            args = CreateArgs.model_validate_json(body)
        except ValidationError:
            await self._described({**scope, _DESCRIBED: True}, _once(body, receive), send)
            return
        if key is not None:
            args = args.model_copy(update={"idempotency_key": key})
        response = await self._create(args, prefer)
        await response(scope, receive, send)


def _once(body: bytes, receive: Receive) -> Receive:
    """`receive` as it was before the body was read."""
    left = [body]

    async def again() -> Message:
        return {"type": "http.request", "body": left.pop(), "more_body": False} if left else await receive()

    return again
