"""Calls and creation: durable, atomic, in order, isolated, never early."""

import asyncio
import random
from dataclasses import replace
from uuid import uuid4

import pytest

from runware_provider.durable import Created, GenerationRuntime, Step
from runware_provider.errors import GenerationNotFound, IdempotencyConflict, WebhookError
from runware_provider.generation import Generation
from runware_provider.types import Delivery, ErrorOutput, Failure, Order, SuccessOutput
from tests.conformance.builders import (
    a_birth,
    a_delivery,
    accept,
    all_ids,
    confirm_all,
    deliver,
    images,
    make,
    nothing,
    now,
    tasks_match_state,
    version,
)
from tests.conformance.engines import OpenRuntime


class Poison(Exception):
    """Raised by a step."""


def poisoned(image: str, error: Exception | None = None) -> Step:
    """A step that changes the register and then raises."""

    def step(generation: Generation) -> list[Order]:
        generation.record_webhook(a_delivery(image), now())
        raise error or Poison(image)

    return step


def fail(image: str) -> Step:
    """The step of a webhook that says that one image failed."""
    failure = Failure(None, image, "nsfw", {"code": "nsfw", "imageUUID": image})
    return lambda generation: generation.record_webhook(Delivery((failure,)), now())


async def known(runtime: GenerationRuntime, birth_id: object) -> list[str]:
    """The images that a later call finds."""
    return await runtime.call(birth_id, nothing, images)  # type: ignore[arg-type]


# Creation


async def test_what_was_created_is_there_after_a_restart(open_runtime: OpenRuntime) -> None:
    """State before money: once `create` has returned, the request can be dispatched by anybody."""
    birth = a_birth(expected=3, prompt="a \U0001f600 smile and \x00")
    async with open_runtime() as runtime:
        assert Created(birth.id, created=True) == await runtime.create(birth)
        before = await runtime.get_state(birth.id)
    async with open_runtime() as runtime:
        assert before == await runtime.get_state(birth.id)
        assert birth.request == await runtime.get_request(birth.id)
        assert before.counts.expected == 3


async def test_the_same_key_and_input_make_one_generation(open_runtime: OpenRuntime) -> None:
    """A client that repeats its request, also after our restart, does not pay twice."""
    first, second, third = (a_birth(key=("key", "digest")) for _ in range(3))
    async with open_runtime() as runtime:
        await runtime.create(first)

        assert Created(first.id, created=False) == await runtime.create(second)
    async with open_runtime() as runtime:
        assert Created(first.id, created=False) == await runtime.create(third)
        assert [first.id] == await all_ids(runtime)
        await tasks_match_state(runtime)


async def test_the_same_key_at_the_same_time_makes_one_generation(open_runtime: OpenRuntime) -> None:
    """Two repeats in flight meet in one commit: only one of them creates, both learn the same id."""
    async with open_runtime() as runtime:
        created = await asyncio.gather(*(runtime.create(a_birth(key=("key", "digest"))) for _ in range(20)))

        assert sum(each.created for each in created) == 1
        assert {each.id for each in created} == set(await all_ids(runtime))
        assert (await runtime.stats()).running == 1
        await tasks_match_state(runtime)


async def test_a_key_with_another_input_is_a_conflict(open_runtime: OpenRuntime) -> None:
    """Answering with a generation that was made from something else would be a lie."""
    async with open_runtime() as runtime:
        await runtime.create(a_birth(key=("key", "digest")))

        with pytest.raises(IdempotencyConflict):
            await runtime.create(a_birth(key=("key", "other digest")))
        assert len(await all_ids(runtime)) == 1


async def test_a_conflict_harms_nobody_who_shares_its_commit(open_runtime: OpenRuntime) -> None:
    """One client's mistake must not fail the requests of the others."""
    births = [a_birth(key=("shared", f"digest {number}") if number % 10 == 5 else None) for number in range(50)]
    async with open_runtime() as runtime:
        outcomes = await asyncio.gather(*(runtime.create(birth) for birth in births), return_exceptions=True)

        refused = [number for number, outcome in enumerate(outcomes) if isinstance(outcome, IdempotencyConflict)]
        assert refused == [15, 25, 35, 45]
        assert sorted(each.id for number, each in enumerate(births) if number not in refused) == await all_ids(runtime)
        assert (await runtime.stats()).running == 46
        await tasks_match_state(runtime)


