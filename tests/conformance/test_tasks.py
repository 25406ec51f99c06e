"""Tasks: at least once, within their slots, without delay, and parked when they fail for good."""

import asyncio
import time
from collections import Counter
from statistics import median
from uuid import UUID

import pytest

from runware_provider.durable import MAX_ATTEMPTS, Assignment, TryLater
from runware_provider.schedule import Policy
from runware_provider.types import Ask, Dispatch, Project, StoreOutput
from tests.conformance.builders import (
    PATIENCE,
    a_birth,
    accept,
    deliver,
    eventually,
    idle,
    images,
    live,
    make,
    reads,
    tasks_match_state,
    version,
)
from tests.conformance.engines import OpenRuntime
from tests.conformance.workers import Scribe, for_ever, slots

# Handing over


async def test_what_a_creation_asks_for_is_handed_to_the_worker(open_runtime: OpenRuntime) -> None:
    """A dispatch and a first projection; with what the worker needs to know."""
    birth = a_birth()
    async with open_runtime() as runtime:
        worker = Scribe(runtime)
        runtime.start(worker, slots=slots())
        await runtime.create(birth)
        await worker.until(lambda: len(worker.ended) == 2)

        assert {Dispatch(1), Project()} == {each.task for each in worker.given}
        assert {(birth.id, 0)} == {(each.generation_id, each.attempts) for each in worker.given}
        assert await idle(runtime)


async def test_tasks_are_handed_over_without_a_poll(open_runtime: OpenRuntime) -> None:
    """Four images fetched one after the other must not wait for a timer each."""
    waits: list[float] = []
    async with open_runtime() as runtime:
        worker = Scribe(runtime)
        runtime.start(worker, slots=slots())
        for number in range(1, 21):
            begun = time.perf_counter()
            await runtime.create(a_birth())
            await worker.until(lambda number=number: len(worker.given) == 2 * number)  # type: ignore[misc]
            waits.append(time.perf_counter() - begun)

    assert median(waits) < 0.05


async def test_a_worker_finds_what_its_task_was_asked_for(open_runtime: OpenRuntime) -> None:
    """Never early: the state that a task belongs to can be read when the task is given."""
    missing: list[Assignment] = []
    async with open_runtime() as runtime:

        async def act(assignment: Assignment) -> None:
            state = await runtime.get_state(assignment.generation_id)
            if isinstance(assignment.task, StoreOutput) and not any(e.event == "delivered" for e in state.timeline):
                missing.append(assignment)
            await worker.do(assignment)

        worker = Scribe(runtime, act)
        runtime.start(worker, slots=slots())
        births = [a_birth() for _ in range(50)]
        await make(runtime, births)
        await asyncio.gather(*(runtime.call(birth.id, deliver("a"), version) for birth in births))
        await worker.until(lambda: len(worker.given_of("StoreOutput")) == 50)
        await eventually(lambda: idle(runtime))

    assert missing == []


async def test_the_end_of_a_task_comes_with_the_call_that_it_led_to(open_runtime: OpenRuntime) -> None:
    """The confirm, the end of its task and the next task are one commit, before and after a restart."""
    birth = a_birth()
    async with open_runtime() as runtime:
        worker = Scribe(runtime)
        runtime.start(worker, slots=slots())
        await runtime.create(birth)
        await runtime.call(birth.id, deliver("a"), version)
        await eventually(lambda: idle(runtime))
        await tasks_match_state(runtime)
        before = await runtime.get_state(birth.id)

        assert before.status == "completed"
        assert before.settled
        assert Counter(Dispatch=1, StoreOutput=1) == Counter(
            type(each.task).__name__ for each in worker.given if not isinstance(each.task, Project)
        )
    async with open_runtime() as runtime:
        late = Scribe(runtime)
        runtime.start(late, slots=slots())
        await runtime.create(a_birth())
        await late.until(lambda: len(late.ended) == 2)

        assert birth.id not in {each.generation_id for each in late.given}


async def test_no_more_of_a_kind_run_at_once_than_it_has_slots(open_runtime: OpenRuntime) -> None:
    """A burst must not open a thousand connections; and what slots there are, are used."""
    gate = asyncio.Event()
    at_once: Counter[str] = Counter()
    most: Counter[str] = Counter()
    async with open_runtime() as runtime:

        async def act(assignment: Assignment) -> None:
            kind = type(assignment.task).__name__
            at_once[kind] += 1
            most[kind] = max(most[kind], at_once[kind])
            await gate.wait()
            await worker.do(assignment)
            at_once[kind] -= 1

        worker = Scribe(runtime, act)
        runtime.start(worker, slots={"Dispatch": 3, "Project": 2, "StoreOutput": 5, "Purge": 1})
        ids = await make(runtime, (a_birth(expected=2) for _ in range(20)))
        await asyncio.gather(*(runtime.call(each, deliver("a", "b"), version) for each in ids))
        await worker.until(lambda: worker.at_once == 10)
        gate.set()
        await eventually(lambda: idle(runtime))

        assert most == {"Dispatch": 3, "Project": 2, "StoreOutput": 5}


