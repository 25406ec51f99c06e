"""`POST /v1/generations`, for the request as nearly every client sends it: one body, read once, and nothing around it.

Whatever is not so, or is wrong, goes to the route that FastAPI describes, which has the words for it. In front of the
application and not in it: a request that waits is resumed through all that lies between, and there are ten layers.
"""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from runware_provider.api import problems
from runware_provider.types import CreateArgs

Create = Callable[[CreateArgs, str | None], Awaitable[Response]]
"""Makes the generation and answers, after the wait that the caller prefers."""

PATH = "/v1/generations"
MAX_HEADER = 255
"""Bytes of `Idempotency-Key` and `Prefer`, as the described route has them."""


class PlainlyCreating(FastAPI):
    """An application whose `create` is used for plain requests for images, when it is set."""

    create: Create | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if (
            self.create is not None
            and scope["type"] == "http"
            and scope["path"] == PATH
            and scope["method"] == "POST"
            and not scope.get("root_path")
        ):
            await self._plainly(self.create, scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def _plainly(self, create: Create, scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        key, prefer = headers.get(b"idempotency-key", b"-"), headers.get(b"prefer", b"")
        if (
            headers.get(b"content-type") != b"application/json"
            or len(headers) != len(scope["headers"])  # one of them came twice
            or not 0 < len(key) <= MAX_HEADER
            or len(prefer) > MAX_HEADER
        ):
            await super().__call__(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            body = await request.body()
        except ClientDisconnect:  # nobody waits for an answer
            return
        try:
            args = CreateArgs.model_validate_json(body)
        except ValidationError:
            await super().__call__(scope, _once(body, receive), send)
            return
        if b"idempotency-key" in headers:
            args = args.model_copy(update={"idempotency_key": key.decode("latin-1")})
        try:
            response = await create(args, prefer.decode("latin-1"))
        except Exception as error:  # noqa: BLE001  what nobody foresaw is raised again
            try:
                response = await problems.answer(request, error)
            except Exception:  # as the application does: its client is answered, and the server logs it
                await problems.unexpected()(scope, receive, send)
                raise
        await response(scope, receive, send)


def _once(body: bytes, receive: Receive) -> Receive:
    """`receive` as it was before the body was read."""
    left = [body]

    async def again() -> Message:
        return {"type": "http.request", "body": left.pop(), "more_body": False} if left else await receive()

    return again
