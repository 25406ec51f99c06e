"""What one worker carries with images in a bucket, and what a generation costs each process.

    python -m benchmarks.sizing [--clients 32] [--concurrency 16] [--image-bytes 200000] [--generations 600]

One API node, one worker, a PostgreSQL that syncs, an S3 (moto) and a stand-in for Runware, all on this machine; a row
in the read model is the end of a generation.
"""

import argparse
import asyncio
from time import perf_counter

from benchmarks.figures import percentile
from benchmarks.images import a_jpeg
from benchmarks.nodes import a_cluster
from benchmarks.processes import most_memory, processor
from tests.artifacts.buckets import KEY_ID, SECRET, moto
from tests.e2e.processes import fetch
from tests.postgres import postgres_server

WARM_UP = 50
"""Generations that nobody counts."""


async def measure(options: argparse.Namespace, endpoint: str) -> None:
    """Run one load and print what it took."""
    settings = {
        "RUNWARE_PROVIDER_CONCURRENCY": str(options.concurrency),
        "RUNWARE_PROVIDER_ARTIFACTS_URL": "s3://images",
        "RUNWARE_PROVIDER_S3_ENDPOINT": endpoint,
        "RUNWARE_PROVIDER_S3_ACCESS_KEY_ID": KEY_ID,
        "RUNWARE_PROVIDER_S3_SECRET_ACCESS_KEY": SECRET,
    }
    image = a_jpeg(options.image_bytes)
    with postgres_server(durable=True) as server:
        async with a_cluster(server, image, apis=1, workers=1, **settings) as (bench, _):
            await bench.create(WARM_UP, prompt="a boat", clients=options.clients)
            nodes = dict(zip(("API", "worker"), bench.pids, strict=True))
            before = {name: processor(pid) for name, pid in nodes.items()}
            began = perf_counter()
            waits = await bench.create(options.generations, prompt="a boat", clients=options.clients)
            took = perf_counter() - began
            print(
                f"{options.generations / took:.0f} generations/s, p50 {percentile(waits, 0.5) * 1e3:.0f} ms, "
                f"p99 {percentile(waits, 0.99) * 1e3:.0f} ms"
            )
            for name, pid in nodes.items():
                used = processor(pid) - before[name]
                print(
                    f"{name}: {used / took:.0%} of a core, {used / options.generations * 1e3:.1f} ms of processor a "
                    f"generation, {most_memory(pid) / 1e6:.0f} MB at most"
                )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", type=int, default=600)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--image-bytes", type=int, default=200_000)
    options = parser.parse_args()
    with moto() as endpoint:
        status, body = fetch(f"{endpoint}/images", "PUT")
        assert status == 200, body
        asyncio.run(measure(options, endpoint))


if __name__ == "__main__":
    main()