# At least once


async def test_a_task_whose_worker_raises_is_given_again(open_runtime: OpenRuntime) -> None:
    """After a wait, and as the same task."""
    birth = a_birth()
    async with open_runtime() as runtime:

        async def act(assignment: Assignment) -> None:
            if worker.given.count(assignment) < 3:
                raise RuntimeError("not yet")
            await worker.do(assignment)

        worker = Scribe(runtime, act)
        runtime.start(worker, slots=slots())
        await runtime.create(birth)
        await worker.until(lambda: len(worker.ended) == 2)

        assert {3} == set(Counter(worker.given).values())
        assert await idle(runtime)
        assert (await runtime.stats()).parked == 0


async def test_a_task_that_returns_without_an_end_is_given_again(open_runtime: OpenRuntime) -> None:
    """A worker that forgets must not lose paid work."""
    async with open_runtime() as runtime:

        async def act(assignment: Assignment) -> None:
            if worker.given.count(assignment) == 2:
                await runtime.finish(assignment)

        worker = Scribe(runtime, act)
        runtime.start(worker, slots=slots())
        await runtime.create(a_birth())
        await worker.until(lambda: len(worker.given) == 4)
        await eventually(lambda: idle(runtime))

        assert {2} == set(Counter(worker.given).values())


async def test_a_task_that_cannot_be_done_for_now_is_never_parked(open_runtime: OpenRuntime) -> None:
    """The read model's database is down for an hour: that is no fault of the task's."""
    async with open_runtime() as runtime:

        async def act(assignment: Assignment) -> None:
            if worker.given.count(assignment) <= 2 * MAX_ATTEMPTS:
                raise TryLater("the database is down")
            await worker.do(assignment)

        worker = Scribe(runtime, act)
        runtime.start(worker, slots=slots())
        await runtime.create(a_birth())
        await worker.until(lambda: len(worker.ended) == 2)

        assert (await runtime.stats()).parked == 0
        assert set(Counter(worker.given).values()) == {2 * MAX_ATTEMPTS + 1}
        await eventually(lambda: idle(runtime))


async def test_a_task_that_has_ended_is_not_given_again_whatever_its_worker_raises(open_runtime: OpenRuntime) -> None:
    """Its end is committed; what fails afterwards (removing a spare object, say) is not the task."""
    async with open_runtime() as runtime:

        async def act(assignment: Assignment) -> None:
            await runtime.finish(assignment)
            raise RuntimeError("after the end")

        worker = Scribe(runtime, act)
        runtime.start(worker, slots=slots())
        await runtime.create(a_birth())
        await eventually(lambda: idle(runtime))
        await asyncio.sleep(0.1)  # longer than the first waits

        assert {1} == set(Counter(worker.given).values())
        assert (await runtime.stats()).parked == 0


async def test_a_task_that_fails_for_good_is_parked_and_can_be_given_again(open_runtime: OpenRuntime) -> None:
    """It stops costing anything, a person sees it and why, other tasks go on, and `unpark` tries it anew."""
    bad, beside, later = a_birth(), a_birth(), a_birth()
    mended = False
    async with open_runtime() as runtime:

        async def act(assignment: Assignment) -> None:
            if assignment.generation_id in (bad.id, later.id) and isinstance(assignment.task, Project) and not mended:
                raise RuntimeError("the same every time")
            await worker.do(assignment)

        worker = Scribe(runtime, act)
        runtime.start(worker, slots=slots())
        await make(runtime, [bad, beside])
        await eventually(lambda: reads(runtime, lambda stats: stats.parked == 1), within=15)
        [parked] = await runtime.parked()

        assert (bad.id, "Project") == (parked.generation_id, parked.task)
        assert "the same every time" in parked.error
        assert sum(isinstance(e.task, Project) and e.generation_id == bad.id for e in worker.given) == MAX_ATTEMPTS
        await eventually(lambda: idle(runtime))

    async with open_runtime() as runtime:
        worker = Scribe(runtime)
        runtime.start(worker, slots=slots())
        await runtime.create(a_birth())
        await eventually(lambda: idle(runtime))

        assert (await runtime.stats()).parked == 1
        assert bad.id not in {each.generation_id for each in worker.given}
        assert await runtime.unpark(beside.id) == 0
        assert await runtime.unpark(bad.id) == 1
        await worker.until(lambda: bad.id in {each.generation_id for each in worker.ended})
        assert await idle(runtime)
        assert (await runtime.stats()).parked == 0
        assert await runtime.parked() == []
        assert await runtime.unpark() == 0
        await tasks_match_state(runtime)