async def test_creating_the_same_birth_again_changes_nothing(open_runtime: OpenRuntime) -> None:
    """`StateUnavailable` says "call again": when the first call was kept after all, the second must find it."""
    birth = a_birth()
    async with open_runtime() as runtime:
        await runtime.create(birth)
        await runtime.call(birth.id, deliver("a"), version)

        assert Created(birth.id, created=False) == await runtime.create(birth)
        assert await known(runtime, birth.id) == ["a"]
        await tasks_match_state(runtime)


# Order


async def test_steps_on_one_generation_run_in_order_of_arrival(open_runtime: OpenRuntime) -> None:
    """Each step sees what the one before it left."""
    birth = a_birth(expected=40)
    async with open_runtime() as runtime:
        await runtime.create(birth)
        versions = await asyncio.gather(*(runtime.call(birth.id, deliver(f"{n}"), version) for n in range(40)))

        assert list(range(versions[0], versions[0] + 40)) == versions
        assert [str(n) for n in range(40)] == await known(runtime, birth.id)


async def test_a_reply_reads_what_its_own_step_left(open_runtime: OpenRuntime) -> None:
    """Not what a later step in the same commit made of it."""
    birth = a_birth(expected=3)
    async with open_runtime() as runtime:
        await runtime.create(birth)
        seen = await asyncio.gather(*(runtime.call(birth.id, deliver(image), images) for image in "abc"))

        assert seen == [["a"], ["a", "b"], ["a", "b", "c"]]


async def test_a_call_may_follow_its_creation_at_once(open_runtime: OpenRuntime) -> None:
    """Even in the same commit."""
    birth = a_birth()
    async with open_runtime() as runtime:
        _, seen = await asyncio.gather(runtime.create(birth), runtime.call(birth.id, deliver("a"), images))

        assert seen == ["a"]
        await tasks_match_state(runtime)


async def test_what_returned_can_be_read(open_runtime: OpenRuntime) -> None:
    """Nobody who was told of a version reads an older one."""
    birth = a_birth(expected=30)
    async with open_runtime() as runtime:
        await runtime.create(birth)
        for number in range(30):
            told = await runtime.call(birth.id, deliver(f"{number}"), version)

            assert told == (await runtime.get_state(birth.id)).version


# Isolation


@pytest.mark.parametrize("position", [0, 50, 99])
async def test_a_step_that_raises_harms_none_of_the_hundred_beside_it(open_runtime: OpenRuntime, position: int) -> None:
    """One poisoned call keeps nothing of itself, its exception comes to its caller, the other 99 are kept."""
    async with open_runtime() as runtime:
        ids = await make(runtime, (a_birth() for _ in range(100)))
        steps = [poisoned("bad") if number == position else deliver("good") for number in range(100)]
        outcomes = await asyncio.gather(
            *(runtime.call(each, step, images) for each, step in zip(ids, steps, strict=True)), return_exceptions=True
        )

        assert isinstance(outcomes.pop(position), Poison)
        assert outcomes == [["good"]] * 99
        assert await known(runtime, ids[position]) == []
        assert (await runtime.stats()).tasks["StoreOutput"] == 99
        await tasks_match_state(runtime)
    async with open_runtime() as runtime:
        assert await known(runtime, ids[position]) == []
        await tasks_match_state(runtime)


