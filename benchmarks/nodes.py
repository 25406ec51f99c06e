"""Nodes over one PostgreSQL: two APIs and two workers, under the load that one process on SQLite gets.

    python -m benchmarks.nodes [--workers 1 2 3] [--image-seconds 0.4] [--concurrency 4]

says what each number of workers behind one API carries, with images that take so long to arrive.
"""

import argparse
import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import perf_counter

import uvloop

from benchmarks.figures import Figure, Report, percentile
from benchmarks.generations import WARM_UP
from benchmarks.images import a_jpeg
from benchmarks.processes import processor
from benchmarks.service import IMAGE_BYTES, UNBOUND, Bench, a_folder
from benchmarks.stand_in import StandIn
from tests.e2e.processes import World
from tests.faults.cluster import Cluster
from tests.postgres import PostgresServer, postgres_server

APIS, WORKERS = 2, 2


async def measure(rounds: int) -> Report:
    """The figures."""
    report = Report()
    with postgres_server(durable=True) as server:
        async with a_cluster(server) as (bench, database):
            await bench.create(WARM_UP, prompt="warm")
            for images, number in ((1, 300), (4, 100)):
                report += await _lives(bench, server, database, rounds, images=images, number=number)
            report.figures.append(Figure("… memory of the largest process", "MB", [bench.memory() / 1e6]))
    return report


@asynccontextmanager
async def a_cluster(
    server: PostgresServer, image: bytes | None = None, *, apis: int = APIS, workers: int = WORKERS, **settings: str
) -> AsyncIterator[tuple[Bench, str]]:
    """Nodes over a database of their own, and its name. Deliveries and requests go to each API in turn."""
    name = server.create_database()
    with a_folder() as folder, World(folder) as world:
        stand_in = StandIn(image or a_jpeg(IMAGE_BYTES))
        await stand_in.start()
        world.environ |= stand_in.settings() | UNBOUND | settings
        cluster = await asyncio.to_thread(Cluster, world, server.url(name), apis=apis, workers=workers)
        await asyncio.to_thread(cluster.await_all)
        stand_in.deliver_to(cluster.api_ports)
        try:
            yield Bench(folder, world, stand_in, cluster.api_ports, [node.pid for node in cluster.nodes if node]), name
        finally:
            await stand_in.stop()


async def _lives(
    bench: Bench, server: PostgresServer, database: str, rounds: int, *, images: int, number: int
) -> Report:
    rates, p50, p99, nodes, databases, committed = [], [], [], [], [], []
    for _ in range(rounds):
        transactions = await _transactions(server, database)
        before, before_server, began = bench.used(), _processor_of(server), perf_counter()
        waits = await bench.create(number, prompt="a boat", images=images)
        took = perf_counter() - began
        rates.append(number * images / took)
        p50.append(percentile(waits, 0.5) * 1e3)
        p99.append(percentile(waits, 0.99) * 1e3)
        nodes.append((bench.used() - before).service / number * 1e3)
        databases.append((_processor_of(server) - before_server) / number * 1e3)
        committed.append((await _transactions(server, database) - transactions) / number)
    what = "one image each" if images == 1 else f"{images} images each"
    return Report(
        [
            Figure(f"PostgreSQL, {APIS} APIs, {WORKERS} workers, 32 clients, {what}", "images/s", rates),
            Figure("… p50", "ms", p50),
            Figure("… p99", "ms", p99),
            Figure("… processor of the nodes for a generation", "ms", nodes, digits=2),
            Figure("… processor of PostgreSQL for a generation", "ms", databases, digits=2),
            Figure("… transactions for a generation, all counted", "", committed, digits=1),
        ]
    )


async def _transactions(server: PostgresServer, database: str) -> int:
    """All that the server has committed in a database."""
    await asyncio.sleep(1.1)  # its statistics come late
    sql = f"SELECT xact_commit FROM pg_stat_database WHERE datname = '{database}'"  # noqa: S608  ours
    return int(await asyncio.to_thread(server.run, sql))


def _processor_of(server: PostgresServer) -> float:
    """Seconds of processor of all of PostgreSQL, of those of its processes that have ended too."""
    master = int((server.data / "postmaster.pid").read_text().partition("\n")[0])
    fields = Path(f"/proc/{master}/stat").read_text().rpartition(")")[2].split()
    ended = (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    total = processor(master) + ended
    for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split():
        with suppress(FileNotFoundError):  # some are short-lived
            total += processor(int(pid))
    return total


async def carried(options: argparse.Namespace) -> None:
    """Print what each number of workers carries."""
    with postgres_server(durable=True) as server:
        for workers in options.workers:
            settings = {"RUNWARE_PROVIDER_CONCURRENCY": str(options.concurrency)}
            async with a_cluster(server, None, apis=1, workers=workers, **settings) as (bench, _):
                bench.stand_in.image_seconds = options.image_seconds
                await bench.create(WARM_UP, prompt="warm")
                began = perf_counter()
                waits = await bench.create(options.generations, prompt="a boat")
                took = perf_counter() - began
            print(
                f"{workers} workers: {options.generations / took:.1f} generations/s, "
                f"p50 {percentile(waits, 0.5) * 1e3:.0f} ms, p99 {percentile(waits, 0.99) * 1e3:.0f} ms"
            )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generations", type=int, default=300)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--image-seconds", type=float, default=0.0)
    parser.add_argument("--concurrency", type=int, default=16, help="images that a worker fetches at once")
    uvloop.run(carried(parser.parse_args()))


if __name__ == "__main__":
    main()
