"""What is bounded: memory, pages of what was left over, the horizon of alarms, unclaimed deliveries."""

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from runware_provider.durable import MAX_ATTEMPTS, Assignment, handout, sqlite, sqlite_batch
from runware_provider.durable.sqlite import SqliteRuntime
from runware_provider.register import encode
from tests.conformance.builders import (
    PATIENCE,
    a_birth,
    deliver,
    eventually,
    idle,
    live,
    make,
    now,
    reads,
    tasks_match_state,
    version,
)
from tests.conformance.workers import Scribe, for_ever, slots
from tests.durable.conftest import OpenSqlite

# Memory


def cached(runtime: SqliteRuntime) -> tuple[int, int]:
    """How many registers are remembered, and their size as text, which must be what is reckoned."""
    entries = runtime._registers.all()
    sizes = [len(encode(entry.generation.register)) + len(entry.request or "") for entry in entries]
    assert sum(sizes) == runtime._registers._bytes
    return len(sizes), sum(sizes)


async def test_twenty_thousand_generations_leave_the_cache_within_its_bounds(open_sqlite: OpenSqlite) -> None:
    """And nothing else that grows: no task, alarm, watcher or failure is remembered when all is done."""
    async with open_sqlite() as runtime:

        async def act(assignment: Assignment) -> None:
            await runtime.finish(assignment)

        runtime.start(Scribe(runtime, act), slots=slots())
        for _ in range(40):
            births = [a_birth() for _ in range(500)]
            made = [runtime.create(birth) for birth in births]
            await asyncio.gather(*made, *(runtime.call(birth.id, live, version) for birth in births))
        await eventually(lambda: idle(runtime), within=30)

        assert (await runtime.stats()).running == 0
        number, size = cached(runtime)
        assert 0 < number <= sqlite_batch.CACHED_REGISTERS
        assert 0 < size <= sqlite_batch.CACHED_BYTES
        assert len(runtime._alarms) == 0
        assert len(runtime._alarms._heap) <= 4 * 500 + 64
        assert not runtime._watchers
        await eventually(lambda: len(runtime._background) <= 1)
        hands = runtime._handout
        await eventually(lambda: not hands._running)
        assert [len(each) for each in (hands._open, hands._failures, hands._delayed)] == [0] * 3


@pytest.mark.parametrize(("registers", "size"), [(10, 1 << 20), (1_000, 16_000)])
async def test_the_cache_is_bounded_by_number_and_by_bytes(
    open_sqlite: OpenSqlite, monkeypatch: pytest.MonkeyPatch, registers: int, size: int
) -> None:
    """And what falls out of it is read again, the same."""
    monkeypatch.setattr(sqlite_batch, "CACHED_REGISTERS", registers)
    monkeypatch.setattr(sqlite_batch, "CACHED_BYTES", size)
    async with open_sqlite() as runtime:
        ids = await make(runtime, (a_birth(expected=30) for _ in range(50)))
        for number in range(30):
            await asyncio.gather(*(runtime.call(each, deliver(f"{number}"), version) for each in ids))
            assert cached(runtime)[0] <= registers
            assert cached(runtime)[1] <= size

        assert {(await runtime.get_state(each)).version for each in ids} == {31}
        await tasks_match_state(runtime)


# What was left over


async def test_of_those_that_are_over_few_are_remembered(open_sqlite: OpenSqlite) -> None:
    """They make room for those that live, and are read again when somebody asks."""
    async with open_sqlite() as runtime:
        living = await make(runtime, (a_birth() for _ in range(20)))
        over = await make(runtime, (a_birth() for _ in range(2 * sqlite_batch.CACHED_SETTLED)))
        await asyncio.gather(*(runtime.call(each, live, version) for each in over))

        assert cached(runtime)[0] == len(living) + sqlite_batch.CACHED_SETTLED
        states = [await runtime.get_state(each) for each in over]
        assert all(state.settled for state in states)
        await runtime.call(over[0], lambda generation: generation.replay(now()), version)
        assert not (await runtime.get_state(over[0])).settled
        assert cached(runtime)[0] == len(living) + sqlite_batch.CACHED_SETTLED + 1