async def test_a_task_unparked_before_the_start_is_given_once(open_runtime: OpenRuntime) -> None:
    """By `unpark`, and not again with what an earlier process left."""
    async with open_runtime() as runtime:

        async def act(assignment: Assignment) -> None:
            raise RuntimeError("for good")

        worker = Scribe(runtime, act)
        runtime.start(worker, slots=slots())
        await runtime.create(a_birth())
        await eventually(lambda: reads(runtime, lambda stats: stats.parked == 2), within=15)
    async with open_runtime() as runtime:
        worker = Scribe(runtime)

        assert await runtime.unpark() == 2
        assert Counter((await runtime.stats()).tasks) + Counter() == {"Dispatch": 1, "Project": 1}
        runtime.start(worker, slots=slots())
        await eventually(lambda: idle(runtime))
        await runtime.create(a_birth())
        await eventually(lambda: idle(runtime))
        assert {1} == set(Counter(worker.given).values())
        assert (await runtime.stats()).parked == 0


# Over restarts


async def test_a_task_survives_the_end_of_its_worker(open_runtime: OpenRuntime) -> None:
    """A task is given until its worker says that it is done; a stop in good order is not held against it."""
    birth = a_birth()
    async with open_runtime() as runtime:
        worker = Scribe(runtime, for_ever)
        runtime.start(worker, slots=slots())
        await runtime.create(birth)
        await worker.until(lambda: len(worker.given) == 2)
    for _ in range(2):
        async with open_runtime() as runtime:
            worker = Scribe(runtime, for_ever)
            runtime.start(worker, slots=slots())
            await worker.until(lambda worker=worker: len(worker.given) == 2)  # type: ignore[misc]

            assert {Dispatch(1), Project()} == {each.task for each in worker.given}
            assert {0} == {each.attempts for each in worker.given}


async def test_tasks_of_a_time_without_a_worker_are_done_later(open_runtime: OpenRuntime) -> None:
    """An API process may take requests while the workers are elsewhere; and `start` may come late."""
    async with open_runtime() as runtime:
        ids = await make(runtime, (a_birth() for _ in range(30)))
    async with open_runtime() as runtime:
        ids += await make(runtime, (a_birth() for _ in range(30)))
        await asyncio.gather(*(runtime.call(each, deliver("a"), version) for each in ids))

        assert (await runtime.stats()).tasks == {"Dispatch": 60, "Project": 60, "StoreOutput": 60}
        worker = Scribe(runtime)
        runtime.start(worker, slots=slots(4))
        await eventually(lambda: idle(runtime))
        assert {"completed"} == {(await runtime.get_state(each)).status for each in ids}
        await tasks_match_state(runtime)


async def test_a_task_whose_generation_is_gone_can_be_ended(open_runtime: OpenRuntime) -> None:
    """`finish` needs no generation and may be repeated."""
    async with open_runtime() as runtime:

        async def act(assignment: Assignment) -> None:
            await asyncio.gather(runtime.finish(assignment), runtime.finish(assignment))
            await runtime.finish(assignment)

        worker = Scribe(runtime, act)
        runtime.start(worker, slots=slots())
        await runtime.create(a_birth())
        await worker.until(lambda: len(worker.ended) == 2)

        assert await idle(runtime)
        assert len(worker.given) == 2


# Stopping


async def test_a_stop_lets_what_runs_finish(open_runtime: OpenRuntime) -> None:
    """Its end is committed, and nothing new is begun meanwhile."""
    begun, gate = asyncio.Event(), asyncio.Event()
    async with open_runtime() as runtime:

        async def act(assignment: Assignment) -> None:
            begun.set()
            await gate.wait()
            await worker.do(assignment)

        worker = Scribe(runtime, act)
        runtime.start(worker, slots={"Dispatch": 1, "Project": 0, "StoreOutput": 0, "Purge": 0})
        ids = await make(runtime, (a_birth() for _ in range(3)))
        await begun.wait()
        stopping = asyncio.ensure_future(runtime.stop(grace=PATIENCE))
        await asyncio.sleep(0)
        gate.set()
        await asyncio.wait_for(stopping, PATIENCE / 2)

        assert 1 == len(worker.ended) == len(worker.given)
    async with open_runtime() as runtime:
        assert (await runtime.stats()).tasks["Dispatch"] == 2
        assert (await runtime.get_state(worker.ended[0].generation_id)).dispatch == "accepted"
        assert worker.ended[0].generation_id in ids


