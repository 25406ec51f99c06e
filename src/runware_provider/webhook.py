"""What Runware calls. 200 means committed; what the body holds never changes the answer.

`Deliveries` says what is done; `webhook` is its door in an ASGI application, `connections.py` the one that `serve` has.
"""

import asyncio
from time import perf_counter
from uuid import UUID

from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from runware_provider.context import Context
from runware_provider.errors import GenerationNotFound, StateUnavailable
from runware_provider.logs import get_logger
from runware_provider.schemas import parse_delivery
from runware_provider.stub import GenerationStub
from runware_provider.tokens import WEBHOOK_PATH
from runware_provider.tracing import hide_query, span

log = get_logger()

BODY_WAIT = 10.0
"""Seconds that a delivery may take to arrive; Runware itself waits about 5 for the answer."""

_TEXTS = {
    200: b"ok\n",
    401: b"wrong or missing token\n",
    408: b"the body did not arrive in time\n",
    413: b"the body is too large\n",
    503: b"cannot be committed now, deliver again\n",
}
ANSWERS = {
    status: (
        [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"content-length", str(len(text)).encode()),
        ],
        text,
    )
    for status, text in _TEXTS.items()
}
"""Headers and body by status."""


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


class Deliveries:
    """What is done with a delivery, whichever door it comes through: whose it is, what it says, and what to answer."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.limit = int(ctx.settings.max_body_bytes)
        """Bytes that a body may have."""

    def authorized(self, query: bytes) -> UUID | None:
        """The generation that a delivery is for; None when its token is not that generation's."""
        return self._ctx.tokens.opened(query)

    def record(self, generation_id: UUID, body: bytes) -> asyncio.Future[None]:
        """Record what `body` says. Done when it is committed; what went wrong is for `status`."""
        if not generation_id.int:  # `doctor` asks itself through the public address
            nothing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            nothing.set_result(None)
            return nothing
        stub = GenerationStub(self._ctx.runtime, generation_id, self._ctx.clock)
        recorded = stub.record_webhook(parse_delivery(body))
        return recorded if isinstance(recorded, asyncio.Future) else asyncio.ensure_future(recorded)

    async def status(self, recorded: asyncio.Future[None], generation_id: UUID, body: bytes) -> int:
        """What to answer to a delivery that `record` was given: what belongs to nothing is kept all the same."""
        try:
            try:
                await recorded
            except StateUnavailable:
                raise
            except GenerationNotFound:
                await self._keep(generation_id, "unknown_generation", body)
            except Exception as error:
                log.exception("webhook_unclaimed", id=str(generation_id))
                await self._keep(generation_id, f"record_webhook raised {type(error).__name__}", body)
        except StateUnavailable as error:
            log.error("webhook_not_committed", id=str(generation_id), reason=str(error))  # noqa: TRY400  no traceback
            return 503
        return 200

    async def _keep(self, generation_id: UUID, reason: str, body: bytes) -> None:
        await self._ctx.runtime.keep_unclaimed(generation_id, reason, body, self._ctx.clock())

    def count(self, status: int, seconds: float) -> None:
        """One was answered, `seconds` after its head had been read."""
        if status == 200:
            self._ctx.metrics.acknowledged(seconds)
            self._ctx.tally.acknowledged.add()
            return
        self._ctx.metrics.answered(status)
        if status == 401:
            self._ctx.tally.unauthorized.add()


class _Webhook:
    """The door for any ASGI server."""

    def __init__(self, ctx: Context) -> None:
        self._deliveries = Deliveries(ctx)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = perf_counter()
        generation_id = self._deliveries.authorized(scope["query_string"])
        # Whoever logs or traces this request, the server of a foreign application too, reads it from here.
        scope["query_string"] = b""
        hide_query()
        status: int | None = 401
        if generation_id is not None:
            with span("webhook", generation_id) as noted:
                status = await self._take(generation_id, scope, receive)
                if status is not None:
                    noted.note(status=status)
                if status == 503:
                    noted.failed("503")
        if status is not None:
            self._deliveries.count(status, perf_counter() - began)
            await _answer(send, status)

    async def _take(self, generation_id: UUID, scope: Scope, receive: Receive) -> int | None:
        """The status to answer, None when nobody waits for one."""
        try:
            async with asyncio.timeout(BODY_WAIT):
                body = await self._body(scope, receive)
        except _TooLarge:
            return 413
        except TimeoutError:
            return 408
        except _Gone:
            return None
        return await self._deliveries.status(self._deliveries.record(generation_id, body), generation_id, body)

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        limit = self._deliveries.limit
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or int(value[:19]) > limit):
                raise _TooLarge
        pieces = bytearray()
        message = await receive()
        while message["type"] == "http.request":
            pieces += message.get("body", b"")
            if len(pieces) > limit:
                raise _TooLarge
            if not message.get("more_body"):
                return bytes(pieces)
            message = await receive()
        raise _Gone


async def _answer(send: Send, status: int) -> None:
    headers, text = ANSWERS[status]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