async def test_what_was_left_over_is_given_in_pages(open_sqlite: OpenSqlite, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backlog of a week must not be in memory at once; each of it is given once, in order."""
    monkeypatch.setattr(sqlite, "LEFT_OVER_PAGE", 10)
    async with open_sqlite() as runtime:
        await make(runtime, (a_birth() for _ in range(60)))
    async with open_sqlite() as runtime:
        most = 0

        async def act(assignment: Assignment) -> None:
            nonlocal most
            most = max(most, len(runtime._handout._open))
            assert sum((await runtime.stats()).tasks.values()) == 120 - len(worker.ended)
            await asyncio.sleep(0)
            await runtime.finish(assignment)

        worker = Scribe(runtime, act)
        runtime.start(worker, slots=slots(1))
        await eventually(lambda: idle(runtime))

        assert most < 20
        assert Counter(each.number for each in worker.given) == Counter(range(1, 121))
        assert (await runtime.stats()).parked == 0


async def test_unparking_while_what_was_left_over_is_still_read(
    open_sqlite: OpenSqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each task is given once, whether it comes by `unpark` or by a page; those of a kind of which all were parked."""
    monkeypatch.setattr(sqlite, "LEFT_OVER_PAGE", 2)
    monkeypatch.setattr(handout, "FIRST_WAIT", 0.001)
    gate = asyncio.Event()
    async with open_sqlite() as runtime:

        async def fail(assignment: Assignment) -> None:
            raise RuntimeError("for good")

        runtime.start(Scribe(runtime, fail), slots={**slots(), "Dispatch": 0})
        await make(runtime, (a_birth() for _ in range(10)))
        await eventually(lambda: reads(runtime, lambda stats: stats.parked == 10))
    async with open_sqlite() as runtime:

        async def act(assignment: Assignment) -> None:
            await gate.wait()
            await worker.do(assignment)

        worker = Scribe(runtime, act)
        runtime.start(worker, slots=slots())
        await worker.until(lambda: len(worker.given) == 2)
        assert await runtime.unpark() == 10
        assert Counter((await runtime.stats()).tasks) == Counter(Dispatch=10, Project=10)
        gate.set()
        await eventually(lambda: idle(runtime))

        assert set(Counter(each.number for each in worker.given).values()) == {1}
        assert len(worker.given) == 20
        await tasks_match_state(runtime)


async def test_what_several_dead_processes_had_picked_up_is_done_within_its_slots(
    open_sqlite: OpenSqlite, state: Path
) -> None:
    """It is watched more closely: one at a time, within its kind's slots. The innocent are done, not parked."""
    async with open_sqlite() as runtime:
        await make(runtime, (a_birth() for _ in range(20)))
    with closing(sqlite3.connect(state, isolation_level=None)) as connection:
        connection.execute("UPDATE tasks SET attempts = number % ?", (MAX_ATTEMPTS,))
    async with open_sqlite() as runtime:
        at_once: Counter[str] = Counter()
        most: Counter[str] = Counter()

        async def act(assignment: Assignment) -> None:
            running = [type(assignment.task).__name__]
            if assignment.attempts >= handout.SUSPICIOUS:
                running.append("suspicious")
            for each in running:
                at_once[each] += 1
                most[each] = max(most[each], at_once[each])
            await asyncio.sleep(0)
            await worker.do(assignment)
            at_once.subtract(running)

        worker = Scribe(runtime, act)
        runtime.start(worker, slots=slots(2))
        await eventually(lambda: len(worker.ended) == 40)

        assert most == {"Dispatch": 2, "Project": 2, "suspicious": 1}
        assert Counter(each.number for each in worker.ended) == Counter(range(1, 41))
        assert not any((await runtime.stats()).tasks.values())
        assert (await runtime.stats()).parked == 0


async def test_what_is_suspected_waits_for_a_free_slot(open_sqlite: OpenSqlite, state: Path) -> None:
    """Though nothing else of its kind waits: all slots are taken by what runs."""
    gate = asyncio.Event()
    async with open_sqlite() as runtime:
        await make(runtime, (a_birth() for _ in range(2)))
    with closing(sqlite3.connect(state, isolation_level=None)) as connection:
        connection.execute("UPDATE tasks SET attempts = ? WHERE number > 2", (handout.SUSPICIOUS,))
    async with open_sqlite() as runtime:

        async def act(assignment: Assignment) -> None:
            await gate.wait()
            await worker.do(assignment)

        worker = Scribe(runtime, act)
        runtime.start(worker, slots=slots(1))
        await worker.until(lambda: len(worker.given) == 2)
        await asyncio.sleep(0.05)
        assert sorted(each.number for each in worker.given) == [1, 2]
        gate.set()
        await worker.until(lambda: len(worker.ended) == 4)


async def test_a_task_that_was_at_the_scene_too_often_is_parked_unseen(open_sqlite: OpenSqlite, state: Path) -> None:
    """At the fifth death nobody runs it again, not even once more."""
    async with open_sqlite() as runtime:
        await make(runtime, (a_birth() for _ in range(3)))
    with closing(sqlite3.connect(state, isolation_level=None)) as connection:
        connection.execute("UPDATE tasks SET attempts = ? WHERE number = 4", (MAX_ATTEMPTS,))
    async with open_sqlite() as runtime:
        worker = Scribe(runtime)
        runtime.start(worker, slots=slots())
        await eventually(lambda: idle(runtime))

        assert [each.number for each in await runtime.parked()] == [4]
        assert sorted(each.number for each in worker.given) == [1, 2, 3, 5, 6]


# Alarms far away


async def test_an_alarm_beyond_the_horizon_rings_at_its_time(
    open_sqlite: OpenSqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was read of the file so far, and however small its pages."""
    async with open_sqlite() as runtime:
        near = a_birth(deadline=now() + timedelta(milliseconds=100))
        far = a_birth(deadline=now() + timedelta(milliseconds=600))
        farther = a_birth(deadline=now() + timedelta(hours=2))
        await make(runtime, [near, far, farther])
    monkeypatch.setattr(sqlite, "ALARM_HORIZON", timedelta(milliseconds=300))
    monkeypatch.setattr(sqlite, "ALARM_PAGE", 1)
    async with open_sqlite() as runtime:
        runtime.start(Scribe(runtime, for_ever), slots=slots())
        await asyncio.wait_for(runtime.changed(far.id, after=1), PATIENCE)

        assert timedelta(0) <= now() - far.deadline < timedelta(milliseconds=250)
        assert (await runtime.get_state(farther.id)).status == "running"
        assert (await runtime.get_state(near.id)).status == "failed"


async def test_alarms_that_move_all_the_time_do_not_pile_up(open_sqlite: OpenSqlite) -> None:
    """The heap is swept of what is out of date."""
    births = [a_birth() for _ in range(20)]
    async with open_sqlite() as runtime:
        runtime.start(Scribe(runtime, for_ever), slots=slots())
        await make(runtime, births)
        for second in range(100):
            at = now() + timedelta(seconds=second)
            for step in (lambda g, at=at: g.delete(at), lambda g, at=at: g.undelete(at)):
                await asyncio.gather(*(runtime.call(birth.id, step, version) for birth in births))

        assert len(runtime._alarms) == 20
        assert len(runtime._alarms._heap) <= 4 * 20 + 65


# Unclaimed


async def test_unclaimed_deliveries_are_bounded_by_number(
    open_sqlite: OpenSqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood makes the oldest go, not the disk full; a restart goes on counting."""
    monkeypatch.setattr(sqlite, "UNCLAIMED_LIMIT", 10)
    for start in range(2):
        async with open_sqlite() as runtime:
            await asyncio.gather(
                *(runtime.keep_unclaimed(None, "r", b"%d" % (start * 15 + number), now()) for number in range(15))
            )
            await runtime.keep_unclaimed(None, "r", b"%d" % (start * 15 + 14), now())

            kept = [int(each.body) for each in await runtime.unclaimed()]
            assert kept == list(range(start * 15 + 5, start * 15 + 15))
            assert (await runtime.stats()).unclaimed == 10


async def test_unclaimed_deliveries_are_bounded_by_bytes(
    open_sqlite: OpenSqlite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever their sizes, and one alone that is too large."""
    monkeypatch.setattr(sqlite, "UNCLAIMED_BYTES", 1_000)
    async with open_sqlite() as runtime:
        for number in range(30):
            await runtime.keep_unclaimed(None, "r", b"%03d" % number * (10 + number), now())
            kept = [each.body for each in await runtime.unclaimed()]

            assert sum(map(len, kept)) <= 1_000
            assert (await runtime.stats()).unclaimed == len(kept)
            assert kept[-1][:3] == b"%03d" % number
        await asyncio.wait_for(runtime.keep_unclaimed(None, "r", b"x" * 1_001, now()), PATIENCE)
        await runtime.keep_unclaimed(None, "r", b"after", now())

        assert [each.body for each in await runtime.unclaimed()] == [b"after"]
        assert (await runtime.stats()).unclaimed == 1
    async with open_sqlite() as runtime:
        assert (await runtime.stats()).unclaimed == 1
