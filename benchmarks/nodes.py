"""What workers over one PostgreSQL carry: generations a second, from request to row, with 1, 2 and 3 of them.

    PYTHONPATH=src python -m benchmarks.nodes [--generations 600] [--workers 1 2 3] [--clients 32]

One API node, a simulator that delivers by webhook, images in a folder that is synced, all on this machine.
"""

import argparse
import json
import re
import tempfile
import threading
import time
from itertools import count
from pathlib import Path

from tests.e2e.processes import World, fetch, is_settled
from tests.faults.balancer import Balancer
from tests.faults.cluster import Cluster
from tests.postgres import PostgresServer, postgres_server


def carried(server: PostgresServer, workers: int, args: argparse.Namespace) -> None:
    """Run one load and print what it took."""
    with tempfile.TemporaryDirectory(prefix="nodes-") as folder, World(Path(folder)) as world:
        plan = Path(folder) / "faults.json"
        rules = [{"on": "cdn", "do": "slow", "seconds": args.cdn_seconds}] if args.cdn_seconds else []
        plan.write_text(json.dumps({"rules": rules}))
        world.simulate("--latency", "0.02-0.05", "--image-bytes", str(args.image_bytes), "--faults", str(plan))
        world.environ["RUNWARE_PROVIDER_CONCURRENCY"] = str(args.concurrency)
        name = server.create_database()
        cluster = Cluster(world, server.url(name), apis=1, workers=workers)
        with Balancer(cluster.port, cluster.api_ports):
            cluster.await_all()
            api = f"http://127.0.0.1:{cluster.api_ports[0]}"
            before = transactions(server, name)
            began = time.monotonic()
            waits = sorted(load(api, args.generations, args.clients))
            took = time.monotonic() - began
            committed = transactions(server, name) - before
            memory = max(resident(node.pid) for node in cluster.nodes if node is not None)
        print(
            f"{workers} workers: {args.generations / took:6.1f} generations/s, p50 {waits[len(waits) // 2] * 1e3:.0f}, "
            f"p99 {waits[len(waits) * 99 // 100] * 1e3:.0f} ms; {committed / args.generations:.1f} transactions a "
            f"generation, all counted; the largest process has {memory:.0f} MB"
        )


def load(api: str, generations: int, clients: int) -> list[float]:
    """Submit and follow to the end, `clients` at once; how long each took."""
    waits: list[float] = []
    numbers = count()

    def client() -> None:
        while (number := next(numbers)) < generations:
            began = time.monotonic()
            body = {"positivePrompt": f"a boat, {number}", "model": "runware:101@1", "width": 512, "height": 512}
            status, answer = fetch(f"{api}/v1/generations", "POST", {"input": body}, {"Prefer": "wait=60"})
            assert status == 202, answer
            assert is_settled(json.loads(answer)), answer
            waits.append(time.monotonic() - began)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return waits


def transactions(server: PostgresServer, database: str) -> int:
    """All that the server has committed in a database."""
    time.sleep(1.1)  # its statistics come late
    return int(server.run(f"SELECT xact_commit FROM pg_stat_database WHERE datname = '{database}'"))  # noqa: S608  ours


def resident(pid: int) -> float:
    """A process's memory in megabytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1000 if found else 0.0


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", type=int, default=600)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--image-bytes", type=int, default=200_000)
    parser.add_argument("--cdn-seconds", type=float, default=0.0, help="an image takes so long to arrive")
    parser.add_argument("--concurrency", type=int, default=16, help="images that a worker fetches at once")
    parser.add_argument("--clients", type=int, default=32)
    args = parser.parse_args()
    with postgres_server(durable=True) as server:
        for workers in args.workers:
            carried(server, workers, args)


if __name__ == "__main__":
    main()
