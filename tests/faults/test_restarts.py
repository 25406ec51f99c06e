"""What a start finds after a long absence: deadlines that passed, and hundreds of generations to ask about."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from runware_provider.runware import ASK_BATCH, RunwareClient
from runware_provider.simulator import Simulator
from runware_provider.types import GenerationState, JsonObject
from tests.faults.staged import MovedClock, all_stored, balanced
from tests.service import Service, a_service, a_simulator, born, eventually, until

OPEN = 300


@asynccontextmanager
async def using(simulator: Simulator, tmp_path: Path, **settings: Any) -> AsyncIterator[Service]:
    """A service that uses a simulator which outlives it."""
    async with a_service(tmp_path, runware_url=simulator.url, **settings) as service:
        service.simulator = simulator
        yield service


async def test_a_deadline_that_passed_while_the_service_was_down_is_no_verdict(tmp_path: Path) -> None:
    """Runware finished meanwhile and its webhooks found nobody: a start asks before it tells anybody of a timeout."""
    clock = MovedClock()
    async with a_simulator({"on": "webhook", "do": "drop"}) as simulator:
        async with using(simulator, tmp_path, clock=clock) as service:
            states = [await service.create(numberResults=2) for _ in range(3)]
        clock.ahead += timedelta(hours=5)
        async with using(simulator, tmp_path, clock=clock) as service:
            done = await all_stored(service, states)

            balanced(service, "deadline passed while the service was down", done)
            assert {entry.event for state in done for entry in state.timeline} & {"timeout"} == set()


async def test_a_task_that_never_ended_times_out_at_the_next_start(tmp_path: Path) -> None:
    """The verdict comes late, once Runware has been asked, and not never."""
    clock = MovedClock()
    async with a_simulator({"on": "task", "do": "stuck"}) as simulator:
        async with using(simulator, tmp_path, clock=clock) as service:
            state = await service.create()
        clock.ahead += timedelta(hours=5)
        async with using(simulator, tmp_path, clock=clock) as service:
            told = await until(service.ctx, state.id, lambda state: state.settled)

            assert (told.status, told.error and told.error.code) == ("failed", "timeout")
            assert service.billed(told) == 1


async def test_what_was_not_sent_before_its_deadline_is_not_sent_after_it(tmp_path: Path) -> None:
    """Nobody waits for it any more: no money is spent on it, and it says so."""
    clock = MovedClock()
    async with a_simulator() as simulator:
        async with using(simulator, tmp_path, clock=clock, work=False) as service:
            state = await born(service.ctx)
        clock.ahead += timedelta(hours=5)
        async with using(simulator, tmp_path, clock=clock) as service:
            told = await until(service.ctx, state.id, lambda state: state.settled)

            assert (told.dispatch, told.error and told.error.code) == ("refused", "network_error")
            assert simulator.ledger.totals.dispatches == 0


async def test_a_start_that_finds_300_open_generations_asks_in_bodies_of_50(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not 300 requests, and not one of 300: all their images come, and nobody asks in a loop."""
    bodies: list[list[JsonObject]] = []
    post = RunwareClient._post

    async def counted(self: RunwareClient, tasks: list[JsonObject]) -> Any:
        bodies.append(tasks)
        return await post(self, tasks)

    clock = MovedClock()
    async with a_simulator({"on": "webhook", "do": "drop"}, image_bytes=40_000) as simulator:
        async with using(simulator, tmp_path, clock=clock) as service:
            states: list[GenerationState] = []
            for _ in range(OPEN // 50):
                states += await asyncio.gather(*(service.create() for _ in range(50)))
            await eventually(lambda: simulator.ledger.totals.running == 0)
        monkeypatch.setattr(RunwareClient, "_post", counted)
        clock.ahead += timedelta(minutes=5)
        async with using(simulator, tmp_path, clock=clock) as service:
            done = await all_stored(service, states)

            questions = [body for body in bodies if body[0]["taskType"] == "getResponse"]
            assert max(map(len, questions)) <= ASK_BATCH
            assert sum(map(len, questions)) == OPEN
            assert len(questions) <= 2 * OPEN // ASK_BATCH
            assert simulator.ledger.totals.dispatches == OPEN
            balanced(service, "start with 300 open generations", done)
