"""Alarms: on time, not before, re-set, and never lost."""

import asyncio
import time
from collections import Counter
from datetime import datetime, timedelta
from statistics import median

import pytest

from runware_provider.durable import Birth, Step
from runware_provider.generation import Generation
from runware_provider.schedule import LATE_ASKS, Policy
from runware_provider.types import Accepted, Order
from tests.conformance.builders import (
    PATIENCE,
    a_birth,
    accept,
    deliver,
    eventually,
    make,
    nothing,
    now,
    reads,
    timed_out,
    version,
)
from tests.conformance.engines import OpenRuntime
from tests.conformance.workers import Scribe, for_ever, slots

SOON = timedelta(milliseconds=150)


def delete(generation: Generation) -> list[Order]:
    """A step after which an alarm is due when the time for undoing is over."""
    return generation.delete(now())


def undelete(generation: Generation) -> list[Order]:
    """A step that takes it back."""
    return generation.undelete(now())


def delete_at(at: datetime) -> Step:
    """A delete as of `at`."""
    return lambda generation: generation.delete(at)


def given_up(generation: Generation) -> list[Order]:
    """A step after which only the last late question, a day after the deadline, is to come."""
    sent = generation.register.created_at
    orders = generation.record_dispatching(1, sent) + generation.record_dispatch(1, Accepted(), sent)
    return orders + timed_out(generation)


def a_last_question(at: datetime) -> Birth:
    """A birth whose last question is due at `at`, once it was given up."""
    deadline = at - LATE_ASKS[-1]
    return a_birth(expected=2, at=deadline - timedelta(minutes=15), deadline=deadline)


async def test_an_alarm_rings_on_time_and_not_before(open_runtime: OpenRuntime) -> None:
    """A deadline is a promise to a client: 50 ms late is on time, early is wrong."""
    births = [a_birth(deadline=now() + SOON + timedelta(microseconds=9_377 * number)) for number in range(20)]
    late: list[float] = []
    async with open_runtime() as runtime:
        runtime.start(Scribe(runtime, for_ever), slots=slots())
        await make(runtime, births)
        for birth in births:
            await asyncio.wait_for(runtime.changed(birth.id, after=1), PATIENCE)
            late.append((now() - birth.deadline).total_seconds())
            state = await runtime.get_state(birth.id)

            assert state.status == "failed"
            assert state.completed_at is not None
            assert state.completed_at >= birth.deadline

    assert median(late) < 0.05
    assert max(late) < 0.5


async def test_each_question_is_asked_once_and_not_before_its_time(open_runtime: OpenRuntime) -> None:
    """An alarm that rings a fraction of a millisecond early would ask, and then ask again in time."""
    first = now() + 4 * SOON
    births = [a_birth(deadline=first + timedelta(microseconds=577 * number)) for number in range(200)]
    due = {birth.id: birth.deadline for birth in births}  # after it, the next question is due 2 s later
    async with open_runtime() as runtime:
        worker = Scribe(runtime, for_ever)
        runtime.start(worker, slots=slots())
        await make(runtime, births)
        await asyncio.gather(*(runtime.call(birth.id, accept, version) for birth in births))
        await worker.until(lambda: len(worker.asked_at) == 200)
        await asyncio.sleep(0.02)

        assert {1} == set(Counter(generation_id for generation_id, _ in worker.asked).values())
        early = [each for each, at in due.items() if worker.asked_at[each][0] < at.timestamp()]
        assert early == []


async def test_an_alarm_that_was_set_anew_rings_at_the_new_time_only(open_runtime: OpenRuntime) -> None:
    """A delete that is undone and done again counts from the second."""
    birth = a_birth()
    async with open_runtime(policy=Policy(undo=SOON)) as runtime:
        worker = Scribe(runtime)
        runtime.start(worker, slots=slots())
        await runtime.create(birth)
        await runtime.call(birth.id, delete, version)
        await runtime.call(birth.id, undelete, version)
        await asyncio.sleep(SOON.total_seconds() * 1.3)
        assert worker.given_of("Purge") == []
        again = now()
        await runtime.call(birth.id, delete, version)
        await worker.until(lambda: len(worker.given_of("Purge")) == 1)

        assert now() >= again + SOON


async def test_an_earlier_alarm_is_not_held_up_by_a_later_one(open_runtime: OpenRuntime) -> None:
    """One timer serves them all."""
    far, near = a_birth(deadline=now() + timedelta(hours=1)), a_birth(deadline=now() + SOON)
    async with open_runtime() as runtime:
        runtime.start(Scribe(runtime, for_ever), slots=slots())
        await runtime.create(far)
        await runtime.create(near)

        assert await asyncio.wait_for(runtime.changed(near.id, after=1), PATIENCE)
        assert (await runtime.get_state(far.id)).status == "running"


