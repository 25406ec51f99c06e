"""How many committed calls a second a runtime gives.

    PYTHONPATH=src python -m benchmarks.runtime [--engine sqlite|postgres] [--calls 60000] [--callers 64] [--lives 4000]

`webhook`: `record_webhook` of one new result each, every one answered only when it is durable, on generations that were
used lately (`warm`) and on ones that must be read from the file (`cold`). `life`: create, dispatch, results, stores and
projection by tasks, to the end; each task ends with the call that it led to.
"""

import argparse
import asyncio
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import uvloop

from runware_provider.durable import TASK_KINDS, Assignment, Birth, GenerationRuntime, Step
from runware_provider.durable.engines import migrate_state, open_runtime
from runware_provider.durable.postgres import PostgresRuntime
from runware_provider.durable.postgres_batch import Job
from runware_provider.durable.postgres_pool import Connection
from runware_provider.durable.sqlite import SqliteRuntime
from runware_provider.generation import Generation
from runware_provider.schedule import Policy
from runware_provider.types import (
    Accepted,
    Ask,
    Delivery,
    Dispatch,
    Order,
    Project,
    Request,
    Result,
    Stored,
    StoreOutput,
)
from tests.postgres import PostgresServer, postgres_server


def a_birth(results: int) -> Birth:
    """A generation of `results` images."""
    now = datetime.now(UTC)
    request = Request({"positivePrompt": "a lighthouse at dusk, oil on canvas", "model": "runware:101@1"}, {})
    return Birth(uuid4(), uuid4(), request, results, now, now + timedelta(hours=1))


def a_webhook(image: str) -> Step:
    """The step that records one delivery, as Runware sends it."""
    item = {
        "taskType": "imageInference",
        "imageUUID": image,
        "imageURL": f"https://im.runware.ai/image/ws/2/ii/{image}.jpg",
        "seed": 1234567890,
        "cost": 0.0013,
    }
    delivery, now = Delivery((Result(None, image, str(item["imageURL"]), item),)), datetime.now(UTC)
    return lambda generation: generation.record_webhook(delivery, now)


def version(generation: Generation) -> int:
    """A reply."""
    return generation.version


class Commits:
    """Counts the commits of state; on PostgreSQL not those by which the queue is looked at."""

    def __init__(self, runtime: GenerationRuntime) -> None:
        self.count = 0
        if isinstance(runtime, SqliteRuntime):
            commit = runtime._store.commit  # noqa: SLF001

            def counted() -> None:
                self.count += 1
                commit()

            runtime._store.commit = counted  # type: ignore[method-assign]  # noqa: SLF001
        elif isinstance(runtime, PostgresRuntime):
            settle = runtime._commit  # noqa: SLF001

            async def settled(connection: Connection, batch: Sequence[Job]) -> dict[Job, Any]:
                self.count += 1
                return await settle(connection, batch)

            runtime._commit = settled  # type: ignore[method-assign]  # noqa: SLF001


async def measured(
    name: str, commits: Commits, callers: int, jobs: Iterable[Callable[[], Awaitable[object]]]
) -> list[float]:
    """Run `jobs` with `callers` at once; print what it took."""
    waits: list[float] = []
    queue = iter(list(jobs))

    async def work() -> None:
        for job in queue:
            begun = time.perf_counter()
            await job()
            waits.append(time.perf_counter() - begun)

    committed, begun, cpu = commits.count, time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(callers)))
    took, cpu = time.perf_counter() - begun, time.process_time() - cpu
    waits.sort()
    print(
        f"{name}: {len(waits):,}, {callers} callers: {len(waits) / took:,.0f}/s, "
        f"p50 {waits[len(waits) // 2] * 1e3:.1f} ms, p99 {waits[len(waits) * 99 // 100] * 1e3:.1f} ms, "
        f"max {waits[-1] * 1e3:.0f} ms, CPU {cpu / len(waits) * 1e6:.0f} µs each, "
        f"{(commits.count - committed) / len(waits):.3f} commits each"
    )
    return waits