async def test_a_stop_cancels_what_takes_longer_than_its_grace(open_runtime: OpenRuntime) -> None:
    """And the task is there for the next start."""
    async with open_runtime() as runtime:
        worker = Scribe(runtime, for_ever)
        runtime.start(worker, slots=slots())
        await runtime.create(a_birth())
        await worker.until(lambda: len(worker.given) == 2)
        begun = time.monotonic()
        await runtime.stop(grace=0.1)

        assert 0.09 <= time.monotonic() - begun < 2
        assert worker.at_once == 0
        assert worker.ended == []
    async with open_runtime() as runtime:
        assert (await runtime.stats()).tasks == {"Dispatch": 1, "Project": 1}


async def test_a_stop_does_not_wait_for_backoffs_or_alarms(open_runtime: OpenRuntime) -> None:
    """What sleeps is woken at the next start."""
    async with open_runtime() as runtime:

        async def act(assignment: Assignment) -> None:
            raise RuntimeError("again later")

        worker = Scribe(runtime, act)
        runtime.start(worker, slots=slots())
        await runtime.create(a_birth())
        await worker.until(lambda: len(worker.given) >= 2)
        begun = time.monotonic()
        await runtime.stop(grace=PATIENCE)

        assert time.monotonic() - begun < 2


async def test_stopping_twice_is_harmless(open_runtime: OpenRuntime) -> None:
    """SIGTERM and the end of a context may both ask for it."""
    async with open_runtime() as runtime:
        await runtime.create(a_birth())
        await runtime.stop()
        await runtime.stop()


# The whole way


async def test_a_crowd_is_served_to_the_end(open_runtime: OpenRuntime) -> None:
    """Created, dispatched, delivered, stored and projected by tasks alone, each image confirmed once."""
    births = [a_birth(expected=2) for _ in range(200)]
    async with open_runtime() as runtime:

        async def act(assignment: Assignment) -> None:
            await worker.do(assignment)
            if isinstance(assignment.task, Dispatch):
                await runtime.call(assignment.generation_id, deliver("a", "b"), images)

        worker = Scribe(runtime, act)
        runtime.start(worker, slots=slots(8))
        await make(runtime, births)
        await eventually(lambda: reads(runtime, lambda stats: stats.running == 0), within=20)
        await eventually(lambda: idle(runtime))
        states = [await runtime.get_state(birth.id) for birth in births]

        assert {("completed", 2, True)} == {(each.status, each.counts.stored, each.settled) for each in states}
        assert len(worker.given_of("StoreOutput")) == 400
        await tasks_match_state(runtime)


async def test_a_purge_is_a_task_like_any_other(open_runtime: OpenRuntime) -> None:
    """Deleted, purged after the time for undoing it, and its request forgotten in the same commit."""
    birth = a_birth(prompt="a secret")
    undo = Policy().undo
    async with open_runtime() as runtime:
        worker = Scribe(runtime)
        runtime.start(worker, slots=slots())
        await runtime.create(birth)
        await runtime.call(birth.id, live, version)
        long_ago = birth.now - 2 * undo
        await runtime.call(birth.id, lambda generation: generation.delete(long_ago), version)
        await worker.until(lambda: len([e for e in worker.ended if type(e.task).__name__ == "Purge"]) == 1)

        assert (await runtime.get_request(birth.id)).input == {}
        assert (await runtime.get_state(birth.id)).input == {}
        assert await idle(runtime)


async def test_a_question_that_cannot_be_asked_harms_nobody(open_runtime: OpenRuntime) -> None:
    """Losing a question does no harm: the alarm asks again. Losing the runtime would."""
    birth = a_birth(expected=2)

    class Deaf(Scribe):
        def ask(self, generation_id: UUID, ask: Ask) -> None:
            super().ask(generation_id, ask)
            raise RuntimeError("no")

    async with open_runtime() as runtime:
        runtime.start(Deaf(runtime), slots=slots())
        await runtime.create(birth)
        await runtime.call(birth.id, accept, version)
        async with asyncio.timeout(PATIENCE):
            await runtime.call(birth.id, lambda generation: generation.retry(birth.now), version)

            assert await runtime.call(birth.id, deliver("a"), images) == ["a"]


@pytest.mark.parametrize("grace", [0.0, 5.0])
async def test_an_idle_runtime_stops_at_once(open_runtime: OpenRuntime, grace: float) -> None:
    """There is nothing to wait for."""
    async with open_runtime() as runtime:
        runtime.start(Scribe(runtime), slots=slots())
        begun = time.monotonic()
        await runtime.stop(grace=grace)

    assert time.monotonic() - begun < 1
