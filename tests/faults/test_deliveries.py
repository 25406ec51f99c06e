"""Webhooks as they come on a bad day: whatever becomes of them, each image is kept once and paid for once."""

import asyncio
import re
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from runware_provider.reconcile import ReconcileArgs, reconcile
from runware_provider.types import GenerationState
from tests.faults.staged import MovedClock, all_stored, balanced, everything_fired, for_prompts, made_of, stored
from tests.service import JsonObject, Service, a_service, error_codes, eventually, images, until

MALFORMED = ("not_json", "empty", "not_utf8", "cut", "new_shape", "null", "number", "deep")
POISON = ("nul", "lone_surrogate", "nan", "infinity", "huge_number", "deep")

DELIVERIES: dict[str, list[JsonObject]] = {
    "lost": [{"do": "drop"}],
    "first one lost": [{"do": "drop", "first": 1}],
    "late": [{"do": "delay", "seconds": 0.4}],
    "doubled": [{"do": "duplicate", "times": 3}],
    "doubled and late": [{"do": "duplicate", "times": 2, "seconds": 0.2}],
    "reordered": [{"do": "reorder"}],
    "before the answer to the dispatch": [{"on": "dispatch", "do": "webhook_first"}],
    "with all results in one": [{"do": "shape", "shape": "batch"}],
    "flat": [{"do": "shape", "shape": "flat", "status": True}],
    "with `processing` first": [{"do": "processing", "times": 3}],
    "without imageURL, then with it": [{"do": "without_url", "later": 0.2}],
    "beside an item of a foreign task": [{"do": "foreign", "also": True}],
    "with a foreign taskUUID": [{"do": "foreign"}],
    **{f"after a body that is {kind}": [{"do": "malformed", "kind": kind, "also": True}] for kind in MALFORMED},
    **{f"replaced by a body that is {kind}": [{"do": "malformed", "kind": kind}] for kind in MALFORMED},
    **{f"poisoned with {kind}": [{"do": "poison", "kind": kind}] for kind in POISON},
}
"""By what happens to a webhook: the rules that stage it."""


async def test_no_fault_of_a_webhook_loses_or_doubles_an_image(tmp_path: Path) -> None:
    """What is not delivered is asked for; what is delivered again, or in another shape, is the same result."""
    clock = MovedClock()
    async with a_service(tmp_path, *for_prompts(DELIVERIES, "webhook"), clock=clock) as service:
        states = await made_of(service, DELIVERIES, 3)
        assert service.simulator is not None
        totals = service.simulator.ledger.totals
        await eventually(lambda: totals.running == 0 and totals.webhooks_pending == 0)
        clock.pass_time(service, timedelta(seconds=31))
        done = await all_stored(service, states.values())

        everything_fired(service)
        for name, state in zip(states, done, strict=True):
            balanced(service, f"webhook {_in_short(name)}", [state])
            assert state.status == "completed", name
            assert state.error is None, name


def _in_short(name: str) -> str:
    """One row of the table for all bodies of no use, and one for all poison."""
    return re.sub(
        r"(a body) that is \w+|(poisoned) with \w+", lambda match: (match[1] and "a body of no use") or match[2], name
    )


async def test_webhooks_need_no_help_unless_they_are_lost(tmp_path: Path) -> None:
    """A repeat, another order or another shape costs no question and no wait.

    A result without its address does: it was paid for, and Runware may know the address when nobody delivers it.
    """
    heard = {
        name: rules
        for name, rules in DELIVERIES.items()
        if name
        not in {
            "without imageURL, then with it",
            "lost",
            "first one lost",
            "with a foreign taskUUID",
            "poisoned with deep",
        }
        and "a body that is" not in name
    }
    async with a_service(tmp_path, *for_prompts(heard, "webhook")) as service:
        states = await all_stored(service, (await made_of(service, heard, 2)).values())

        assert {state.counts.stored for state in states} == {2}
        assert service.simulator is not None
        assert service.simulator.ledger.totals.responses == 0


async def test_a_body_of_no_use_makes_us_ask_at_once(tmp_path: Path) -> None:
    """It may have been the result: without waiting for an alarm it is fetched, and the body stays visible."""
    async with a_service(tmp_path, {"on": "webhook", "do": "malformed", "kind": "new_shape"}) as service:
        state = await stored(service, await service.create(), 1)

        assert error_codes(state) == ["validation"]
        assert state.counts.stored == state.counts.expected
        balanced(service, "webhook of a new shape, and no other", [state])


async def test_more_results_than_asked_for_are_kept(tmp_path: Path) -> None:
    """They were made and perhaps paid for; none pushes another out."""
    async with a_service(tmp_path, {"on": "task", "do": "more", "extra": 2}) as service:
        state = await stored(service, await service.create(numberResults=2), 4)

        balanced(service, "more results than asked for", [state], extra=2)


SILENT: tuple[JsonObject, ...] = (
    {"on": "webhook", "do": "drop"},
    {"on": "response", "do": "processing"},
    {"on": "details", "do": "unknown"},
)
"""Nothing is to be had of any task, neither delivered nor asked for, and yet Runware answers."""


async def test_a_webhook_after_the_timeout_heals_it(tmp_path: Path) -> None:
    """`timeout` is what the client is told, not the end of our trying."""
    clock = MovedClock()
    async with a_service(tmp_path, *SILENT, clock=clock) as service:
        state = await service.create(numberResults=2)
        clock.pass_time(service, timedelta(minutes=16))
        told = await until(service.ctx, state.id, lambda state: state.settled)
        assert service.simulator is not None
        entry = service.simulator.ledger.entry(str(state.task_uuid))
        assert entry is not None
        for result in entry.results:
            item = {"taskUUID": str(state.task_uuid), "imageUUID": result.image_uuid, "imageURL": result.url}
            assert (await service.deliver(state.id, {"data": [item]})).status == 200
        healed = await stored(service, state, 2)

        assert (told.status, told.error and told.error.code) == ("failed", "timeout")
        assert (healed.status, healed.error) == ("completed", None)
        balanced(service, "webhook after the timeout", [healed])


