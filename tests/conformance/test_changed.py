"""Waiting for a change: server-sent events and `Prefer: wait` hang on it."""

import asyncio
from uuid import UUID

import pytest

from runware_provider.durable import ANSWERED, REFUSED, SETTLED, GenerationRuntime, Step
from runware_provider.errors import GenerationNotFound, StateUnavailable, api_rejected
from runware_provider.types import Refused
from tests.conformance.builders import (
    PATIENCE,
    a_birth,
    accept,
    confirm_all,
    deliver,
    nothing,
    now,
    projected,
    version,
)
from tests.conformance.engines import OpenRuntime
from tests.conformance.test_calls import poisoned


def watch(runtime: GenerationRuntime, generation_id: UUID, after: int) -> asyncio.Task[int]:
    """Somebody who waits."""
    return asyncio.ensure_future(asyncio.wait_for(runtime.changed(generation_id, after=after), PATIENCE))


async def test_a_newer_version_is_told_at_once(open_runtime: OpenRuntime) -> None:
    """Who comes late does not wait for the next change."""
    birth = a_birth()
    async with open_runtime() as runtime:
        await runtime.create(birth)
        latest = await runtime.call(birth.id, deliver("a"), version)

        assert latest == await runtime.changed(birth.id, after=latest - 1)
        assert latest == await runtime.changed(birth.id, after=0)


async def test_a_commit_wakes_everyone_who_waits_for_it(open_runtime: OpenRuntime) -> None:
    """All watchers of this generation, and none of another one."""
    birth, other = a_birth(expected=2), a_birth()
    async with open_runtime() as runtime:
        await asyncio.gather(runtime.create(birth), runtime.create(other))
        first = await runtime.call(birth.id, nothing, version)
        watchers = [watch(runtime, birth.id, first) for _ in range(100)]
        elsewhere = watch(runtime, other.id, first)
        await asyncio.sleep(0)
        told = await runtime.call(birth.id, deliver("a"), version)

        assert [told] * 100 == await asyncio.gather(*watchers)
        assert not elsewhere.done()
        elsewhere.cancel()


async def test_a_watcher_of_a_later_version_sleeps_through_earlier_ones(open_runtime: OpenRuntime) -> None:
    """It is told the first version above the one it named, however many commits that takes."""
    birth = a_birth(expected=10)
    async with open_runtime() as runtime:
        await runtime.create(birth)
        first = await runtime.call(birth.id, nothing, version)
        watcher = watch(runtime, birth.id, first + 4)
        for number in range(4):
            await runtime.call(birth.id, deliver(f"{number}"), version)
            assert not watcher.done()
        await runtime.call(birth.id, deliver("last"), version)

        assert first + 5 == await watcher


async def test_who_says_what_he_waits_for_is_told_of_that_alone(open_runtime: OpenRuntime) -> None:
    """A version that has it, whoever committed it; what comes before passes him over."""
    birth = a_birth(expected=2)
    async with open_runtime() as runtime:
        await runtime.create(birth)
        answered, settled, refused = (
            asyncio.ensure_future(asyncio.wait_for(runtime.changed(birth.id, after=0, marks=marks), PATIENCE))
            for marks in (ANSWERED, SETTLED, REFUSED)
        )
        await runtime.call(birth.id, lambda generation: generation.record_dispatching(1, now()), version)
        assert not answered.done()
        at_answer = await runtime.call(birth.id, accept, version)
        await runtime.call(birth.id, deliver("a", "b"), version)
        stored = await runtime.call(birth.id, confirm_all, version)
        assert at_answer <= await answered <= stored  # whoever looks late is told what is there
        assert not settled.done()
        at_end = await runtime.call(birth.id, projected, version)

        assert at_end == await settled
        assert at_end == await runtime.changed(birth.id, after=0, marks=SETTLED | REFUSED)
        assert not refused.done()
        at_delete = await runtime.call(birth.id, lambda generation: generation.delete(now()), version)
        assert at_delete == await refused, "what is deleted is waited for in vain"


async def test_a_refusal_is_an_answer(open_runtime: OpenRuntime) -> None:
    """And the end, as far as a client is concerned, before the read model has it."""
    birth = a_birth()
    error = api_rejected(400, [{"code": "invalid"}])
    async with open_runtime() as runtime:
        await runtime.create(birth)
        await runtime.call(birth.id, lambda generation: generation.record_dispatching(1, now()), version)
        refused = await runtime.call(
            birth.id,
            lambda generation: generation.record_dispatch(1, Refused(error, retryable=False), now()),
            version,
        )

        for marks in (ANSWERED, REFUSED):
            assert refused == await asyncio.wait_for(runtime.changed(birth.id, after=0, marks=marks), PATIENCE)


async def test_what_a_watcher_was_told_can_be_read(open_runtime: OpenRuntime) -> None:
    """Told means committed."""
    birth = a_birth(expected=20)
    async with open_runtime() as runtime:
        await runtime.create(birth)

        async def follow() -> int:
            seen = 0
            while seen < 21:
                seen = await runtime.changed(birth.id, after=seen)
                assert seen <= (await runtime.get_state(birth.id)).version
            return seen

        followers = [asyncio.ensure_future(asyncio.wait_for(follow(), PATIENCE)) for _ in range(10)]
        for number in range(20):
            await runtime.call(birth.id, deliver(f"{number}"), version)

        assert {21} == set(await asyncio.gather(*followers))


@pytest.mark.parametrize("step", [nothing, poisoned("bad")])
async def test_a_call_that_keeps_nothing_wakes_nobody(open_runtime: OpenRuntime, step: Step) -> None:
    """There is no news."""
    birth = a_birth()
    async with open_runtime() as runtime:
        await runtime.create(birth)
        first = await runtime.call(birth.id, nothing, version)
        watcher = watch(runtime, birth.id, first)
        await asyncio.sleep(0)
        await asyncio.gather(runtime.call(birth.id, step, version), return_exceptions=True)
        await asyncio.sleep(0)

        assert not watcher.done()
        assert first + 1 == await runtime.call(birth.id, deliver("good"), version)
        assert first + 1 == await watcher


async def test_a_watcher_that_goes_away_leaves_the_others_waiting(open_runtime: OpenRuntime) -> None:
    """Clients hang up all the time."""
    birth = a_birth()
    async with open_runtime() as runtime:
        await runtime.create(birth)
        first = await runtime.call(birth.id, nothing, version)
        watchers = [watch(runtime, birth.id, first) for _ in range(10)]
        await asyncio.sleep(0)
        for watcher in watchers[::2]:
            watcher.cancel()
        await asyncio.wait(watchers[::2])
        told = await runtime.call(birth.id, deliver("a"), version)

        assert [told] * 5 == await asyncio.gather(*watchers[1::2])


async def test_nobody_can_wait_for_what_does_not_exist(open_runtime: OpenRuntime) -> None:
    """An unknown id is said at once, not waited for."""
    async with open_runtime() as runtime:
        with pytest.raises(GenerationNotFound):
            await asyncio.wait_for(runtime.changed(a_birth().id, after=0), PATIENCE)


async def test_who_waits_when_the_runtime_stops_is_told_so(open_runtime: OpenRuntime) -> None:
    """An error of ours, and not a cancellation: nobody has cancelled the one who waits."""
    birth = a_birth()
    async with open_runtime() as runtime:
        await runtime.create(birth)
        watcher = watch(runtime, birth.id, 1_000)
        await asyncio.sleep(0)

    with pytest.raises(StateUnavailable):
        await watcher
