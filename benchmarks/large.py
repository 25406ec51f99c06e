"""One image of 100 MB, against what `curl`, `sync` and `sha256sum` need for the same bytes from the same server."""

import asyncio
import subprocess
from pathlib import Path
from time import perf_counter

from benchmarks.figures import Figure, Report
from benchmarks.images import a_jpeg
from benchmarks.service import a_service

BYTES = 100_000_000


async def measure(rounds: int) -> Report:
    """The figures. The service's time is that of the whole generation, from the request to the row."""
    ours, theirs = [], []
    async with a_service(a_jpeg(BYTES), RUNWARE_PROVIDER_MAX_IMAGE_BYTES="128MiB") as bench:
        await asyncio.sleep(1)  # the process that keeps images has begun
        before = bench.memory()
        await bench.create(1, prompt="a boat", clients=1)
        url = f"http://127.0.0.1:{bench.stand_in.port}/image.jpg"
        for _ in range(rounds):
            theirs.append(await asyncio.to_thread(_by_hand, url, bench.folder / "by-hand.jpg"))
            ours.extend(await bench.create(1, prompt="a boat", clients=1))
        grown = bench.memory() - before
    share = [100 * hand / own for own, hand in zip(ours, theirs, strict=True)]
    return Report(
        [
            Figure("one image of 100 MB, against `curl -o`, `sync`, `sha256sum`", "%", share, "at least", 60),
            Figure("… time of the generation", "s", ours, digits=2),
            Figure("… time by hand", "s", theirs, digits=2),
            Figure("… memory that it took", "MB", [grown / 1e6]),
        ]
    )


def _by_hand(url: str, path: Path) -> float:
    began = perf_counter()
    subprocess.run(["curl", "-s", "-o", path, url], check=True)
    subprocess.run(["sync", path], check=True)
    subprocess.run(["sha256sum", path], check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - began
