"""A process that dies at a chosen moment, and a life that is lived until then.

All I/O passes through ports, so the moments at which a process can die can be counted: before and after each call.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

import uvicorn

from runware_provider.api import create_app
from runware_provider.context import Context, _slots
from runware_provider.durable import GenerationRuntime
from runware_provider.durable.postgres import PostgresRuntime
from runware_provider.durable.sqlite import SqliteRuntime
from runware_provider.processing import Processing
from runware_provider.serving import _Server
from runware_provider.settings import Settings

_GRAVES: list[Any] = []


class ProcessDied(BaseException):
    """Not an Exception: no `except Exception` of ours may outlive its own process."""


class Fate:
    """Counts moments over all ports, and dies at the nth. Once dead, everything is."""

    def __init__(self, dies_at: int | None) -> None:
        self._dies_at = dies_at
        self.moments = 0
        self.last = ""
        self.died = asyncio.Event()

    def pass_moment(self, what: str) -> None:
        """One more moment at which a process can die."""
        if self.died.is_set():
            raise ProcessDied
        self.moments += 1
        if self.moments == self._dies_at:
            self.last = what
            self.died.set()
            raise ProcessDied


class Mortal:
    """A port whose calls are moments of one fate."""

    def __init__(self, port: Any, fate: Fate) -> None:
        self._port = port
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if not iscoroutinefunction(method):
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._fate.pass_moment(f"before {type(self._port).__name__}.{name}")
            result = await method(*args, **kwargs)
            self._fate.pass_moment(f"after {type(self._port).__name__}.{name}")
            return result

        return call


@asynccontextmanager
async def a_life(settings: Settings, listener: socket.socket, fate: Fate) -> AsyncIterator[Context]:
    """The service over ports that may die. It ends as a killed process ends: nothing is finished, nothing is told."""
    async with AsyncExitStack() as stack:
        # Entered by hand, so that the orderly stop can be left out.
        opened = Context.open(settings, work=False)
        whole = await opened.__aenter__()
        # Neither the loop nor the garbage collector may close it later: nobody closes what belonged to a dead process.
        _GRAVES.append(opened.gen)
        asyncio.get_running_loop()._asyncgens.discard(opened.gen)  # type: ignore[attr-defined]
        runtime = whole.runtime
        names = ("runtime", "artifacts", "projection_writer", "runware_client")
        mortal: dict[str, Any] = {name: Mortal(getattr(whole, name), fate) for name in names}
        ctx = replace(whole, **mortal)
        worker = Processing(ctx, ctx.webhook_url)
        runtime.start(worker, slots=_slots(settings, may_dispatch=True))
        server = _Server(uvicorn.Config(create_app(ctx), lifespan="off", log_config=None, access_log=False))
        own = stack.enter_context(listener.dup())
        serving = asyncio.create_task(server.serve(sockets=[own]))
        try:
            yield ctx
        finally:
            await _kill(whole, runtime, worker)
            server.force_exit = True
            server.end()
            await serving


async def _kill(whole: Context, runtime: GenerationRuntime, worker: Processing) -> None:
    """What the operating system does to a process: files are closed, locks go, and no code of ours runs."""
    if isinstance(runtime, PostgresRuntime):
        await _kill_node(runtime)
    else:
        assert isinstance(runtime, SqliteRuntime)
        await _kill_owner(runtime)
    await worker.close()
    await whole.artifacts.aclose()
    await whole.projection.aclose()
    if whole.runware_client is not None:
        await whole.runware_client.close()
    whole.owner.release()


async def _kill_node(runtime: PostgresRuntime) -> None:
    runtime._handout._stopping = True
    for timer in runtime._handout._delayed.values():
        timer.cancel()
    tasks = [*runtime._handout._running.values(), *runtime._background, *runtime._jobs._tasks]
    tasks += [*runtime._lanes._running, runtime._listener._task]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    runtime._pool.terminate()


async def _kill_owner(runtime: SqliteRuntime) -> None:
    runtime._alarms.stop()
    runtime._handout._stopping = True
    tasks = [*runtime._handout._running.values(), *runtime._background, runtime._commits._task]
    for timer in runtime._handout._delayed.values():
        timer.cancel()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    runtime._commits._thread.end()
    runtime._store.close()


async def until(done: Callable[[], Awaitable[bool]], fate: Fate, *, within: float = 20.0) -> bool:
    """Wait until `done`, or death; whether it was done."""
    death = asyncio.ensure_future(fate.died.wait())
    try:
        async with asyncio.timeout(within):
            while not fate.died.is_set():
                asked = asyncio.ensure_future(done())
                await asyncio.wait((asked, death), return_when=asyncio.FIRST_COMPLETED)
                if not asked.done():  # who asks a dead process is not answered
                    asked.cancel()
                    await asyncio.wait((asked,))
                    return False
                try:
                    if asked.result():
                        return True
                except ProcessDied:
                    return False
                await asyncio.wait((death,), timeout=0.02)
        return False
    finally:
        death.cancel()


def files_below(folder: Path) -> list[Path]:
    """Every file, hidden ones too."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
