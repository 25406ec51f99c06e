"""A process dies at any moment in the life of a generation: nothing is lost, nothing is paid or kept twice."""

import asyncio
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from runware_provider import Context, CreateArgs, ListArgs, Settings, create_generation
from runware_provider.durable import postgres
from runware_provider.errors import RunwareProviderError
from runware_provider.simulator import Simulator, SimulatorOptions
from tests.faults.mortal import Fate, ProcessDied, a_life, files_below, until
from tests.service import JsonObject

ORDER = CreateArgs(
    input={"positivePrompt": "a fox", "model": "runware:101@1", "width": 128, "height": 128, "numberResults": 2},
    idempotency_key="order-7",
)
QUICK = SimulatorOptions(
    latency=0.01,
    result_spread=0.0,
    webhook_latency=0.0,
    webhook_retry_first=0.02,
    webhook_retry_cap=0.1,
    image_bytes=40_000,
)


def a_listener() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    return listener


def the_settings(folder: Path, simulator: Simulator, listener: socket.socket, **more: Any) -> Settings:
    return Settings(
        runware_api_key=SecretStr("simulated"),
        runware_url=simulator.url,
        image_hosts=("127.0.0.1",),
        data_dir=folder,
        patience=timedelta(milliseconds=300),
        **{"public_url": f"http://127.0.0.1:{listener.getsockname()[1]}", **more},
    )


async def complete(ctx: Context) -> bool:
    """The client asks again, as clients do, and waits until all is settled."""
    try:
        state = await create_generation(ctx, ORDER)
    except RunwareProviderError:
        return False
    return state.settled and not (await ctx.runtime.stats()).tasks


AT_ONCE = 6
"""Lives that are lived side by side: most of a life is waiting."""


@pytest.mark.slow_over_postgres
@pytest.mark.timeout(280)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the dead close no sockets
async def test_death_at_any_moment_loses_and_doubles_nothing(
    tmp_path: Path, a_state: Callable[[Path], JsonObject], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every moment before and after each call of a port is tried; the next life ends the same."""
    monkeypatch.setattr(postgres, "LEASE", timedelta(seconds=0.2))
    moments: list[str] = []
    while "" not in moments:  # the life that got to its end
        first = len(moments) + 1
        numbers = range(first, first + AT_ONCE)
        moments += await asyncio.gather(*(a_death(each, tmp_path / str(each), a_state) for each in numbers))
    print(f"{len(moments) - AT_ONCE} moments: {', '.join(sorted(set(moments)))}")
    assert len(moments) > 20


async def a_death(dies_at: int, folder: Path, a_state: Callable[[Path], JsonObject]) -> str:
    """Die at this moment, live on from what is left, and find everything there; which moment it was."""
    with a_listener() as listener:
        async with Simulator(QUICK) as simulator:
            settings = the_settings(folder, simulator, listener, **a_state(folder))
            fate = Fate(dies_at)
            async with a_life(settings, listener, fate) as ctx:
                await until(lambda: complete(ctx), fate)
            survivor = Fate(None)
            async with a_life(settings, listener, survivor) as again:
                assert await until(lambda: complete(again), survivor), fate.last
                rows = (await again.projection.list(ListArgs())).items
                stats = await again.runtime.stats()
            [entry] = simulator.ledger.entries(0, 10)
    images = files_below(folder / "artifacts")
    assert (entry.billed, len(entry.results)) == (1, 2), fate.last
    assert [len(row.artifacts) for row in rows] == [2], fate.last
    assert sorted(artifact.key for artifact in rows[0].artifacts) == [
        str(image.relative_to(folder / "artifacts")) for image in images
    ], fate.last
    assert (stats.running, stats.parked) == (0, 0), fate.last
    assert [each for each in files_below(folder) if each.parent.name == "tmp"] == [], fate.last
    return fate.last


def test_death_is_not_caught() -> None:
    """An `except Exception` of ours must not outlive its process."""
    assert not issubclass(ProcessDied, Exception)