@pytest.mark.parametrize("error", [Poison(), GenerationNotFound("it is deleted"), IdempotencyConflict("by a step")])
async def test_a_step_that_changed_something_and_raised_leaves_no_trace(
    open_runtime: OpenRuntime, error: Exception
) -> None:
    """Neither in a read, nor in what a later step on the same generation finds, whatever it raised."""
    birth = a_birth(expected=2)
    async with open_runtime() as runtime:
        await runtime.create(birth)
        before = await runtime.get_state(birth.id)
        with pytest.raises(type(error)):
            await runtime.call(birth.id, poisoned("bad", error), version)

        assert before == await runtime.get_state(birth.id)
        assert await known(runtime, birth.id) == []
        assert before.version + 1 == await runtime.call(birth.id, deliver("good"), version)
        assert await known(runtime, birth.id) == ["good"]
        await tasks_match_state(runtime)


async def test_a_look_and_a_state_show_what_is_committed(open_runtime: OpenRuntime) -> None:
    """The same to both, whether it was touched lately or is read from the file."""
    birth = a_birth(expected=2)
    async with open_runtime() as runtime:
        await runtime.create(birth)
        await runtime.call(birth.id, deliver("a"), version)
        fresh = await runtime.look(birth.id, images), await runtime.get_state(birth.id)
    async with open_runtime() as runtime:
        assert fresh == (await runtime.look(birth.id, images), await runtime.get_state(birth.id))
        assert fresh[0] == ["a"]


async def test_who_changes_what_he_read_changes_nothing_that_is_kept(open_runtime: OpenRuntime) -> None:
    """A state is its reader's own: neither the next reader nor the file sees what he does with it."""
    birth = a_birth(expected=2)
    async with open_runtime() as runtime:
        await runtime.create(birth)
        await runtime.call(birth.id, deliver("a"), version)
        await runtime.call(birth.id, confirm_all, version)
        await runtime.call(birth.id, fail("content"), version)
        before, again = await runtime.get_state(birth.id), await runtime.get_state(birth.id)
        stored, failed = again.outputs
        assert isinstance(stored, SuccessOutput)
        assert isinstance(failed, ErrorOutput)
        assert isinstance(failed.error, WebhookError)
        stored.item["cost"] = 1_000_000
        failed.raw["code"] = "mine"
        failed.error.errors[0]["code"] = "mine"
        again.input["positivePrompt"] = again.metadata["mine"] = "mine"
        again.timeline.clear()

        assert before == await runtime.get_state(birth.id)
        await runtime.call(birth.id, accept, version)
        assert before.outputs == (await runtime.get_state(birth.id)).outputs


@pytest.mark.parametrize("error", [Poison(), GenerationNotFound("it is deleted")])
async def test_a_poisoned_step_between_two_good_ones_on_one_generation(
    open_runtime: OpenRuntime, error: Exception
) -> None:
    """The good ones keep their order and their own results only."""
    birth = a_birth(expected=3)
    async with open_runtime() as runtime:
        await runtime.create(birth)
        outcomes = await asyncio.gather(
            runtime.call(birth.id, deliver("a"), images),
            runtime.call(birth.id, poisoned("bad", error), images),
            runtime.call(birth.id, deliver("c"), images),
            return_exceptions=True,
        )

        assert [outcomes[0], outcomes[2]] == [["a"], ["a", "c"]]
        assert isinstance(outcomes[1], type(error))
        await tasks_match_state(runtime)


@pytest.mark.parametrize("error", [Poison(), GenerationNotFound("said by a reply")])
async def test_a_reply_that_raises_keeps_nothing(open_runtime: OpenRuntime, error: Exception) -> None:
    """Its caller cannot know what was kept, so nothing is."""
    birth = a_birth()

    def reply(_: Generation) -> int:
        raise error

    async with open_runtime() as runtime:
        await runtime.create(birth)
        with pytest.raises(type(error)):
            await runtime.call(birth.id, deliver("a"), reply)

        assert await known(runtime, birth.id) == []
        await tasks_match_state(runtime)


