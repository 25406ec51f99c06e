"""A disk that is full, read-only or locked, for a while: said, nothing half-written, and well again afterwards."""

import asyncio
import resource
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from runware_provider.durable import Assignment, sqlite
from runware_provider.durable.sqlite import SqliteRuntime
from runware_provider.errors import StateUnavailable
from tests.conformance.builders import (
    a_birth,
    accept,
    all_ids,
    deliver,
    eventually,
    idle,
    images,
    make,
    nothing,
    now,
    reads,
    tasks_match_state,
    version,
)
from tests.conformance.workers import Scribe, for_ever, slots
from tests.durable.conftest import OpenSqlite


@contextmanager
def no_free_page(runtime: SqliteRuntime) -> Iterator[None]:
    """The database may not grow."""
    writer = runtime._store.writer
    writer.execute("PRAGMA max_page_count=1").fetchone()  # SQLite makes it the present size
    try:
        yield
    finally:
        writer.execute("PRAGMA max_page_count=1000000").fetchone()


@contextmanager
def no_free_byte(runtime: SqliteRuntime) -> Iterator[None]:
    """No file may grow: the commit itself fails, in its thread, when it writes to the log."""
    size = runtime._store.path.with_name("state.db-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))  # Python ignores SIGXFSZ: writes fail with EFBIG
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def read_only(runtime: SqliteRuntime) -> Iterator[None]:
    """As when the kernel has remounted the disk."""
    runtime._store.writer.execute("PRAGMA query_only=ON")
    try:
        yield
    finally:
        runtime._store.writer.execute("PRAGMA query_only=OFF")


Trouble = Callable[[SqliteRuntime], AbstractContextManager[None]]
TROUBLES: list[Trouble] = [no_free_page, no_free_byte, read_only]


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_while_nothing_can_be_committed_every_call_says_so(
    open_sqlite: OpenSqlite, state: Path, trouble: Trouble
) -> None:
    """`StateUnavailable` is what makes the webhook answer 503, so that Runware delivers again."""
    births = [a_birth(expected=2, key=(f"key {number}", "digest"), prompt="long " * 5_000) for number in range(20)]
    old = a_birth(expected=3)
    async with open_sqlite() as runtime:
        await runtime.create(old)
        await runtime.call(old.id, accept, version)
        before, counts = await runtime.get_state(old.id), (await runtime.stats())
        with trouble(runtime):
            outcomes = await asyncio.gather(
                *(runtime.create(birth) for birth in births),
                runtime.keep_unclaimed(None, "r", b"body" * 10_000, now()),
                return_exceptions=True,
            )

            assert [type(outcome) for outcome in outcomes] == [StateUnavailable] * 21
            assert await runtime.get_state(old.id) == before
            assert await runtime.call(old.id, nothing, version) == before.version
            assert await runtime.stats() == counts
            assert await runtime.ids() == [old.id]
        assert {each.created for each in await asyncio.gather(*(runtime.create(birth) for birth in births))} == {True}
        assert await runtime.call(old.id, deliver("a"), images) == ["a"]
        await tasks_match_state(runtime)
    async with open_sqlite() as runtime:
        assert await all_ids(runtime) == sorted([old.id, *(birth.id for birth in births)])
        assert runtime._store.writer.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        await tasks_match_state(runtime)


@pytest.mark.parametrize("trouble", TROUBLES[1:])
async def test_a_long_trouble_does_not_cost_a_task(open_sqlite: OpenSqlite, trouble: Trouble) -> None:
    """Tasks that fail only because the store cannot commit are neither parked nor forgotten."""
    async with open_sqlite() as runtime:
        ids = await make(runtime, (a_birth() for _ in range(10)))
        await asyncio.gather(*(runtime.call(each, deliver("a"), version) for each in ids))
        worker = Scribe(runtime)
        with trouble(runtime):
            runtime.start(worker, slots=slots(4))
            await worker.until(lambda: len(worker.given) > 200)  # far more than the five tries of a task at fault
            assert (await runtime.stats()).parked == 0
        await eventually(lambda: idle(runtime))

        assert {(await runtime.get_state(each)).status for each in ids} == {"completed"}
        assert (await runtime.stats()).parked == 0
        await tasks_match_state(runtime)


async def test_what_earlier_starts_left_is_counted_before_it_runs_even_in_trouble(open_sqlite: OpenSqlite) -> None:
    """Otherwise the task that kills its process would do so for ever while the disk is full."""
    async with open_sqlite() as runtime:
        await make(runtime, [a_birth()])
    async with open_sqlite() as runtime:
        worker = Scribe(runtime)
        with read_only(runtime):
            runtime.start(worker, slots=slots())
            await asyncio.sleep(0.1)
            assert worker.given == []
        await worker.until(lambda: len(worker.ended) == 2)


async def test_an_alarm_in_trouble_rings_again(open_sqlite: OpenSqlite, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deadline that passes while the disk is full is kept afterwards."""
    monkeypatch.setattr(sqlite, "RING_AGAIN", 0.02)
    birth = a_birth(deadline=now() + timedelta(milliseconds=100))
    async with open_sqlite() as runtime:
        await runtime.create(birth)
        runtime.start(Scribe(runtime, for_ever), slots=slots())
        with read_only(runtime):
            await asyncio.sleep(0.2)
            assert (await runtime.get_state(birth.id)).status == "running"

        assert await asyncio.wait_for(runtime.changed(birth.id, after=1), 8)
        assert (await runtime.get_state(birth.id)).status == "failed"


HOLD_THE_LOCK = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


async def test_another_process_that_holds_the_lock_stops_nobody_for_long(open_sqlite: OpenSqlite, state: Path) -> None:
    """Calls fail soon, reads and the loop go on, and all is well when it lets go."""
    longest = 0.0

    async def beat() -> None:
        nonlocal longest
        while True:
            begun = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - begun)

    async with open_sqlite() as runtime:
        ids = await make(runtime, (a_birth() for _ in range(64)))
        other = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", HOLD_THE_LOCK, str(state)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert other.stdout is not None
        assert other.stdin is not None
        assert await other.stdout.readline() == b"held\n"
        heart = asyncio.ensure_future(beat())
        begun = time.monotonic()
        outcomes = await asyncio.gather(
            *(runtime.call(each, deliver("a"), images) for each in ids), return_exceptions=True
        )

        assert [type(outcome) for outcome in outcomes] == [StateUnavailable] * 64
        assert time.monotonic() - begun < 2
        assert longest < 0.5
        assert (await runtime.get_state(ids[0])).status == "running"
        heart.cancel()
        other.stdin.close()
        await other.wait()
        assert await asyncio.gather(*(runtime.call(each, deliver("a"), images) for each in ids)) == [["a"]] * 64
        await tasks_match_state(runtime)


async def test_a_value_that_the_file_cannot_hold_fails_alone(open_sqlite: OpenSqlite) -> None:
    """Content must not be able to break the commit of the others."""
    async with open_sqlite() as runtime:
        outcomes = await asyncio.gather(
            *(runtime.keep_unclaimed(None, "r", b"%d" % number, now()) for number in range(10)),
            runtime.keep_unclaimed(None, "lone \ud800", b"bad", now()),
            *(
                runtime.create(a_birth(key=(f"key \udfff{number}" if number == 3 else str(number), "d")))
                for number in range(6)
            ),
            return_exceptions=True,
        )

        failed = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, Exception)]
        assert failed == [10, 14]
        assert (await runtime.stats()).unclaimed == 10 == len(await runtime.unclaimed())
        assert (await runtime.stats()).running == 5 == len(await runtime.ids())
        await tasks_match_state(runtime)


async def test_a_read_that_fails_at_the_start_is_tried_again(
    open_sqlite: OpenSqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One I/O error must not leave the tasks and alarms of an earlier process asleep until the next start."""
    monkeypatch.setattr(sqlite, "READ_AGAIN", 0.02)
    birth, overdue = a_birth(), a_birth(at=now() - timedelta(hours=1), deadline=now())
    async with open_sqlite() as runtime:
        await make(runtime, [birth, overdue])
    async with open_sqlite() as runtime:
        failures = 0

        def once(read: Callable[..., object]) -> Callable[..., object]:
            tries = count()

            def flaky(*args: object, **kwargs: object) -> object:
                nonlocal failures
                if next(tries) == 0:
                    failures += 1
                    raise sqlite3.OperationalError("disk I/O error")
                return read(*args, **kwargs)

            return flaky

        for name in ("tasks", "alarms"):
            monkeypatch.setattr(runtime._store, name, once(getattr(runtime._store, name)))

        async def act(assignment: Assignment) -> None:
            await runtime.finish(assignment)

        worker = Scribe(runtime, act)
        runtime.start(worker, slots=slots())
        await worker.until(lambda: len(worker.given) >= 4)
        await eventually(lambda: reads(runtime, lambda stats: stats.running == 1))

        assert failures == 2
        assert (await runtime.get_state(overdue.id)).status == "failed"
