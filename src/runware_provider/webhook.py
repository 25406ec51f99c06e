"""The route that Runware calls. 200 means committed; what the body holds never changes the answer.

A plain ASGI application: this is the hot path, and a framework's request object costs more than all the rest.
"""

import asyncio
from urllib.parse import parse_qsl
from uuid import UUID

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from runware_provider.context import Context
from runware_provider.errors import GenerationNotFound, StateUnavailable
from runware_provider.logs import get_logger
from runware_provider.schemas import parse_delivery
from runware_provider.stub import get_generation_stub
from runware_provider.tokens import WEBHOOK_PATH

log = get_logger()

BODY_WAIT = 10.0
"""Seconds that a delivery may take to arrive; Runware itself waits about 5 for the answer."""

_HEADERS = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]


class _TooLarge(Exception):
    """The body is over `MAX_BODY_BYTES`."""


class _Gone(Exception):
    """The sender went away before the body was whole."""


def webhook(ctx: Context) -> Route:
    """The route `POST /webhooks/runware?generation_id=&token=`, to be mounted in any Starlette or FastAPI application.

    Answers 200 once the delivery is committed, 401 for a wrong or missing token, 413 for a body over
    `MAX_BODY_BYTES`, 408 for one that does not arrive, 503 when nothing can be committed, so that Runware delivers
    again.
    """
    return Route(WEBHOOK_PATH, _Webhook(ctx), methods=["POST"], name="webhook")


class _Webhook:
    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._limit = int(ctx.settings.max_body_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        generation_id = self._authorized(scope["query_string"])
        # Whoever logs this request, the server of a foreign application too, reads it from here.
        scope["query_string"] = b""
        if generation_id is None:
            self._ctx.tally.unauthorized.add()
            await _answer(send, 401, b"wrong or missing token\n")
            return
        try:
            async with asyncio.timeout(BODY_WAIT):
                body = await self._body(scope, receive)
        except _TooLarge:
            await _answer(send, 413, b"the body is too large\n")
        except TimeoutError:
            await _answer(send, 408, b"the body did not arrive in time\n")
        except _Gone:
            return
        else:
            try:
                await self._record(generation_id, body)
            except StateUnavailable as error:
                log.error("webhook_not_committed", id=str(generation_id), reason=str(error))  # noqa: TRY400  no traceback
                await _answer(send, 503, b"cannot be committed now, deliver again\n")
            else:
                await _answer(send, 200, b"ok\n")

    def _authorized(self, query: bytes) -> UUID | None:
        try:
            fields = dict(parse_qsl(query.decode("ascii"), max_num_fields=16))
            generation_id = UUID(fields["generation_id"])
            token = fields["token"]
        except (KeyError, ValueError):
            return None
        return generation_id if self._ctx.tokens.accepts(generation_id, token) else None

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or int(value[:19]) > self._limit):
                raise _TooLarge
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            body: bytes = message.get("body", b"")  # the usual case: all in one piece, not copied
            if len(body) > self._limit:
                raise _TooLarge
            return body
        pieces = bytearray()
        while message["type"] == "http.request":
            pieces += message.get("body", b"")
            if len(pieces) > self._limit:
                raise _TooLarge
            if not message.get("more_body"):
                return bytes(pieces)
            message = await receive()
        raise _Gone

    async def _record(self, generation_id: UUID, body: bytes) -> None:
        if not generation_id.int:  # `doctor` asks itself through the public address
            return
        try:
            await get_generation_stub(self._ctx, generation_id).record_webhook(parse_delivery(body))
        except GenerationNotFound:
            reason = "unknown_generation"
        except StateUnavailable:
            raise
        except Exception as error:
            log.exception("webhook_unclaimed", id=str(generation_id))
            reason = f"record_webhook raised {type(error).__name__}"
        else:
            return
        await self._ctx.runtime.keep_unclaimed(generation_id, reason, body, self._ctx.clock())


async def _answer(send: Send, status: int, text: bytes) -> None:
    length = (b"content-length", str(len(text)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*_HEADERS, length]})
    await send({"type": "http.response.body", "body": text})
