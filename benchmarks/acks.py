"""Webhook acknowledgements a second, each committed, over 64 connections, with nothing to process."""

import asyncio
import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection as Pipe
from time import perf_counter, process_time

import uvloop

from benchmarks.figures import Figure, Report, percentile
from benchmarks.service import Bench, a_service
from benchmarks.stand_in import HELD, StandIn
from benchmarks.wire import Answer, Connection, serve

CONNECTIONS = 64
GENERATIONS = 1_500
RESULTS = 4
EACH = RESULTS - 1
"""Deliveries for one generation: not all of its results, so that none is complete and nothing is to be done."""


async def post_all(port: int, requests: Sequence[bytes]) -> tuple[float, list[float]]:
    """Post each of `requests`, over `CONNECTIONS` connections; seconds for all, and for each."""
    waiting = iter(requests)
    times: list[float] = []
    connections = [await Connection.open(port) for _ in range(CONNECTIONS)]

    async def use(connection: Connection) -> None:
        for each in waiting:
            began = perf_counter()
            status, body = await connection.ask(each)
            times.append(perf_counter() - began)
            if status != 200:
                raise RuntimeError(f"not acknowledged: {status} {body!r}")

    began = perf_counter()
    await asyncio.gather(*(use(each) for each in connections))
    took = perf_counter() - began
    for connection in connections:
        connection.close()
    return took, times


async def news(bench: Bench, generations: int = GENERATIONS) -> list[bytes]:
    """Deliveries for new generations: errors of single images. Each changes its generation, and is committed."""
    bench.stand_in.held.clear()
    await bench.create(generations, prompt=HELD, images=RESULTS)
    await bench.idle()
    return [StandIn.failure(task, number, bench.port) for number in range(1, 1 + EACH) for task in bench.stand_in.held]


def only_ok(told: Pipe) -> None:
    """A process that says 200 to everything: what the harness reaches by itself."""

    async def run() -> None:
        def ok(head: bytes, body: bytes) -> Answer:  # noqa: ARG001
            return (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n",)

        server, port = await serve(ok)
        told.send(port)
        await server.serve_forever()

    uvloop.run(run())


async def harness_alone(requests: Sequence[bytes]) -> tuple[float, float]:
    """Requests a second, and microseconds of the harness's processor for each."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=only_ok, args=(theirs,), daemon=True)
    process.start()
    try:
        port = await asyncio.to_thread(ours.recv)
        before = process_time()
        took, times = await post_all(port, requests)
        return len(times) / took, (process_time() - before) / len(times) * 1e6
    finally:
        process.terminate()
        process.join()


async def measure(rounds: int) -> Report:
    """The figures."""
    rates, tails, cpu, others = [], [], [], []
    async with a_service() as bench:
        alone, own = await harness_alone(await news(bench))
        for _ in range(rounds):
            requests = await news(bench)
            before = bench.used()
            took, times = await post_all(bench.port, requests)
            used = bench.used() - before
            rates.append(len(times) / took)
            tails.append(percentile(times, 0.99) * 1e3)
            cpu.append(used.service / len(times) * 1e6)
            others.append(used.others(took))
    return Report(
        [
            Figure("webhook acknowledgements, committed, 64 connections", "/s", rates, "at least", 8_000),
            Figure("… p99", "ms", tails, "at most", 20, digits=1),
            Figure("… processor of the service for each", "µs", cpu),
            Figure("… of the machine's cores, used by others", "%", others),
        ],
        [
            (
                f"Posting alone, to a process that only says 200: {alone:,.0f}/s, "
                f"{own:.0f} µs of the harness's processor each."
            )
        ],
    )
