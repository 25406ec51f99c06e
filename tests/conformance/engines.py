"""The engines that the conformance suite runs over, and the one place that names them.

An address opens the same state in this process and in a child.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path

from runware_provider.durable import GenerationRuntime
from runware_provider.durable.postgres import PostgresRuntime
from runware_provider.durable.sqlite import SqliteRuntime, utc_now
from runware_provider.schedule import Policy

ENGINES = ("sqlite", "postgres")

OpenRuntime = Callable[..., AbstractAsyncContextManager[GenerationRuntime]]
"""`open_runtime(policy=Policy(), grace=0.0)`: the same state each time; leaving stops it with `grace`."""


LEASE = timedelta(seconds=0.5)
"""How long a dead process's tasks wait here before another one takes them over."""


def an_address(place: str | Path) -> str:
    """The address of a state in a folder, or in a migrated database at a URL."""
    return f"sqlite:{place / 'state.db'}" if isinstance(place, Path) else f"postgres:{place}"


async def open_address(address: str, policy: Policy) -> GenerationRuntime:
    """The runtime over the state at `address`."""
    engine, _, place = address.partition(":")
    match engine:
        case "sqlite":
            return SqliteRuntime(Path(place), policy)
        case "postgres":
            return await PostgresRuntime.open(place, policy, utc_now, lease=LEASE)
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
