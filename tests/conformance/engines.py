"""The engines that the conformance suite runs over, and the one place that names them.

An address opens the same state in this process and in a child.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from runware_provider.durable import GenerationRuntime
from runware_provider.durable.sqlite import SqliteRuntime
from runware_provider.schedule import Policy

ENGINES = ("sqlite",)

OpenRuntime = Callable[..., AbstractAsyncContextManager[GenerationRuntime]]
"""`open_runtime(policy=Policy(), grace=0.0)`: the same state each time; leaving stops it with `grace`."""


def an_address(engine: str, folder: Path) -> str:
    """A fresh, empty state for `engine`."""
    match engine:
        case "sqlite":
            return f"sqlite:{folder / 'state.db'}"
        case _:
            raise ValueError(f"no such engine: {engine}")


async def open_address(address: str, policy: Policy) -> GenerationRuntime:
    """The runtime over the state at `address`."""
    engine, _, place = address.partition(":")
    match engine:
        case "sqlite":
            return SqliteRuntime(Path(place), policy)
        case _:
            raise ValueError(f"no such engine: {engine}")


@asynccontextmanager
async def opened(address: str, policy: Policy | None = None, grace: float = 0.0) -> AsyncIterator[GenerationRuntime]:
    """Open it, and stop it at the end."""
    runtime = await open_address(address, policy or Policy())
    try:
        yield runtime
    finally:
        await runtime.stop(grace=grace)