async def test_runware_is_asked_again_hours_after_the_timeout(tmp_path: Path) -> None:
    """At 1 h, 6 h and 24 h: a result that finishes late and whose webhook is lost is found."""
    clock = MovedClock()
    for hours in (1, 6, 24):
        async with a_service(tmp_path / str(hours), *SILENT, clock=clock, delivery="webhook") as service:
            state = await service.create()
            clock.pass_time(service, timedelta(minutes=16))
            await until(service.ctx, state.id, lambda state: state.settled)
            for earlier in (each for each in (1, 6) if each < hours):
                clock.pass_time(service, timedelta(hours=earlier))
                await _asked(service)
            service.stage()
            clock.pass_time(service, timedelta(hours=hours))

            balanced(service, "result found 1, 6 or 24 h after the timeout", [await stored(service, state, 1)])


async def _asked(service: Service) -> None:
    assert service.simulator is not None
    totals = service.simulator.ledger.totals
    before = totals.responses
    await eventually(lambda: totals.responses > before)


async def test_an_answer_that_cannot_be_read_is_no_verdict(tmp_path: Path) -> None:
    """`timeout` needs an answer; while Runware says nothing of use, the generation stays open and is asked about."""
    clock = MovedClock()
    cases: dict[str, list[JsonObject]] = {
        "500": [{"do": "status", "status": 500}],
        "broken": [{"do": "break"}],
        "not JSON": [{"do": "malformed"}],
    }
    async with a_service(tmp_path, {"on": "webhook", "do": "drop"}, clock=clock) as service:
        states = {}
        for name, [rule] in cases.items():
            service.stage({"on": "webhook", "do": "drop"}, {"on": "response", **rule})
            states[name] = await service.create()
            clock.pass_time(service, timedelta(minutes=16))
            await _asked_in_vain(service)
            assert (await service.ctx.runtime.get_state(states[name].id)).status == "running", name
        service.stage()
        clock.pass_time(service, timedelta(minutes=2))
        done = await all_stored(service, states.values())

        balanced(service, "no answer to be read at the deadline", done)


async def _asked_in_vain(service: Service) -> None:
    assert service.simulator is not None
    faults = service.simulator.faults
    await eventually(lambda: faults.fired[1] > 0)
    await asyncio.sleep(0.05)  # what it led to, if anything


async def test_one_error_for_the_task_is_the_same_by_webhook_and_by_question(tmp_path: Path) -> None:
    """Both accounts, in either order, are one failure; every empty slot shows it, and nothing waits."""
    clock = MovedClock()
    plan: tuple[JsonObject, ...] = (
        {"on": "task", "do": "error"},
        {"on": "webhook", "do": "drop", "prompt": "<asked>"},
    )
    async with a_service(tmp_path, *plan, clock=clock) as service:
        told = await service.settled((await service.create(positivePrompt="<told>", numberResults=2)).id)
        asked = await service.create(positivePrompt="<asked>", numberResults=2)
        clock.pass_time(service, timedelta(seconds=31))
        asked = await service.settled(asked.id)
        await reconcile(service.ctx, ReconcileArgs(generation_id=told.id))
        assert service.simulator is not None
        await service.deliver(asked.id, {"errors": [_the_error(asked)]})
        told_twice, asked_twice = await service.settled(told.id), await service.settled(asked.id)

        assert set(error_codes(told)) == {"webhook_error"}
        assert error_codes(told) == error_codes(asked) == error_codes(told_twice) == error_codes(asked_twice)
        assert (told.status, asked.status) == ("failed", "failed")
        assert told.counts == asked.counts == told_twice.counts == asked_twice.counts
        assert told.counts.failed == 2
        assert [service.billed(each) for each in (told, asked)] == [1, 1]


def _the_error(state: GenerationState) -> JsonObject:
    """The error as Runware's webhook has it."""
    [first, *_] = [output for output in state.outputs if output.type == "error"]
    assert first.error.code == "webhook_error"
    return dict(first.error.errors[0])


async def test_what_belongs_to_nobody_is_kept_and_harms_nobody(tmp_path: Path) -> None:
    """An id that is unknown (state from a backup, say) is answered 200 and can be looked at."""
    async with a_service(tmp_path) as service:
        state = await service.made()
        stranger = uuid4()
        item = {"taskUUID": str(stranger), "imageUUID": str(uuid4()), "imageURL": "http://127.0.0.1/x.jpg"}
        answers = [await service.deliver(stranger, {"data": [item]}) for _ in range(2)]

        assert [answer.status for answer in answers] == [200, 200]
        assert (await service.ctx.runtime.stats()).unclaimed == 1
        balanced(service, "webhook for an unknown id", [await service.ctx.runtime.get_state(state.id)])


async def test_a_result_whose_imageurl_never_comes_is_fetched_by_retry(tmp_path: Path) -> None:
    """The webhook had no address and no other came, but Runware knows one."""
    async with a_service(tmp_path, {"on": "webhook", "do": "without_url"}) as service:
        state = await until(service.ctx, (await service.create()).id, lambda state: state.completed_at is not None)
        if not images(state):
            await service.post(f"/v1/generations/{state.id}/retry")

        balanced(
            service, "webhook without imageURL for good, until somebody retries", [await stored(service, state, 1)]
        )
