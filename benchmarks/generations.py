"""Whole generations, from the client's request to the row in the read model, and a backlog of webhooks."""

import sqlite3
from time import perf_counter
from uuid import UUID

from benchmarks.acks import post_all
from benchmarks.figures import Figure, Report, percentile
from benchmarks.service import Bench, a_service
from benchmarks.stand_in import HELD

WARM_UP = 100
BACKLOG = 1_000


async def measure(rounds: int) -> Report:
    """The figures of one service that goes through all of it; its memory is the most of that."""
    async with a_service() as bench:
        await bench.create(WARM_UP, prompt="warm")
        report = Report()
        report += await _lives(bench, rounds, images=1, number=700)
        report += await _lives(bench, rounds, images=4, number=250)
        report += await _backlog(bench, rounds)
        report.figures.append(Figure("peak memory under all of that", "MB", [bench.memory() / 1e6], "at most", 150))
        _check(bench)
    return report


async def _lives(bench: Bench, rounds: int, *, images: int, number: int) -> Report:
    rates, p50, p99, acks, service, harness, others = [], [], [], [], [], [], []
    for _ in range(rounds):
        bench.stand_in.acknowledged.clear()
        before, began = bench.used(), perf_counter()
        waits = await bench.create(number, prompt="a boat", images=images)
        took, used = perf_counter() - began, bench.used() - before
        rates.append(number / took)
        p50.append(percentile(waits, 0.5) * 1e3)
        p99.append(percentile(waits, 0.99) * 1e3)
        acks.append(percentile(bench.stand_in.acknowledged, 0.99) * 1e3)
        service.append(used.service / number * 1e3)
        harness.append(used.harness / number * 1e3)
        others.append(used.others(took))
    if images == 1:
        figures = [
            Figure("end to end, 32 clients, one image each", "generations/s", rates, "at least", 350),
            Figure("… p50", "ms", p50, "at most", 90),
            Figure("… p99", "ms", p99),
        ]
    else:
        images_a_second = [rate * images for rate in rates]
        figures = [
            Figure(f"end to end, {images} images each", "images/s", images_a_second, "at least", 600),
            Figure("… p50", "ms", p50),
            Figure("… p99", "ms", p99),
        ]
    figures += [
        Figure("… acknowledgement p99 meanwhile", "ms", acks, "at most", 50),
        Figure("… processor of the service for a generation", "ms", service, digits=2),
        Figure("… processor of the harness for a generation", "ms", harness, digits=2),
        Figure("… of the machine's cores, used by others", "%", others),
    ]
    return Report(figures)


async def _backlog(bench: Bench, rounds: int) -> Report:
    """Webhooks that come all at once, as after a time away."""
    acknowledged, drained = [], []
    for _ in range(rounds):
        await bench.idle()
        bench.stand_in.held.clear()
        await bench.create(BACKLOG, prompt=HELD)
        await bench.idle()
        requests = [bench.stand_in.delivery(task, UUID(task["taskUUID"]), bench.port) for task in bench.stand_in.held]
        began = perf_counter()
        took, _ = await post_all(bench.port, requests)
        acknowledged.append(took)
        await bench.idle(running=0)
        drained.append(perf_counter() - began)
    return Report(
        [
            Figure("1,000 pre-made webhooks: acknowledged", "s", acknowledged, digits=2),
            Figure("… and drained: stored, and in the read model", "s", drained, "at most", 2, digits=2),
        ]
    )


def _check(bench: Bench) -> None:
    """What was measured has happened: every image lies there, every generation has its row."""
    stored = sum(1 for _ in bench.world.data.rglob("*.jpg"))
    for path in bench.world.data.glob("*.db"):
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            if "artifacts" in tables:
                rows = connection.execute("SELECT count(*) FROM artifacts").fetchone()[0]
                done = connection.execute("SELECT count(*) FROM generations WHERE status = 'completed'").fetchone()[0]
                print(f"checked: {stored:,} files, {rows:,} artifacts, {done:,} completed generations")
                assert stored == rows
        finally:
            connection.close()
