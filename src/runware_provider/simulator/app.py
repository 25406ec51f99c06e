"""The simulator as an ASGI application."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from runware_provider.simulator.admin import Admin
from runware_provider.simulator.answers import CLOSING, TRANSPORT
from runware_provider.simulator.cdn import Cdn
from runware_provider.simulator.courier import Courier
from runware_provider.simulator.darkroom import Darkroom
from runware_provider.simulator.faults import Staging
from runware_provider.simulator.faults.plan import Fault, FaultPlan
from runware_provider.simulator.ledger import Ledger
from runware_provider.simulator.options import SimulatorOptions
from runware_provider.simulator.rest import Rest
from runware_provider.simulator.tasks import Tasks
from runware_provider.simulator.webhooks import WebhookSender


class SimulatorApp:
    """A local Runware: its API, its CDN, its webhook sender, its ledger, and the faults that are staged."""

    def __init__(self, options: SimulatorOptions) -> None:
        self.options = options
        self.ledger = Ledger(options.remember)
        self.faults = Staging(options.faults, _rates(options))
        self._closing = asyncio.Event()
        self._at_work: set[asyncio.Task[None]] = set()
        self._darkroom = Darkroom(options)
        self._sender = WebhookSender(options, self.ledger)
        courier = Courier(options, self.faults, self.ledger, self._darkroom, self._sender, self._spawn)
        tasks = Tasks(options, self.faults, self.ledger, self._darkroom, courier, self._spawn)
        rest = Rest(options, self.faults, self.ledger, tasks)

        self._app = Starlette(
            routes=[
                Route("/v1", rest.post, methods=["POST"]),
                Route("/v1/", rest.post, methods=["POST"]),
                Route("/image/ws/{n:int}/ii/{name}", Cdn(self.faults, self.ledger, self._darkroom), methods=["GET"]),
                *Admin(self.ledger, self.faults, self._darkroom).routes(),
            ],
            lifespan=self._lifespan,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "http":
            # Breaking a connection is nothing that ASGI can say; uvicorn's `send` belongs to what holds the transport.
            scope[TRANSPORT] = getattr(getattr(send, "__self__", None), "transport", None)
            scope[CLOSING] = self._closing
        await self._app(scope, receive, send)

    async def stop(self) -> None:
        """End what runs, is on its way or hangs; the server can then stop at once."""
        self._closing.set()
        at_work = list(self._at_work)
        for task in at_work:
            task.cancel()
        await asyncio.gather(*at_work, return_exceptions=True)
        await self._sender.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)
        return task

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:  # noqa: ARG002 - Starlette's shape
        try:
            yield
        finally:
            await self.stop()
            self._darkroom.close()


def create_app(options: SimulatorOptions | None = None) -> SimulatorApp:
    """The simulator to be served by any ASGI server. Faults of the connection need uvicorn; the lifespan must run."""
    return SimulatorApp(options or SimulatorOptions())


def _rates(options: SimulatorOptions) -> tuple[Fault, ...]:
    """The rates of the options, as rules."""
    rules = [
        {"on": "result", "do": "error", "probability": options.error_rate},
        {"on": "webhook", "do": "drop", "probability": options.webhook_drop_rate},
        {"on": "dispatch", "do": "status", "status": 503, "retry_after": 1, "probability": options.dispatch_error_rate},
    ]
    return FaultPlan.of(*[rule for rule in rules if rule["probability"]]).rules
