"""A dispatch whose outcome nobody knows: settled by asking, paid once."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from runware_provider.create import create_generation
from runware_provider.types import GenerationState
from tests.faults.staged import MovedClock, all_stored, balanced, everything_fired, for_prompts, idle, made_of, stored
from tests.service import JsonObject, Service, a_service, eventually, some_args, until

PATIENCE = timedelta(seconds=0.4)

UNKNOWN: dict[str, JsonObject] = {
    "broken connection": {"do": "break"},
    "broken connection in the answer": {"do": "break", "sent_bytes": 60},
    "no answer": {"do": "hang", "seconds": 0.2},
    "500": {"do": "status", "status": 500},
    "500 with Runware's own errors": {"do": "status", "status": 500, "body": "errors"},
    "502": {"do": "status", "status": 502, "body": "html"},
    "503 of a proxy": {"do": "status", "status": 503, "body": "html"},
    "504": {"do": "status", "status": 504, "body": "empty"},
    "200 that cannot be read": {"do": "status", "status": 200, "body": "not_json"},
    "200 that names nothing": {"do": "status", "status": 200, "body": "empty_data"},
}
"""By cause: the rule that leaves the outcome of a dispatch unknown."""

REFUSED: dict[str, JsonObject] = {
    "429": {"do": "status", "status": 429},
    "503 of Runware's": {"do": "status", "status": 503},
}
"""Runware did not take it and says so: it is sent again."""


@pytest.mark.parametrize("accept", [True, False], ids=["accepted", "not accepted"])
@pytest.mark.parametrize("delivery", ["webhook", "poll"])
async def test_an_unknown_outcome_is_paid_for_once(tmp_path: Path, accept: bool, delivery: str) -> None:
    """By each cause, whether Runware has the task or not, and with the caller's own retry on top."""
    cases = {name: [{**rule, "accept": accept, "first": 1}] for name, rule in UNKNOWN.items()}
    plan = for_prompts(cases, "dispatch")
    if delivery == "webhook":  # no sign of the task but what is asked for
        plan.append({"on": "webhook", "do": "drop"})
    clock = MovedClock()
    async with a_service(tmp_path, *plan, delivery=delivery, patience=PATIENCE, clock=clock) as service:
        keyed = [some_args(key=name, positivePrompt=f"<{name}>", numberResults=2) for name in cases]
        states = await asyncio.gather(*(create_generation(service.ctx, args) for args in keyed))
        again = await asyncio.gather(*(create_generation(service.ctx, args) for args in keyed))
        assert [state.id for state in states] == [state.id for state in again]
        await _settle(service, clock, states)
        done = await all_stored(service, states)

        everything_fired(service)
        for name, state in zip(cases, done, strict=True):
            balanced(service, f"dispatch of unknown outcome: {name}", [state])


async def _settle(service: Service, clock: MovedClock, states: list[GenerationState]) -> None:
    """Time passes until all dispatches are known to be accepted, then for missed deliveries to be asked for."""
    for state in states:
        await until(service.ctx, state.id, lambda state: state.dispatch == "accepted")
    clock.pass_time(service, timedelta(seconds=31))


async def test_a_task_that_still_runs_when_patience_ends_is_not_run_twice(tmp_path: Path) -> None:
    """Runware tells nothing of a running task that could be told from nothing at all; sent again it is a conflict."""
    plan = ({"on": "dispatch", "do": "break", "accept": True, "first": 1}, {"on": "task", "do": "slow", "seconds": 1.0})
    async with a_service(tmp_path, *plan, patience=timedelta(seconds=0.2)) as service:
        state = await stored(service, await service.create(numberResults=2), 2)

        assert service.simulator is not None
        assert service.simulator.ledger.totals.conflicts == 1
        balanced(service, "unknown outcome, the task still runs when it is sent again", [state])


@pytest.mark.parametrize("status", [500, 400])
async def test_while_nobody_answers_nothing_is_sent_again(tmp_path: Path, status: int) -> None:
    """Patience is not enough: both questions must have been answered, and an error of the question is no answer."""
    plan = (
        {"on": "dispatch", "do": "break", "accept": True, "first": 1},
        {"on": "webhook", "do": "drop"},
        {"on": "response", "do": "processing"},
        {"on": "details", "do": "status", "status": status, "code": "somethingElse"},
    )
    clock = MovedClock()
    async with a_service(tmp_path, *plan, patience=PATIENCE, clock=clock) as service:
        state = await service.create()
        assert service.simulator is not None
        for _ in range(3):
            asked = service.simulator.faults.fired[3]
            clock.pass_time(service, timedelta(seconds=60))
            await eventually(lambda asked=asked: service.simulator.faults.fired[3] > asked)  # type: ignore[misc]
        assert (await service.ctx.runtime.get_state(state.id)).dispatch == "unknown"
        assert service.simulator.ledger.totals.dispatches == 1
        service.stage()
        clock.pass_time(service, timedelta(seconds=60))

        balanced(service, "unknown outcome, and no answer to the questions", [await stored(service, state, 1)])


async def test_before_patience_ends_nothing_is_sent_again(tmp_path: Path) -> None:
    """Asked at once by hand, Runware knows nothing yet of a task that it has: that is no reason to pay again."""
    plan = (
        {"on": "dispatch", "do": "break", "accept": True, "first": 1},
        {"on": "webhook", "do": "drop"},
        {"on": "response", "do": "processing"},
        {"on": "details", "do": "unknown"},
    )
    async with a_service(tmp_path, *plan, patience=timedelta(hours=1)) as service:
        state = await service.create()
        answer = await service.post("/v1/reconcile", json={})
        assert (answer.json["asked"], answer.json["answered"]) == (1, 1)
        await idle(service)
        assert (await service.ctx.runtime.get_state(state.id)).dispatch == "unknown"
        assert service.simulator is not None
        assert service.simulator.ledger.totals.dispatches == 1
        service.stage()
        await service.post("/v1/reconcile", json={})

        balanced(service, "unknown outcome, asked about before patience ends", [await stored(service, state, 1)])


async def test_what_runware_refused_for_now_is_sent_again(tmp_path: Path) -> None:
    """It did not take the task, so nothing need be found out."""
    cases = {name: [{**rule, "first": 2}] for name, rule in REFUSED.items()}
    clock = MovedClock()
    async with a_service(tmp_path, *for_prompts(cases, "dispatch"), clock=clock) as service:
        creating = asyncio.create_task(made_of(service, cases, 1))
        assert service.simulator is not None
        for times in (1, 2):
            await eventually(lambda times=times: service.simulator.faults.fired == [times] * 2)  # type: ignore[misc]
            await eventually(lambda: _all_queued(service))
            clock.pass_time(service, timedelta(minutes=1))
        states = await creating

        done = await all_stored(service, states.values())
        for name, state in zip(cases, done, strict=True):
            balanced(service, f"dispatch refused for now: {name}", [state])


async def _all_queued(service: Service) -> bool:
    states = [await service.ctx.runtime.get_state(each) for each in await service.ctx.runtime.ids()]
    return all(state.dispatch == "queued" for state in states)