async def webhooks(runtime: GenerationRuntime, commits: Commits, args: argparse.Namespace) -> None:
    """Committed `record_webhook` calls."""
    births = [a_birth(args.results) for _ in range(args.calls // args.results)]
    await measured("create", commits, args.callers, (partial(runtime.create, birth) for birth in births))

    def calls(some: list[Birth], order: random.Random | None) -> Iterable[Callable[[], Awaitable[object]]]:
        steps = [(birth.id, a_webhook(f"{uuid4()}")) for birth in some for _ in range(args.results)]
        if order is not None:
            order.shuffle(steps)
        return [partial(runtime.call, generation_id, step, version) for generation_id, step in steps]

    half = len(births) // 2
    await measured("webhook, warm", commits, args.callers, calls(births[half:], None))
    await measured("webhook, cold", commits, args.callers, calls(births[:half], random.Random(1)))


class Faithful:
    """A worker for whom everything works at once."""

    def __init__(self, runtime: GenerationRuntime, results: int) -> None:
        self._runtime = runtime
        self._results = results
        self.left: dict[UUID, asyncio.Event] = {}

    async def perform(self, assignment: Assignment) -> None:
        """Do one task."""
        generation_id, task = assignment.generation_id, assignment.task
        now = datetime.now(UTC)
        match task:
            case Dispatch(attempt=attempt):
                call = self._runtime.call
                await call(generation_id, lambda g: g.record_dispatching(attempt, now), version)
                await call(
                    generation_id, lambda g: g.record_dispatch(attempt, Accepted(), now), version, done=assignment
                )
                for _ in range(self._results):
                    await call(generation_id, a_webhook(f"{uuid4()}"), version)
            case StoreOutput(output_id=output_id):
                stored = Stored(output_id, f"generations/{output_id}.jpg", "image/jpeg", 1, "0" * 64, 64, 64)
                await self._runtime.call(
                    generation_id, lambda g: g.confirm_outputs([stored], now), version, done=assignment
                )
            case _:

                def projected(generation: Generation) -> list[Order]:
                    return generation.record_projection(generation.version, now)

                await self._runtime.call(generation_id, projected, version, done=assignment)
        if isinstance(task, Project) and (await self._runtime.get_state(generation_id)).settled:
            self.left[generation_id].set()

    def ask(self, generation_id: UUID, ask: Ask) -> None:
        """Nobody is asked."""


async def lives(runtime: GenerationRuntime, commits: Commits, args: argparse.Namespace) -> None:
    """Whole lives, by tasks."""
    worker = Faithful(runtime, args.results)

    async def life() -> None:
        birth = a_birth(args.results)
        worker.left[birth.id] = asyncio.Event()
        await runtime.create(birth)
        await worker.left[birth.id].wait()
        del worker.left[birth.id]

    runtime.start(worker, slots=dict.fromkeys(TASK_KINDS, 64))
    await measured("life", commits, args.callers, (life for _ in range(args.lives)))


@asynccontextmanager
async def a_runtime(args: argparse.Namespace, server: PostgresServer | None) -> AsyncIterator[GenerationRuntime]:
    """An empty state of its own."""
    with tempfile.TemporaryDirectory(dir=args.folder or os.environ.get("TMPDIR")) as folder:
        if server is None:
            url = f"sqlite:///{folder}/state.db"
        else:
            url = server.url(server.create_database())
            await migrate_state(url)
        runtime = await open_runtime(url, Policy(), lambda: datetime.now(UTC))
        try:
            yield runtime
        finally:
            await runtime.stop()


def transactions(server: PostgresServer) -> int:
    """All that the server has committed for the last database, PgQueuer's among them."""
    time.sleep(1.1)  # statistics come late
    return int(
        server.run("SELECT xact_commit FROM pg_stat_database WHERE datname ~ '^test' ORDER BY datid DESC LIMIT 1")
    )


async def run(args: argparse.Namespace) -> None:
    """Each on a state of its own."""
    with postgres_server(durable=True) if args.engine == "postgres" else nullcontext() as server:
        for measure in (webhooks, lives):
            async with a_runtime(args, server) as runtime:
                before = transactions(server) if server else 0
                await measure(runtime, Commits(runtime), args)
            if server:
                print(f"  all transactions of the server meanwhile: {transactions(server) - before:,}")
    print(f"RSS at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--calls", type=int, default=60_000)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--results", type=int, default=4)
    parser.add_argument("--lives", type=int, default=4_000)
    parser.add_argument("--switch-interval", type=float, default=0.0005, help="as `serve` sets it")
    parser.add_argument("--folder", default=None, help="where to write; a temporary folder by default")
    args = parser.parse_args()
    sys.setswitchinterval(args.switch_interval)
    uvloop.run(run(args))


if __name__ == "__main__":
    main()
