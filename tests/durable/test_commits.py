"""What is committed with what, how often, and what can be seen before."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from runware_provider.durable import ANSWERED, Assignment
from runware_provider.durable.sqlite_batch import REQUEST_CHARACTERS
from runware_provider.errors import StateUnavailable
from runware_provider.types import Dispatch, StoreOutput
from tests.conformance.builders import (
    PATIENCE,
    a_birth,
    accept,
    deliver,
    eventually,
    idle,
    images,
    make,
    nothing,
    now,
    tasks_match_state,
    version,
)
from tests.conformance.test_alarms import SOON, a_last_question, given_up
from tests.conformance.test_calls import Poison, poisoned
from tests.conformance.workers import Scribe, for_ever, slots
from tests.durable.conftest import OpenSqlite, counted, held_up


async def test_what_comes_at_once_shares_a_commit(open_sqlite: OpenSqlite) -> None:
    """The disk is waited for once, not a hundred times."""
    async with open_sqlite() as runtime:
        with counted(runtime) as commits:
            ids = await make(runtime, (a_birth() for _ in range(100)))
        assert commits.count == 1
        with counted(runtime) as commits:
            await asyncio.gather(*(runtime.call(each, deliver("a"), version) for each in ids))
        assert commits.count == 1


async def test_the_next_batch_gathers_while_one_is_committed(open_sqlite: OpenSqlite) -> None:
    """Two commits for whatever number of calls that come while the disk is busy."""
    async with open_sqlite() as runtime:
        ids = await make(runtime, (a_birth(expected=2) for _ in range(50)))
        with counted(runtime) as commits:
            with held_up(runtime) as gate:
                first = asyncio.ensure_future(runtime.call(ids[0], deliver("a"), images))
                await gate.reached.wait()
                others = [asyncio.ensure_future(runtime.call(each, deliver("b"), images)) for each in ids]
                await asyncio.sleep(0)
            assert await asyncio.gather(first, *others) == [["a"], ["a", "b"], *[["b"]] * 49]
        assert commits.count == 2


async def test_nobody_reads_what_waits_for_its_commit(open_sqlite: OpenSqlite) -> None:
    """The register in memory is ahead of the file for as long as the disk is busy, and nobody is told."""
    birth = a_birth(expected=2)
    async with open_sqlite() as runtime:
        await runtime.create(birth)
        before = await runtime.get_state(birth.id)
        with held_up(runtime) as gate:
            call = asyncio.ensure_future(runtime.call(birth.id, deliver("a"), version))
            await gate.reached.wait()
            assert before == await runtime.get_state(birth.id)
            assert await runtime.look(birth.id, images) == []
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await runtime.changed(birth.id, after=before.version)
        assert await call == before.version + 1
        assert await runtime.look(birth.id, images) == ["a"]


async def test_what_was_touched_lately_is_read_without_the_file(open_sqlite: OpenSqlite) -> None:
    """A generation's own life needs no statement to be looked at; what was asked for is read when it is large."""
    small, large = a_birth(), a_birth(prompt="x" * REQUEST_CHARACTERS)
    async with open_sqlite() as runtime:
        await make(runtime, (small, large))
        statements: list[str] = []
        runtime._store.reader.set_trace_callback(statements.append)
        for birth in (small, large):
            await runtime.look(birth.id, version)
            await runtime.changed(birth.id, after=0)
        assert (await runtime.get_state(small.id)).input == small.request.input
        assert small.request == await runtime.get_request(small.id)
        assert not statements
        assert large.request == await runtime.get_request(large.id)
        assert len(statements) == 1


