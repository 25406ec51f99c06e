"""The service as a process: the HTTP server on TCP, the same API on the owner's socket, and a clean end."""

import asyncio
import gc
import os
import signal
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runware_provider.api import create_app, guarded, health_app
from runware_provider.context import Context
from runware_provider.errors import ConfigurationError
from runware_provider.tokens import WEBHOOK_PATH
from runware_provider.webhook import webhook

SOCKET = "api.sock"
SOCKET_PATH_LIMIT = 100
"""Characters that a Unix socket's path may have on every system."""

HEAD_WAIT = 10.0
"""Seconds from the connection to the end of its first request's headers."""

READ_WAIT = 60.0
"""Seconds that a client may leave what we send lying there before it is hung up on."""

STOP_LIMIT = 9.5
"""Seconds from the signal to the end of the process."""

SHUTDOWN_WAIT = 2
"""Seconds that open connections get at a stop."""


class _Server(uvicorn.Server):
    """uvicorn as a part: others handle signals, and a start or stop is noticed at once, without a poll."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._end = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        self.listening.set()
        await self._end.wait()

    def end(self) -> None:
        """Stop accepting; `serve` returns when open connections are done, or their time is up."""
        self.should_exit = True
        self._end.set()


def bind(host: str, port: int) -> socket.socket:
    """A listening TCP socket. Raises ConfigurationError that names the remedy."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}: {error}. Give another --host") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror}. Give another --port, or stop what listens there"
        ) from error
    return listener


@asynccontextmanager
async def serving(ctx: Context, listener: socket.socket | None, *, health_only: bool = False) -> AsyncIterator[ASGIApp]:
    """Serve `ctx` on `listener`, behind its guard, and on the owner's socket, until the block ends.

    `health_only`: on `listener` only health and metrics. Gives the application that is served on the socket.
    """
    app = create_app(ctx)
    servers: list[tuple[_Server, socket.socket]] = []
    with _owners_socket(ctx.owner.data_dir) as (path, local):
        servers.append((_server(guarded(ctx, app, trusted=True)), local))
        if listener is not None:
            public = guarded(ctx, health_app(ctx)) if health_only else _Front(ctx, guarded(ctx, app))
            servers.append((_server(public), listener))
        # Not a task group: what the block raises must come out as it is.
        running = [asyncio.create_task(server.serve(sockets=[each])) for server, each in servers]
        try:
            for server, _ in servers:
                await server.listening.wait()
            ctx.owner.announce(path, f"http://{_address(listener)}" if listener else None)
            yield app
        finally:
            ctx.owner.announce(None)
            ctx.runtime.release()  # or whoever follows a generation would hold his connection to the last second
            for server, _ in servers:
                server.end()
            await asyncio.gather(*running)


async def until_stopped() -> None:
    """Wait for SIGTERM or SIGINT. From then on the process has `STOP_LIMIT`; a second signal ends it at once."""
    gc.freeze()  # what is there now stays to the end: modules, routes, models
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: os._exit(130) if stopped.is_set() else stopped.set())
    await stopped.wait()
    # A request to a bucket that stalls, in a thread, cannot be interrupted. What is committed is all there is, so that
    # ending like this loses nothing.
    limit = threading.Timer(STOP_LIMIT, os._exit, (0,))
    limit.daemon = True
    limit.start()


class _Impatient(HttpToolsProtocol):
    """A connection that does not bring a whole request head in time, or does not read what it asked for, is closed: it
    must not hold a place for ever."""

    _head_timer: asyncio.TimerHandle | None = None
    _read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_WAIT, transport.close)

    def on_headers_complete(self) -> None:
        self._forget_head()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read_timer = self.loop.call_later(READ_WAIT, self.transport.abort)

    def resume_writing(self) -> None:
        self._forget_read()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        self._forget_read()
        super().connection_lost(exc)

    def _forget_read(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def _server(app: ASGIApp) -> _Server:
    class Connection(_Impatient):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
            super().connection_made(transport)
            if server.should_exit:  # accepted while the others were being closed
                self.shutdown()

    server = _Server(
        uvicorn.Config(
            app,
            http=Connection,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # see `_Front`
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=SHUTDOWN_WAIT,
            timeout_keep_alive=30,
            limit_concurrency=10_000,
            ws="none",
        )
    )
    return server


class _Front:
    """Deliveries before all else: what every other request passes through costs more than a delivery itself.

    Nothing of it is for them: they have a token of their own, and nobody looks at who forwarded them.
    """

    def __init__(self, ctx: Context, app: ASGIApp) -> None:
        self._deliveries = webhook(ctx).app
        trusted = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1")
        self._app = ProxyHeadersMiddleware(app, trusted)  # type: ignore[arg-type]  # one protocol, two libraries

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and scope["path"] == WEBHOOK_PATH and scope["method"] == "POST":
            await self._deliveries(scope, receive, send)
        else:
            await self._app(scope, receive, send)  # type: ignore[arg-type]  # one protocol, two libraries


@contextmanager
def _owners_socket(data_dir: Path) -> Iterator[tuple[Path, socket.socket]]:
    """A Unix socket that only this user can open, inside the data directory when its path is short enough."""
    with tempfile.TemporaryDirectory(prefix="runware-provider-") as other:
        path = data_dir.absolute() / SOCKET
        if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
            path = Path(other) / SOCKET
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            before = os.umask(0o177)
            try:
                listener.bind(str(path))
            finally:
                os.umask(before)
            listener.listen(128)
            yield path, listener
        finally:
            listener.close()
            path.unlink(missing_ok=True)


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