async def test_nothing_can_be_asked_of_an_unknown_generation(open_runtime: OpenRuntime) -> None:
    """404 for an unknown id, never "done"; and those who asked at the same time for a known one are served."""
    unknown = uuid4()
    birth = a_birth()
    async with open_runtime() as runtime:
        await runtime.create(birth)
        outcomes = await asyncio.gather(
            runtime.call(birth.id, deliver("a"), images),
            runtime.call(unknown, deliver("a"), images),
            runtime.get_state(unknown),
            runtime.get_request(unknown),
            runtime.look(unknown, version),
            runtime.changed(unknown, after=0),
            return_exceptions=True,
        )

        assert outcomes[0] == ["a"]
        assert [GenerationNotFound] * 5 == [type(outcome) for outcome in outcomes[1:]]


# Cancellation


@pytest.mark.parametrize("turns", range(6))
async def test_a_cancelled_callers_step_is_kept_whole_or_not_at_all(open_runtime: OpenRuntime, turns: int) -> None:
    """A client may hang up at any moment: the state and the tasks still agree, and the others are served."""
    async with open_runtime() as runtime:
        ids = await make(runtime, (a_birth() for _ in range(10)))
        calls = [asyncio.ensure_future(runtime.call(each, deliver("a"), images)) for each in ids]
        for _ in range(turns):
            await asyncio.sleep(0)
        calls[3].cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

        assert [outcome for number, outcome in enumerate(outcomes) if number != 3] == [["a"]] * 9
        assert await known(runtime, ids[3]) in ([], ["a"])
        await tasks_match_state(runtime)


async def test_a_cancelled_creation_is_whole_or_not_at_all(open_runtime: OpenRuntime) -> None:
    """And its key leads to it when it was kept."""
    async with open_runtime() as runtime:
        births = [a_birth(key=(f"key {number}", "digest")) for number in range(8)]
        for turns, birth in enumerate(births):
            creation = asyncio.ensure_future(runtime.create(birth))
            for _ in range(turns):
                await asyncio.sleep(0)
            creation.cancel()
        for birth in births:
            again = await runtime.create(replace(birth, id=a_birth().id))

            assert again.created == (again.id != birth.id)
        assert len(await all_ids(runtime)) == 8
        await tasks_match_state(runtime)


# All at once


@pytest.mark.parametrize("seed", range(4))
async def test_any_mixture_of_calls_adds_up(open_runtime: OpenRuntime, seed: int) -> None:
    """Good, poisoned, empty and cancelled calls over a few generations: what was promised is there, in order."""
    chance = random.Random(seed)
    births = [a_birth(expected=40) for _ in range(6)]
    kept: dict[object, list[str]] = {birth.id: [] for birth in births}
    perhaps: set[str] = set()
    async with open_runtime() as runtime:
        await asyncio.gather(*(runtime.create(birth) for birth in births))
        calls: list[asyncio.Future[int]] = []
        for number in range(200):
            birth = chance.choice(births)
            image = f"{number}"
            what = chance.choice(["good"] * 6 + ["poison", "nothing", "cancelled"])
            step = {"poison": poisoned(image), "nothing": nothing}.get(what, deliver(image))
            call = asyncio.ensure_future(runtime.call(birth.id, step, version))
            calls.append(call)
            if what in {"good", "cancelled"}:
                kept[birth.id].append(image)
            if what == "cancelled":
                perhaps.add(image)
                asyncio.get_running_loop().call_soon(call.cancel)
            if chance.random() < 0.2:
                await asyncio.sleep(0)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

        assert {int, Poison, asyncio.CancelledError} >= {type(outcome) for outcome in outcomes}
        for birth in births:
            found = await known(runtime, birth.id)
            assert [image for image in kept[birth.id] if image in found or image not in perhaps] == found
            assert (await runtime.get_state(birth.id)).version == await runtime.call(birth.id, nothing, version)
        await tasks_match_state(runtime)


async def test_a_call_that_changes_nothing_still_replies(open_runtime: OpenRuntime) -> None:
    """And leaves the version alone."""
    birth = a_birth()
    async with open_runtime() as runtime:
        await runtime.create(birth)
        await runtime.call(birth.id, accept, version)
        before = await runtime.get_state(birth.id)

        assert before.version == await runtime.call(birth.id, nothing, version)
        assert before.version == await runtime.call(birth.id, accept, version)
        assert before == await runtime.get_state(birth.id)