async def test_calls_that_change_nothing_commit_nothing(open_sqlite: OpenSqlite) -> None:
    """A repeated delivery, an answer that teaches nothing, a look: they cost no disk."""
    birth, other = a_birth(key=("key", "digest")), a_birth(key=("key", "digest"))
    async with open_sqlite() as runtime:
        await runtime.create(birth)
        await runtime.call(birth.id, accept, version)
        await runtime.call(birth.id, deliver("a"), version)
        await runtime.secret("webhook", lambda: "secret")
        with counted(runtime) as commits:
            await runtime.call(birth.id, nothing, version)
            await runtime.call(birth.id, deliver("a"), version)
            await runtime.call(birth.id, accept, version)
            await runtime.create(other)
            await runtime.create(birth)
            await runtime.secret("webhook", lambda: "another")
            await runtime.get_state(birth.id)
            await runtime.get_request(birth.id)
            await runtime.changed(birth.id, after=0)
            with pytest.raises(Poison):
                await runtime.call(birth.id, poisoned("b"), version)

        assert commits.count == 0


async def test_what_moves_neither_alarm_nor_flags_leaves_the_indexes_alone(open_sqlite: OpenSqlite) -> None:
    """SQLite would write both anew for columns that are named, changed or not. What has moved is in the file."""
    birth = a_birth(expected=3)
    async with open_sqlite() as runtime:
        await runtime.create(birth)
        before = runtime._store.load(birth.id)
        await runtime.call(birth.id, accept, version)
        moved = runtime._store.load(birth.id)
        statements: list[str] = []
        runtime._store.writer.set_trace_callback(statements.append)
        await runtime.call(birth.id, deliver("a"), version)
        runtime._store.writer.set_trace_callback(None)
        after = runtime._store.load(birth.id)

    assert before is not None
    assert moved is not None
    assert after is not None
    assert before.alarm_at != moved.alarm_at == after.alarm_at
    assert before.register != moved.register != after.register
    (update,) = [statement for statement in statements if statement.startswith("UPDATE generations")]
    assert "alarm_at" not in update
    assert "flags" not in update


async def test_an_alarm_that_changes_nothing_commits_nothing(open_sqlite: OpenSqlite) -> None:
    """Asking Runware again and again while it still works must not wear the disk."""
    birth = a_birth(deadline=now() + SOON)
    async with open_sqlite() as runtime:
        worker = Scribe(runtime, for_ever)
        runtime.start(worker, slots=slots())
        await runtime.create(birth)
        await runtime.call(birth.id, accept, version)
        with counted(runtime) as commits:
            await worker.until(lambda: birth.id in worker.asked_at)
            await asyncio.sleep(0.02)

        assert commits.count == 0


async def test_the_silence_of_a_last_alarm_is_one_commit(open_sqlite: OpenSqlite) -> None:
    """So that it does not ring at every start; the register is not written anew."""
    birth = a_last_question(now() + SOON)
    async with open_sqlite() as runtime:
        worker = Scribe(runtime, for_ever)
        runtime.start(worker, slots=slots())
        await asyncio.gather(runtime.create(birth), runtime.call(birth.id, given_up, version))
        with counted(runtime) as commits:
            await worker.until(lambda: birth.id in worker.asked_at)
            for _ in range(3):
                await runtime.call(birth.id, nothing, version)

        assert commits.count == 1


async def test_a_poisoned_call_costs_the_others_a_few_commits_not_a_hundred(open_sqlite: OpenSqlite) -> None:
    """The batch is halved down to it: an attacker's call must not undo group commit for everybody."""
    async with open_sqlite() as runtime:
        ids = await make(runtime, (a_birth() for _ in range(128)))
        with counted(runtime) as commits:
            await asyncio.gather(
                *(
                    runtime.call(each, poisoned("bad") if number == 77 else deliver("good"), version)
                    for number, each in enumerate(ids)
                ),
                return_exceptions=True,
            )

        assert commits.count <= 8


