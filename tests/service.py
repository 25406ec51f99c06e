"""What the tests of the service's rooms are built with: a service on loopback, and a Runware that says anything."""

import asyncio
import json
import sqlite3
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Self
from uuid import UUID, uuid4

import aiohttp
import uvicorn
from pydantic import SecretStr
from starlette.types import ASGIApp

from runware_provider.context import Context
from runware_provider.create import create_generation, wait_for
from runware_provider.durable import Birth, Clock
from runware_provider.durable.sqlite import utc_now
from runware_provider.serving import bind, serving
from runware_provider.settings import Settings
from runware_provider.simulator import FaultPlan, Simulator, SimulatorOptions
from runware_provider.types import CreateArgs, GenerationArgs, GenerationState, SuccessOutput
from runware_provider.types import Request as CreateRequest

JsonObject = dict[str, Any]

PATIENCE = 10.0
"""Seconds that a test waits for what should happen at once."""

KEY = "a-key-of-runware"

AMBIENT: JsonObject = {}
"""Settings of every service of a test, set by a fixture: where its state lies."""


def an_input(**fields: Any) -> JsonObject:
    """A small request, as a client sends it."""
    return {"positivePrompt": "a lighthouse at dusk", "model": "runware:101@1", "width": 128, "height": 128} | fields


def some_args(*, key: str | None = None, metadata: dict[str, str] | None = None, **fields: Any) -> CreateArgs:
    """The arguments of a small request."""
    return CreateArgs(input=an_input(**fields), metadata=metadata or {}, idempotency_key=key)


def some_settings(tmp_path: Path, **changes: Any) -> Settings:
    """Settings of a service below `tmp_path` that may fetch from loopback."""
    given: JsonObject = {
        "runware_api_key": SecretStr(KEY),
        "data_dir": tmp_path / "data",
        "runware_url": "http://127.0.0.1:9/v1",
        "image_hosts": ("127.0.0.1",),
    }
    return Settings(**(given | AMBIENT | changes))


def some_options(**changes: Any) -> SimulatorOptions:
    """A simulator without latency."""
    quick: JsonObject = {
        "latency": 0.0,
        "result_spread": 0.0,
        "webhook_latency": 0.0,
        "webhook_retry_first": 0.01,
        "webhook_retry_cap": 0.02,
    }
    return SimulatorOptions(**(quick | changes))


@asynccontextmanager
async def a_simulator(*rules: JsonObject, **options: Any) -> AsyncIterator[Simulator]:
    """A running simulator with these faults."""
    async with Simulator(some_options(faults=FaultPlan.of(*rules), **options)) as simulator:
        yield simulator


@dataclass
class Answer:
    """One answer of the service, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    @property
    def problem(self) -> JsonObject:
        """The body of an error. Fails when the answer is none as RFC 9457 has them."""
        assert self.headers["content-type"] == "application/problem+json", self
        problem: JsonObject = self.json
        assert problem["status"] == self.status
        assert problem["title"]
        assert problem["detail"]
        return problem

    @property
    def fields(self) -> list[str]:
        """The fields that a problem names."""
        return [issue["field"] for issue in self.problem.get("errors", [])]


@dataclass
class Service:
    """A service that is being served at `url`, its context, and the simulator that it uses."""

    ctx: Context
    url: str
    session: aiohttp.ClientSession
    simulator: Simulator | None = None
    app: ASGIApp | None = None
    headers: dict[str, str] = field(default_factory=dict)
    seen: set[tuple[str, str, int]] = field(default_factory=set)

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        """One request; `options` are aiohttp's."""
        headers = {**self.headers, **options.pop("headers", {})}
        async with self.session.request(method, self.url + path, headers=headers, **options) as answer:
            self.seen.add((method, path, answer.status))
            body = await answer.read()
            return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, body)

    async def get(self, path: str, **options: Any) -> Answer:
        """A GET."""
        return await self.ask("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Answer:
        """A POST."""
        return await self.ask("POST", path, **options)

    async def delete(self, path: str, **options: Any) -> Answer:
        """A DELETE."""
        return await self.ask("DELETE", path, **options)

    async def deliver(self, generation_id: UUID, body: Any, *, token: str | None = None) -> Answer:
        """What Runware does with a result; `token` replaces the right one."""
        query = {"generation_id": str(generation_id), "token": token or self.ctx.tokens.token(generation_id)}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.post("/webhooks/runware", params=query, data=data)

    async def create(self, **options: Any) -> GenerationState:
        """A new generation, through the library's door."""
        return await create_generation(self.ctx, some_args(**options))

    async def made(self, **options: Any) -> GenerationState:
        """A generation that is complete and in the read model."""
        return await self.settled((await self.create(**options)).id)

    async def settled(self, generation_id: UUID) -> GenerationState:
        """Its state once nothing more will happen."""
        return await until(self.ctx, generation_id, lambda state: state.settled)

    def stage(self, *rules: JsonObject) -> None:
        """Put a fault plan in force."""
        assert self.simulator is not None
        self.simulator.faults.replace(FaultPlan.of(*rules))

    def billed(self, state: GenerationState) -> int:
        """How often a generation was paid for."""
        assert self.simulator is not None
        entry = self.simulator.ledger.entry(str(state.task_uuid))
        return entry.billed if entry is not None else 0


async def until(ctx: Context, generation_id: UUID, holds: Callable[[GenerationState], bool]) -> GenerationState:
    """The first state for which `holds` is true; fails when none comes."""
    args = GenerationArgs(generation_id=generation_id)
    state = await wait_for(ctx, args, holds, timedelta(seconds=PATIENCE))
    assert holds(state), state
    return state


async def eventually(holds: Callable[[], bool | Awaitable[bool]]) -> None:
    """Wait for what no event tells: counts and the like."""
    async with asyncio.timeout(PATIENCE):
        while True:
            held = holds()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.005)


