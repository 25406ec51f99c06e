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
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from runware_provider.api import create_app, guarded, health_app
from runware_provider.connections import Connection
from runware_provider.context import Context
from runware_provider.errors import ConfigurationError
from runware_provider.webhook import Deliveries

SOCKET = "api.sock"
SOCKET_PATH_LIMIT = 100
"""Characters that a Unix socket's path may have on every system."""

STOP_LIMIT = 9.5
"""Seconds from the signal to the end of the process."""

KEEP_ALIVE = 30
"""Seconds that a connection may bring nothing before it is closed."""

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
            server = _server(guarded(ctx, health_app(ctx))) if health_only else _public(ctx, guarded(ctx, app))
            servers.append((server, listener))
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


def _server(app: ASGIApp, taking: Deliveries | None = None) -> _Server:
    class OfServer(Connection):
        deliveries = taking

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
            super().connection_made(transport)
            if server.should_exit:  # accepted while the others were being closed
                self.shutdown()

    server = _Server(
        uvicorn.Config(
            app,
            http=OfServer,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # see `_public`
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=SHUTDOWN_WAIT,
            timeout_keep_alive=KEEP_ALIVE,
            limit_concurrency=10_000,
            ws="none",
        )
    )
    return server


def _public(ctx: Context, app: ASGIApp) -> _Server:
    """Who forwarded a request matters to all but deliveries, which have a token of their own."""
    trusted = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1")
    forwarded = ProxyHeadersMiddleware(app, trusted)  # type: ignore[arg-type]  # one protocol, two libraries
    return _server(forwarded, Deliveries(ctx))  # type: ignore[arg-type]  # one protocol, two libraries


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
