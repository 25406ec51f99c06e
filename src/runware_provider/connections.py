"""HTTP connections of `serve`: impatient with who is slow, and quick with deliveries.

uvicorn's protocol, in two ways our own. A connection that holds a place and brings nothing is closed. And a delivery
passes neither through ASGI nor through a task, which were a sixth of its instructions. Whatever is unusual about one
takes uvicorn's way through the application, where `webhook` answers the same.
"""

import asyncio
from time import perf_counter
from typing import ClassVar, Final
from uuid import UUID

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from runware_provider import tracing
from runware_provider.logs import get_logger
from runware_provider.tokens import WEBHOOK_PATH
from runware_provider.webhook import ANSWERS, BODY_WAIT, Deliveries

log = get_logger()

HEAD_WAIT = 10.0
"""Seconds from the connection to the end of its first request's headers."""

READ_WAIT = 60.0
"""Seconds that a client may leave what we send lying there before it is hung up on."""

_DELIVERY: Final = f"{WEBHOOK_PATH}?".encode()


class Connection(HttpToolsProtocol):
    """A connection that does not bring a whole request head in time, or does not read what it asked for, is closed: it
    must not hold a place for ever.

    `deliveries`: who takes deliveries; None where none are taken.
    """

    deliveries: ClassVar[Deliveries | None] = None
    cycle: "RequestResponseCycle | _Delivery | None"  # type: ignore[assignment]  # as uvicorn has it, or ours
    _delivery: "_Delivery | None" = None
    _head_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None
    _idle_timer: asyncio.TimerHandle | None = None
    _quiet_since: float | None = None
    """When the last delivery was answered; None while a request is under way, or after one that was uvicorn's."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_WAIT, transport.close)

    def data_received(self, data: bytes) -> None:
        self._quiet_since = None
        super().data_received(data)
        if self._delivery is not None and self._delivery.more_body:
            self._delivery.waits()

    def on_message_begin(self) -> None:
        # uvicorn makes its scope here; a delivery has no use for one.
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        if self._head_timer is not None:
            self._forget_head()
        if self.url.startswith(_DELIVERY) and self.deliveries is not None and self._is_usual():
            self.cycle = self._delivery = _Delivery(self, self.deliveries)
            self._delivery.begin()
        else:
            self._delivery = None
            self._make_scope()
            super().on_headers_complete()

    def _make_scope(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)  # into the list that the scope has

    def on_body(self, body: bytes) -> None:
        if self._delivery is None:
            super().on_body(body)
        else:
            self._delivery.add(body)

    def on_message_complete(self) -> None:
        if self._delivery is None:
            super().on_message_complete()
        else:
            self._delivery.end()

    def _is_usual(self) -> bool:
        """Whether this is one request alone, for which we wait for nothing and of which nobody wants to hear."""
        return (
            self.parser.get_method() == b"POST"
            and (self.cycle is None or self.cycle.response_complete)
            and not self.expect_100_continue
            and not self.parser.should_upgrade()
            and not self.flow.write_paused
            and (self.limit_concurrency is None or len(self.connections) < self.limit_concurrency)
            and not tracing.listening()
        )

    def delivery_answered(self) -> None:
        """As `on_response_complete`, with one timer for many: whoever delivers a lot is never idle for long."""
        if self.pipeline or self.transport.is_closing():
            self.on_response_complete()
            return
        self.server_state.total_requests += 1
        self._quiet_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._perhaps_idle)

    def _perhaps_idle(self) -> None:
        self._idle_timer = None
        if self._quiet_since is None:
            return
        left = self._quiet_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._idle_timer = self.loop.call_later(left, self._perhaps_idle)
        else:
            self.timeout_keep_alive_handler()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read_timer = self.loop.call_later(READ_WAIT, self.transport.abort)

    def resume_writing(self) -> None:
        self._forget_read()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        self._forget_read()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)

    def _forget_read(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class _Delivery:
    """One delivery: to its connection what uvicorn's cycle of request and response is."""

    __slots__ = (
        "_began",
        "_body",
        "_connection",
        "_deliveries",
        "_id",
        "_timer",
        "disconnected",
        "keep_alive",
        "more_body",
        "response_complete",
    )

    _id: UUID

    def __init__(self, connection: Connection, deliveries: Deliveries) -> None:
        self._began = perf_counter()
        self._connection = connection
        self._deliveries = deliveries
        self._timer: asyncio.TimerHandle | None = None
        parser = connection.parser
        self.keep_alive = parser.get_http_version() != "1.0" and parser.should_keep_alive()
        self._body: bytes | bytearray = b""  # as it came, when it came in one piece
        self.more_body = True
        self.disconnected = self.response_complete = False

    @property
    def message_event(self) -> "_Delivery":
        """What uvicorn sets when the connection is lost: this."""
        return self

    def set(self) -> None:
        """Nobody waits any more. What is being committed is, all the same."""
        self._forget_timer()

    def begin(self) -> None:
        """Look at the head; who may not deliver is answered at once."""
        generation_id = self._deliveries.authorized(self._connection.url[len(_DELIVERY) :])
        if generation_id is None:
            self._answer(401)
            return
        self._id = generation_id
        for name, value in self._connection.headers:
            if name == b"content-length" and int(value[:19]) > self._deliveries.limit:
                self._answer(413)

    def waits(self) -> None:
        """All that came has been read, and the body is not whole yet: it may take its time, and no longer."""
        if not self.response_complete and self._timer is None:
            self._timer = self._connection.loop.call_later(BODY_WAIT, self._answer, 408)

    def add(self, piece: bytes) -> None:
        """A piece of the body has come."""
        if self.response_complete:
            return
        if not self._body:
            self._body = piece
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += piece
        if len(self._body) > self._deliveries.limit:
            self._answer(413)

    def end(self) -> None:
        """The body is whole."""
        if self.response_complete:
            return
        self.more_body = False
        if self._timer is not None:
            self._forget_timer()
        recorded = self._deliveries.record(self._id, bytes(self._body))
        recorded.add_done_callback(self._recorded)

    def _recorded(self, recorded: asyncio.Future[None]) -> None:
        if not recorded.cancelled() and recorded.exception() is None:
            self._answer(200)
            return
        connection = self._connection
        task = connection.loop.create_task(self._explain(recorded))
        connection.tasks.add(task)
        task.add_done_callback(connection.tasks.discard)

    async def _explain(self, recorded: asyncio.Future[None]) -> None:
        try:
            self._answer(await self._deliveries.status(recorded, self._id, bytes(self._body)))
        except Exception as error:
            log.exception("delivery_not_answered", id=str(self._id), reason=type(error).__name__)
            self._connection.transport.close()  # it is delivered again

    def _answer(self, status: int) -> None:
        if self.response_complete:
            return
        connection, transport = self._connection, self._connection.transport
        if not transport.is_closing():
            transport.write(_WRITTEN[status, self.keep_alive])
            if not self.keep_alive:
                transport.close()
        self.response_complete = True
        if self._timer is not None:
            self._forget_timer()
        self._deliveries.count(status, perf_counter() - self._began)
        connection.delivery_answered()

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _written(status: int, *, keep_alive: bool) -> bytes:
    headers, text = ANSWERS[status]
    lines = [b"%b: %b\r\n" % each for each in headers]
    if not keep_alive:
        lines.append(b"connection: close\r\n")
    return b"".join((STATUS_LINE[status], *lines, b"\r\n", text))


_WRITTEN = {
    (status, keep_alive): _written(status, keep_alive=keep_alive) for status in ANSWERS for keep_alive in (True, False)
}