async def test_an_alarm_is_not_lost_over_a_restart(open_runtime: OpenRuntime) -> None:
    """Due while nobody was there, or soon after: it rings."""
    overdue, soon = a_birth(deadline=now() + timedelta(milliseconds=20)), a_birth(deadline=now() + 2 * SOON)
    async with open_runtime() as runtime:
        await make(runtime, [overdue, soon])
    await asyncio.sleep(0.03)
    async with open_runtime() as runtime:
        begun = time.monotonic()
        runtime.start(Scribe(runtime, for_ever), slots=slots())
        await asyncio.wait_for(runtime.changed(overdue.id, after=1), PATIENCE)
        assert time.monotonic() - begun < 0.3
        await asyncio.wait_for(runtime.changed(soon.id, after=1), PATIENCE)

        assert now() >= soon.deadline


async def test_a_thousand_overdue_alarms_all_ring(open_runtime: OpenRuntime) -> None:
    """The deadlines of a long weekend, found at the start; other calls are served meanwhile."""
    an_hour_ago = now() - timedelta(hours=1)
    async with open_runtime() as runtime:
        births = [a_birth(at=an_hour_ago, deadline=an_hour_ago + timedelta(minutes=15)) for _ in range(1_000)]
        await make(runtime, births)
        assert (await runtime.stats()).running == 1_000
    async with open_runtime() as runtime:
        runtime.start(Scribe(runtime, for_ever), slots=slots())
        await asyncio.wait_for(runtime.create(a_birth()), 1)
        await eventually(lambda: reads(runtime, lambda stats: stats.running == 1))

        assert {"failed"} == {(await runtime.get_state(birth.id)).status for birth in births}


@pytest.mark.parametrize("last", [False, True])
async def test_a_question_that_is_due_is_asked_although_a_call_comes_first(
    open_runtime: OpenRuntime, last: bool
) -> None:
    """Whatever touches a generation between the moment that something is due and its alarm must not swallow it."""
    due = now() + SOON
    birth = a_last_question(due) if last else a_birth(deadline=due)
    async with open_runtime() as runtime:
        worker = Scribe(runtime, for_ever)
        await asyncio.gather(runtime.create(birth), runtime.call(birth.id, given_up if last else accept, version))
        runtime.start(worker, slots=slots())
        await asyncio.sleep(SOON.total_seconds() - 0.03)
        call = asyncio.ensure_future(runtime.call(birth.id, nothing, version))
        await asyncio.sleep(0)
        time.sleep(0.06)  # noqa: ASYNC251  the loop is busy while the time passes
        await call

        await worker.until(lambda: birth.id in worker.asked_at, within=1)


@pytest.mark.parametrize("step", [nothing, deliver("a")])
@pytest.mark.parametrize("when", ["before the start", "after the start"])
async def test_an_overdue_question_is_asked_at_the_start_although_a_call_comes_first(
    open_runtime: OpenRuntime, when: str, step: Step
) -> None:
    """The tasks that were left over are done, and clients served, while the alarms are still being read."""
    births = [a_last_question(now() + SOON) for _ in range(50)]
    async with open_runtime() as runtime:
        await make(runtime, births)
        await asyncio.gather(*(runtime.call(birth.id, given_up, version) for birth in births))
    await asyncio.sleep(SOON.total_seconds())
    async with open_runtime() as runtime:
        worker = Scribe(runtime, for_ever)
        if when == "after the start":
            runtime.start(worker, slots=slots())
        await asyncio.gather(*(runtime.call(birth.id, step, version) for birth in births))
        if when == "before the start":
            runtime.start(worker, slots=slots())

        await worker.until(lambda: len(worker.asked_at) == 50, within=2)


async def test_the_last_question_is_not_repeated_at_every_start(open_runtime: OpenRuntime) -> None:
    """What rang and awaits nothing more is silent, also after a restart."""
    at = now() + SOON
    birth = a_last_question(at)
    async with open_runtime() as runtime:
        worker = Scribe(runtime, for_ever)
        await asyncio.gather(runtime.create(birth), runtime.call(birth.id, given_up, version))
        runtime.start(worker, slots=slots())
        await worker.until(lambda: len(worker.asked) > 0)
        await asyncio.sleep((at - now() + SOON).total_seconds())  # it may have been asked before its time, too
        before = await runtime.call(birth.id, nothing, version)
    for _ in range(2):
        async with open_runtime() as runtime:
            worker = Scribe(runtime, for_ever)
            runtime.start(worker, slots=slots())
            await worker.until(lambda worker=worker: len(worker.given) > 0)  # type: ignore[misc]
            await asyncio.sleep(0.05)

            assert worker.asked == []
            assert before == await runtime.call(birth.id, nothing, version)


async def test_alarms_ring_for_generations_that_nobody_touches(open_runtime: OpenRuntime) -> None:
    """A client that submits and goes away is served all the same."""
    births = [a_birth() for _ in range(20)]
    async with open_runtime(policy=Policy(undo=SOON)) as runtime:
        worker = Scribe(runtime)
        runtime.start(worker, slots=slots())
        await make(runtime, births)
        at = now()
        await asyncio.gather(*(runtime.call(birth.id, delete_at(at), version) for birth in births))
        await worker.until(lambda: len(worker.given_of("Purge")) == 20)

        assert now() >= at + SOON
