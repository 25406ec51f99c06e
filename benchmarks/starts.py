"""From the command to a service that is ready, and what a generation and a page cost when it is full."""

import asyncio
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from benchmarks.figures import Figure, Report
from benchmarks.filled import READ_MODEL, STATE, multiply
from benchmarks.runtime import Faithful, a_birth
from benchmarks.service import a_folder, a_service
from benchmarks.wire import Connection, request
from runware_provider.durable import TASK_KINDS
from runware_provider.durable.engines import open_runtime
from runware_provider.durable.sqlite import SqliteRuntime
from runware_provider.projection.queries import Shape, page
from runware_provider.schedule import Policy
from tests.e2e.processes import COMMAND, World, free_port

MANY, FEW = 1_000_000, 1_000
PAGE = 50


async def measure(rounds: int) -> Report:
    """The figures."""
    report = Report()
    with a_folder() as folder:
        await _live_once(folder / "few")
        await _live_once(folder / "many")
        await asyncio.to_thread(multiply, folder / "few", FEW)
        await asyncio.to_thread(multiply, folder / "many", MANY)
        for name, data, bar in (("empty", folder / "empty", 1.0), (f"with {MANY:,} generations", folder / "many", 1.5)):
            times = [await _start(data) for _ in range(rounds)]
            report.figures.append(Figure(f"start to ready, {name}", "s", times, "at most", bar, digits=2))
        for what, name in (("a generation in the state", STATE), ("a page of the list", READ_MODEL)):
            works = []
            for data in (folder / "few", folder / "many"):
                statements = await _life(data / name) if name == STATE else _page()
                works.append(await asyncio.to_thread(_redone, data / name, statements, rounds))
            report.figures += _compared(what, *works)
            report.notes.append(_in_words(what, *works))
    return report


async def _live_once(data: Path) -> None:
    """A data directory with one generation in it."""
    async with a_service(RUNWARE_PROVIDER_DATA_DIR=str(data)) as bench:
        await bench.create(1, prompt="a boat")


async def _start(data: Path) -> float:
    """Seconds from the command to the first 200 of `/readyz`."""
    port = free_port()
    ask = request("GET", "/readyz", port)
    with World(data.parent) as world:
        world.environ |= {"RUNWARE_API_KEY": "none", "RUNWARE_PROVIDER_DATA_DIR": str(data)}
        began = perf_counter()
        service = subprocess.Popen(  # noqa: ASYNC220  nothing else goes on
            [COMMAND, "serve", "--port", str(port)], env=world.environ, stdout=subprocess.DEVNULL
        )
        try:
            while True:
                try:
                    connection = await Connection.open(port)
                except OSError:
                    assert service.poll() is None, "it ended"
                    await asyncio.sleep(0.002)
                    continue
                status, _ = await connection.ask(ask)
                connection.close()
                if status == 200:
                    return perf_counter() - began
        finally:
            service.terminate()
            await asyncio.to_thread(service.wait)


@dataclass(frozen=True)
class Work:
    """What statements are to the database. Pages are read with nothing in the cache; `steps` are SQLite's own."""

    statements: int
    steps: int
    pages_read: int
    pages_written: int
    seconds: Sequence[float]


async def _life(path: Path) -> list[str]:
    """Every statement of one generation's life in the state, with what they were given; it is gone after."""
    runtime = await open_runtime(f"sqlite:///{path}", Policy(), lambda: datetime.now(UTC))
    assert isinstance(runtime, SqliteRuntime)
    said: list[str] = []
    birth, worker = a_birth(1), Faithful(runtime, 1)
    worker.left[birth.id] = asyncio.Event()
    runtime.start(worker, slots=dict.fromkeys(TASK_KINDS, 1))
    await asyncio.sleep(0.2)  # what a start looks at is not what a generation is
    for connection in (runtime._store.writer, runtime._store.reader):  # noqa: SLF001
        connection.set_trace_callback(said.append)
    await runtime.create(birth)
    await worker.left[birth.id].wait()
    said = said.copy()
    await runtime.stop()
    with closing(sqlite3.connect(path)) as connection, connection:
        (number,) = connection.execute("SELECT number FROM generations WHERE id = ?", (birth.id.bytes,)).fetchone()
        connection.execute("DELETE FROM generations WHERE number = ?", (number,))
        connection.execute("DELETE FROM requests WHERE number = ?", (number,))
    return said


def _page() -> list[str]:
    """The statement of the list's first page."""
    statement = page(Shape(), "sqlite")
    sql = statement.sql
    for value in statement.parameters({"limit": PAGE + 1}):
        sql = sql.replace("?", str(value), 1)
    return [sql]


def _redone(path: Path, statements: Sequence[str], rounds: int) -> Work:
    """Do it all again, on a connection that knows nothing, and take it back."""
    seconds: list[float] = []
    steps = read = written = 0
    for round_ in range(rounds + 1):
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA cache_size=-65536")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
            counter = _Counter()
            if not round_:  # counting is slow
                connection.set_progress_handler(counter, 1)
            before, began = _reads(), perf_counter()
            for statement in statements:
                connection.execute(statement).fetchall()
            took = perf_counter() - began
            if round_:
                seconds.append(took)
            else:
                read, steps = _reads() - before, counter.count
                wal = path.with_name(path.name + "-wal")
                written = wal.stat().st_size // _FRAME if wal.exists() else 0
            if written:
                connection.execute("DELETE FROM requests WHERE number = (SELECT max(number) FROM generations)")
                connection.execute("DELETE FROM generations WHERE number = (SELECT max(number) FROM generations)")
    return Work(len(statements), steps, read, written, seconds)


_FRAME = 4_096 + 24
"""Bytes that a page takes in the WAL."""


class _Counter:
    count = 0

    def __call__(self) -> int:
        self.count += 1
        return 0  # go on


def _reads() -> int:
    """System calls by which this thread has read."""
    return int(Path("/proc/thread-self/io").read_text().partition("syscr:")[2].split()[0])


def _compared(what: str, few: Work, many: Work) -> list[Figure]:
    """As ratios: the many to the few."""
    time = [each * 1e3 for each in many.seconds]
    return [
        Figure(
            f"{what}: statements, at {MANY:,} against {FEW:,}", "×", [many.statements / few.statements], "at most", 1
        ),
        Figure("… SQLite's steps", "×", [many.steps / few.steps], "at most", 1, digits=2),
        Figure("… pages written", "×", [many.pages_written / few.pages_written], "at most", 1, digits=2)
        if few.pages_written
        else Figure("… pages written", "", [many.pages_written]),
        Figure("… pages read, with an empty cache", "×", [many.pages_read / few.pages_read], digits=2),
        Figure(f"… time at {MANY:,}", "ms", time, digits=2),
    ]


def _in_words(what: str, few: Work, many: Work) -> str:
    return (
        f"{what}: {few.statements} statements, {few.steps:,} steps, {few.pages_read} pages read, {few.pages_written} "
        f"written at {FEW:,}; {many.statements}, {many.steps:,}, {many.pages_read}, {many.pages_written} at {MANY:,}"
    )