def images(state: GenerationState) -> list[SuccessOutput]:
    """The images that are stored."""
    return [output for output in state.outputs if output.type == "success"]


def error_codes(state: GenerationState) -> list[str]:
    """The codes of the outputs that failed."""
    return [output.error.code for output in state.outputs if output.type == "error"]


def objects(tmp_path: Path) -> list[Path]:
    """What lies in the object store."""
    return sorted(path for path in (tmp_path / "data" / "artifacts").rglob("*") if path.is_file())


async def born(ctx: Context, *, expected: int = 1) -> GenerationState:
    """A generation that is committed and, in a context that does no work, goes nowhere by itself."""
    now = ctx.clock()
    birth = Birth(
        id=uuid4(),
        task_uuid=uuid4(),
        request=CreateRequest(an_input(numberResults=expected), {}),
        expected=expected,
        now=now,
        deadline=now + timedelta(minutes=15),
    )
    return await ctx.runtime.get_state((await ctx.runtime.create(birth)).id)


@contextmanager
def locked(database: Path) -> Iterator[None]:
    """While this lasts, nobody else can commit to a SQLite file."""
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """The address at which uvicorn serves somebody's application, with its usual access log."""
    with bind("127.0.0.1", 0) as listener:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
        serving_it = asyncio.create_task(server.serve(sockets=[listener]))
        await eventually(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving_it


@asynccontextmanager
async def a_context(
    tmp_path: Path, *, work: bool = True, clock: Clock = utc_now, **settings: Any
) -> AsyncIterator[Context]:
    """An open context below `tmp_path`."""
    async with Context.open(some_settings(tmp_path, **settings), work=work, clock=clock) as ctx:
        yield ctx


@asynccontextmanager
async def a_service(
    tmp_path: Path,
    *rules: JsonObject,
    delivery: str = "webhook",
    options: JsonObject | None = None,
    runware_url: str | None = None,
    work: bool = True,
    clock: Clock = utc_now,
    **settings: Any,
) -> AsyncIterator[Service]:
    """A whole service on a free loopback port: its context, its HTTP server, and a simulator with these faults.

    With `runware_url` that is used, and there is no simulator.
    """
    async with AsyncExitStack() as stack:
        simulator = None
        if runware_url is None:
            simulator = await stack.enter_async_context(a_simulator(*rules, **(options or {})))
            runware_url = simulator.url
        listener = bind("127.0.0.1", 0)
        stack.callback(listener.close)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        public = {"public_url": url} if delivery == "webhook" else {}
        ctx = await stack.enter_async_context(
            a_context(tmp_path, work=work, clock=clock, runware_url=runware_url, **(public | settings))
        )
        app = await stack.enter_async_context(serving(ctx, listener))
        session = await stack.enter_async_context(
            aiohttp.ClientSession()
        )  # closed first: a server waits for its clients
        yield Service(ctx, url, session, simulator, app)


@dataclass
class Request:
    """One request as a `RawRunware` got it."""

    head: str
    body: bytes

    @property
    def tasks(self) -> list[JsonObject]:
        """The tasks in it."""
        tasks: list[JsonObject] = json.loads(self.body)
        return tasks

    @property
    def task_uuid(self) -> str:
        """Of the first task."""
        task_uuid: str = self.tasks[0]["taskUUID"]
        return task_uuid


Reply = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


def says(body: Any = b"", status: str = "200 OK", **headers: str) -> Reply:
    """Answer `body` (bytes, or what is encoded as JSON); `_` in header names stands for `-`."""

    async def reply(_: Request, writer: asyncio.StreamWriter) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(data)}", "Content-Type: application/json"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        await writer.drain()

    return reply


async def acknowledges(request: Request, writer: asyncio.StreamWriter) -> None:
    """Accept the task."""
    await says({"data": [{"taskType": "imageInference", "taskUUID": request.task_uuid}]})(request, writer)


async def hangs_up(_: Request, writer: asyncio.StreamWriter) -> None:
    """Read all, then break the connection without a word."""
    writer.transport.abort()


async def says_nothing(_: Request, writer: asyncio.StreamWriter) -> None:
    """Read all, and never answer."""
    await asyncio.Event().wait()


class RawRunware:
    """A server that says exactly what it is told to: `replies` one after the other, the last one from then on."""

    def __init__(self, *replies: Reply, tls: ssl.SSLContext | None = None) -> None:
        self.replies = list(replies)
        self._tls = tls
        self.asked: list[Request] = []
        self.connections = 0
        self._handlers: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for handler in list(self._handlers):
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        handler = asyncio.current_task()
        assert handler is not None
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = next(
                    int(line.partition(":")[2])
                    for line in head.splitlines()
                    if line.lower().startswith("content-length:")
                )
                request = Request(head, await reader.readexactly(length))
                self.asked.append(request)
                reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                await reply(request, writer)
        writer.close()
        with suppress(ConnectionError, ssl.SSLError, asyncio.CancelledError):
            await writer.wait_closed()
