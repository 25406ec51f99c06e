"""Running the simulator: in the loop that is there, in a thread of its own, or until somebody says stop."""

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import uvicorn

from runware_provider.simulator.app import SimulatorApp, create_app
from runware_provider.simulator.faults import Staging
from runware_provider.simulator.ledger import Ledger
from runware_provider.simulator.options import SimulatorOptions

# How long requests that are being answered may take to end when the simulator stops; most end at once.
STOP_SECONDS = 5.0


class Simulator:
    """A running simulator: `async with Simulator() as simulator: ...` serves in the loop that is running.

    `port` 0 takes a free one. Raises `OSError` when the address cannot be had. Installs no signal handlers.
    """

    def __init__(self, options: SimulatorOptions | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.options = options or SimulatorOptions()
        self._host = host
        self._port = port
        self._app: SimulatorApp | None = None
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def origin(self) -> str:
        """`http://HOST:PORT`, where the CDN and `/_simulator` are."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def url(self) -> str:
        """The API's URL, as `RUNWARE_URL` wants it."""
        return f"{self.origin}/v1"

    @property
    def ledger(self) -> Ledger:
        """What was asked, billed and delivered. Safe to read from another thread."""
        return self._running.ledger

    @property
    def faults(self) -> Staging:
        """The plan in force: `faults.replace(plan)`, `faults.clear()`, `faults.fired`."""
        return self._running.faults

    @property
    def _running(self) -> SimulatorApp:
        if self._app is None:
            raise RuntimeError("the simulator is not running: use `async with`")
        return self._app

    async def __aenter__(self) -> Self:
        listener = _listener(self._host, self._port)
        self._port = listener.getsockname()[1]
        self._app = create_app(self.options)
        config = uvicorn.Config(
            self._app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            ws="none",
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({ready, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._serving.done():
            listener.close()
            self._serving.result()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._app is not None and self._server is not None and self._serving is not None:
            await self._app.stop()
            self._server.stop()
            await self._serving


async def serve(
    options: SimulatorOptions | None = None,
    host: str = "127.0.0.1",
    port: int = 8181,
    *,
    ready: Callable[[Simulator], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, or until cancelled; `ready` is called once the port is open.

    Prints nothing. Raises `OSError` when the address cannot be had. Signals are only heard in the main thread.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    heard = []
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, stop.set)
            heard.append(number)
    try:
        async with Simulator(options, host=host, port=port) as simulator:
            if ready is not None:
                ready(simulator)
            await stop.wait()
    finally:
        for number in heard:
            loop.remove_signal_handler(number)


def _listener(host: str, port: int) -> socket.socket:
    # The protocol must be named: asyncio turns Nagle's algorithm off only for sockets that say they are TCP, and with
    # it on every answer of two writes takes 40 ms.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(2048)
    except BaseException:
        listener.close()
        raise
    return listener


class _Server(uvicorn.Server):
    """uvicorn in somebody else's loop: no signal handlers, and no pauses of a tenth of a second at start and stop."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._stop = asyncio.Event()

    def stop(self) -> None:
        self.should_exit = True
        self._stop.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    @property
    def _busy(self) -> bool:
        return bool(self.server_state.connections or self.server_state.tasks)

    async def main_loop(self) -> None:
        self.ready.set()
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._stop.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for listener in sockets or ():
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        deadline = time.monotonic() + STOP_SECONDS
        # uvicorn has no event for the end of its last connection.
        while self._busy and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        for request in list(self.server_state.tasks):
            request.cancel()
        await self.lifespan.shutdown()
