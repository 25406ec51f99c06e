"""What the simulator's tests are written with: a client of its API and a receiver of its webhooks."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aiohttp
from aiohttp import web

from runware_provider.simulator import FaultPlan, Simulator, SimulatorOptions

JsonObject = dict[str, Any]
PATIENCE = 10.0


def prompt_options(**changes: Any) -> SimulatorOptions:
    """Options without any latency, and with retries that do not keep a test waiting."""
    quick: JsonObject = {
        "latency": 0.0,
        "result_spread": 0.0,
        "webhook_latency": 0.0,
        "webhook_retry_first": 0.01,
        "webhook_retry_cap": 0.02,
    }
    return SimulatorOptions(**(quick | changes))


@dataclass
class Receiver:
    """Takes webhooks; `statuses` are answered one after the other, then 200."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    silence: float = 0.0
    location: str | None = None
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.read())
        self._more.set()
        if self.silence:
            await asyncio.sleep(self.silence)
        headers = {"Location": self.location} if self.location is not None else None
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200, headers=headers)

    async def wait(self, count: int) -> list[JsonObject]:
        """The first `count` bodies, decoded."""
        async with asyncio.timeout(PATIENCE):
            while len(self.bodies) < count:
                self._more.clear()
                await self._more.wait()
        return [json.loads(body) for body in self.bodies[:count]]


@dataclass
class Api:
    """A client of one simulator."""

    simulator: Simulator
    session: aiohttp.ClientSession
    receiver: Receiver

    def task(self, **fields: Any) -> JsonObject:
        """A valid `imageInference` task."""
        return {
            "taskType": "imageInference",
            "taskUUID": str(uuid4()),
            "positivePrompt": "a lighthouse at dusk",
            "model": "runware:101@1",
            "width": 256,
            "height": 256,
        } | fields

    def hooked(self, **fields: Any) -> JsonObject:
        """A task whose results come to the receiver."""
        return self.task(webhookURL=self.receiver.url, **fields)

    async def post(self, *tasks: JsonObject, key: str = "a-key") -> tuple[int, JsonObject]:
        """Status and body of one request."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        async with self.session.post(self.simulator.url, json=list(tasks), headers=headers) as answer:
            return answer.status, await answer.json()

    async def made(self, **fields: Any) -> list[JsonObject]:
        """The items of a sync task."""
        status, body = await self.post(self.task(**fields))
        assert status == 200, body
        items: list[JsonObject] = body["data"]
        return items

    async def rows(self, task_uuid: str) -> JsonObject:
        """What `getResponse` says of one task."""
        _, body = await self.post({"taskType": "getResponse", "taskUUID": task_uuid})
        return body

    async def finished(self, task_uuid: str) -> JsonObject:
        """What `getResponse` says once nothing is processing."""
        async with asyncio.timeout(PATIENCE):
            while True:
                body = await self.rows(task_uuid)
                if all(row.get("status") != "processing" for row in body.get("data", [])):
                    return body
                await asyncio.sleep(0.005)

    async def settled(self) -> None:
        """Wait until no webhook is on its way."""
        totals = self.simulator.ledger.totals
        async with asyncio.timeout(PATIENCE):
            while totals.running or totals.webhooks_pending:  # noqa: ASYNC110 - the ledger has no events
                await asyncio.sleep(0.005)

    def stage(self, *rules: JsonObject, seed: int = 0) -> None:
        """Put a fault plan in force."""
        self.simulator.faults.replace(FaultPlan.of(*rules, seed=seed))


@asynccontextmanager
async def simulated(**options: Any) -> AsyncIterator[Api]:
    """A running simulator with its client and a receiver."""
    receiver = Receiver()
    application = web.Application()
    application.router.add_post("/hook", receiver.take)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    receiver.url = f"http://{host}:{port}/hook?generation_id=g&token=t"
    try:
        async with Simulator(prompt_options(**options)) as simulator, aiohttp.ClientSession() as session:
            yield Api(simulator, session, receiver)
    finally:
        await runner.cleanup()