async def test_a_task_ends_in_the_commit_of_the_call_that_it_led_to(open_sqlite: OpenSqlite, state: Path) -> None:
    """The confirm, the end of its task and the next task: another connection sees all of it or nothing."""
    birth = a_birth()
    seen: list[tuple[int, list[str]]] = []

    def look() -> None:
        with sqlite3.connect(f"{state.as_uri()}?mode=ro", uri=True) as other:
            (kept,) = other.execute("SELECT version FROM generations").fetchone()
            seen.append((kept, [row[0] for row in other.execute("SELECT task ->> 0 FROM tasks ORDER BY number")]))
        other.close()

    async with open_sqlite() as runtime:

        async def act(assignment: Assignment) -> None:
            if isinstance(assignment.task, StoreOutput):
                look()
                with held_up(runtime) as gate:
                    ending = asyncio.ensure_future(worker.do(assignment))
                    await gate.reached.wait()
                    look()
                await ending
                look()
            else:
                await runtime.finish(assignment)

        worker = Scribe(runtime, act)
        runtime.start(worker, slots={"Dispatch": 1, "Project": 0, "StoreOutput": 1, "Purge": 0})
        await runtime.create(birth)
        await runtime.call(birth.id, deliver("a"), version)
        await worker.until(lambda: any(isinstance(each.task, StoreOutput) for each in worker.ended))

    before, during, after = seen
    assert before == during
    assert (before[0] + 1, sorted(before[1])) == (after[0], ["Project", "StoreOutput"])
    assert after[1] == ["Project"]


async def test_nothing_is_seen_before_its_commit(open_sqlite: OpenSqlite) -> None:
    """Not by a reader, a watcher, a worker, an idempotent repeat or the caller; then by all of them."""
    birth = a_birth(key=("key", "digest"))
    async with open_sqlite() as runtime:
        worker = Scribe(runtime)
        runtime.start(worker, slots=slots())
        with held_up(runtime) as gate:
            creation = asyncio.ensure_future(runtime.create(birth))
            await gate.reached.wait()
            assert await runtime.ids() == []
        await creation
        await eventually(lambda: idle(runtime))
        before = await runtime.get_state(birth.id)
        worker.given.clear()
        with held_up(runtime) as gate:
            call = asyncio.ensure_future(runtime.call(birth.id, deliver("a"), version))
            await gate.reached.wait()
            watcher = asyncio.ensure_future(runtime.changed(birth.id, after=before.version))
            later = asyncio.ensure_future(runtime.call(birth.id, nothing, images))
            repeat = asyncio.ensure_future(runtime.create(a_birth(key=("key", "digest"))))
            for _ in range(20):
                await asyncio.sleep(0)

            assert not any(each.done() for each in (call, watcher, later, repeat))
            assert worker.given == []
            assert await runtime.get_state(birth.id) == before
            assert not any((await runtime.stats()).tasks.values())
        assert await asyncio.wait_for(watcher, PATIENCE) == await call
        assert await later == ["a"]
        assert (await repeat).id == birth.id
        await worker.until(lambda: len(worker.given_of("StoreOutput")) == 1)


async def test_a_watcher_sleeps_through_what_is_not_worth_waking_for(open_sqlite: OpenSqlite) -> None:
    """A client that waits for the end of a generation costs nothing at each step on the way."""
    birth = a_birth(expected=3)
    async with open_sqlite() as runtime:
        await runtime.create(birth)
        watcher = asyncio.ensure_future(runtime.changed(birth.id, after=1, marks=ANSWERED))
        await asyncio.sleep(0)
        await runtime.call(birth.id, lambda generation: generation.record_dispatching(1, now()), version)
        await asyncio.sleep(0)
        assert not watcher.done()
        told = await runtime.call(birth.id, accept, version)

        assert told == await asyncio.wait_for(watcher, PATIENCE)


