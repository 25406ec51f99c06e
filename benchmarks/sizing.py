"""What one worker carries with images in a bucket, and what a generation costs each process.

    PYTHONPATH=src python -m benchmarks.sizing [--clients 32] [--concurrency 16] [--image-bytes 200000]

One API node, one worker, a PostgreSQL that syncs, an S3 (moto) and a simulator that delivers by webhook, all on this
machine; a row in the read model is the end of a generation.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from benchmarks.nodes import load, resident
from tests.artifacts.buckets import KEY_ID, SECRET, moto
from tests.e2e.processes import World, fetch
from tests.faults.balancer import Balancer
from tests.faults.cluster import Cluster
from tests.postgres import postgres_server

WARM_UP = 50
"""Generations that nobody counts."""


def used(pid: int) -> float:
    """Seconds of processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(world: World, database: str, endpoint: str, options: argparse.Namespace) -> None:
    """Run one load and print what it took."""
    world.simulate("--latency", "0.02-0.05", "--image-bytes", str(options.image_bytes))
    world.environ |= {
        "RUNWARE_PROVIDER_CONCURRENCY": str(options.concurrency),
        "RUNWARE_PROVIDER_ARTIFACTS_URL": "s3://images",
        "RUNWARE_PROVIDER_S3_ENDPOINT": endpoint,
        "RUNWARE_PROVIDER_S3_ACCESS_KEY_ID": KEY_ID,
        "RUNWARE_PROVIDER_S3_SECRET_ACCESS_KEY": SECRET,
    }
    cluster = Cluster(world, database, apis=1, workers=1)
    with Balancer(cluster.port, cluster.api_ports):
        cluster.await_all()
        nodes = {
            name: node.pid for name, node in zip(("API", "worker"), cluster.nodes, strict=True) if node is not None
        }
        url = f"http://127.0.0.1:{cluster.api_ports[0]}"
        load(url, WARM_UP, options.clients)
        before = {name: used(pid) for name, pid in nodes.items()}
        began = time.monotonic()
        waits = sorted(load(url, options.generations, options.clients))
        took = time.monotonic() - began
        print(
            f"{options.generations / took:.0f} generations/s, p50 {waits[len(waits) // 2] * 1e3:.0f} ms, "
            f"p99 {waits[len(waits) * 99 // 100] * 1e3:.0f} ms"
        )
        for name, pid in nodes.items():
            cpu = used(pid) - before[name]
            print(
                f"{name}: {cpu / took:.0%} of a core, {cpu / options.generations * 1e3:.1f} ms of processor a "
                f"generation, {resident(pid):.0f} MB at most"
            )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", type=int, default=600)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--image-bytes", type=int, default=200_000)
    options = parser.parse_args()
    with (
        postgres_server(durable=True) as server,
        moto() as endpoint,
        tempfile.TemporaryDirectory(prefix="sizing-") as folder,
        World(Path(folder)) as world,
    ):
        status, body = fetch(f"{endpoint}/images", "PUT")
        assert status == 200, body
        measure(world, server.url(server.create_database()), endpoint, options)


if __name__ == "__main__":
    main()