async def test_a_commit_that_fails_is_seen_by_nobody(open_sqlite: OpenSqlite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the file nor in memory: the next step starts from what is committed."""
    birth = a_birth(expected=2)
    async with open_sqlite() as runtime:
        worker = Scribe(runtime)
        runtime.start(worker, slots=slots())
        await runtime.create(birth)
        await eventually(lambda: idle(runtime))
        before, counts, commit = await runtime.get_state(birth.id), await runtime.stats(), runtime._store.commit
        watcher = asyncio.ensure_future(runtime.changed(birth.id, after=before.version))

        def fail() -> None:
            raise sqlite3.OperationalError("disk I/O error")

        with monkeypatch.context() as patch:
            patch.setattr(runtime._store, "commit", fail)
            outcomes = await asyncio.gather(
                runtime.call(birth.id, deliver("lost"), version),
                runtime.create(a_birth(key=("key", "digest"))),
                runtime.keep_unclaimed(None, "r", b"body", now()),
                runtime.secret("name", lambda: "lost"),
                return_exceptions=True,
            )

        assert [type(outcome) for outcome in outcomes] == [StateUnavailable] * 4
        assert runtime._store.commit == commit
        assert await runtime.get_state(birth.id) == before
        assert await runtime.stats() == counts
        assert not watcher.done()
        assert await runtime.unclaimed() == []
        assert (await runtime.create(a_birth(key=("key", "digest")))).created
        assert await runtime.secret("name", lambda: "kept") == "kept"
        assert await runtime.call(birth.id, deliver("kept"), images) == ["kept"]
        assert await asyncio.wait_for(watcher, PATIENCE) == before.version + 1
        await eventually(lambda: idle(runtime))
        await tasks_match_state(runtime)


async def test_watchers_that_went_away_leave_nothing_behind(open_sqlite: OpenSqlite) -> None:
    """A year of clients that hang up."""
    births = [a_birth() for _ in range(20)]
    async with open_sqlite() as runtime:
        await make(runtime, births)
        await runtime.changed(births[0].id, after=0)
        for after in (1, 10):
            gone = [asyncio.ensure_future(runtime.changed(b.id, after=after)) for b in births for _ in range(5)]
            await asyncio.sleep(0)
            for each in gone:
                each.cancel()
            await asyncio.wait(gone)
        for birth in births:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(runtime.changed(birth.id, after=1), 0.001)
        woken = [asyncio.ensure_future(runtime.changed(birth.id, after=1)) for birth in births]
        await asyncio.sleep(0)
        await asyncio.gather(*(runtime.call(birth.id, deliver("a"), version) for birth in births))
        await asyncio.gather(*woken)

        assert not runtime._watchers


async def test_a_cancelled_caller_whose_commit_is_under_way_is_kept(open_sqlite: OpenSqlite) -> None:
    """It is too late to take it back, and the others in the commit need it."""
    births = [a_birth() for _ in range(3)]
    async with open_sqlite() as runtime:
        await make(runtime, births)
        with held_up(runtime) as gate:
            calls = [asyncio.ensure_future(runtime.call(birth.id, deliver("a"), images)) for birth in births]
            await gate.reached.wait()
            calls[1].cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

        assert outcomes[::2] == [["a"], ["a"]]
        assert await runtime.call(births[1].id, nothing, images) == ["a"]
        await tasks_match_state(runtime)


async def test_a_stop_while_a_commit_is_under_way_waits_for_it(open_sqlite: OpenSqlite) -> None:
    """What was begun is told to its caller; what comes later is refused."""
    birth = a_birth()
    async with open_sqlite() as runtime:
        with held_up(runtime) as gate:
            creation = asyncio.ensure_future(runtime.create(birth))
            await gate.reached.wait()
            stopping = asyncio.ensure_future(runtime.stop(grace=0))
            await asyncio.sleep(0.01)
            assert not stopping.done()
        await stopping

        assert (await creation).created
        with pytest.raises(StateUnavailable):
            await runtime.create(a_birth())
        for read in (runtime.get_state(birth.id), runtime.ids(), runtime.unclaimed(), runtime.parked()):
            with pytest.raises(StateUnavailable):
                await read
        with pytest.raises(StateUnavailable):
            await runtime.changed(birth.id, after=0)
    async with open_sqlite() as runtime:
        assert (await runtime.get_state(birth.id)).dispatch == "queued"
        assert Dispatch(1) in [each.task for each in runtime._store.tasks(after=0, before=99, limit=9)]
