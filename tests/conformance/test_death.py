"""Real processes, killed with `kill -9` in the middle of their work."""

import asyncio
import json
import os
import random
import signal
import sys
from collections import defaultdict
from pathlib import Path
from uuid import UUID

import pytest

from runware_provider.durable import MAX_ATTEMPTS, Assignment, Created, GenerationRuntime
from runware_provider.generation import Generation
from runware_provider.types import Dispatch, Project
from tests.conformance.builders import (
    PATIENCE,
    a_birth,
    all_ids,
    deliver,
    eventually,
    idle,
    images,
    make,
    nothing,
    tasks_match_state,
    version,
)
from tests.conformance.engines import OpenRuntime
from tests.conformance.workers import Scribe, slots

ROOT = Path(__file__).parents[2]


async def a_process(*args: object) -> asyncio.subprocess.Process:
    """`process.py`, which tells on its stdout what was committed."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.conformance.process", *map(str, args)),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        stdout=asyncio.subprocess.PIPE,
    )


async def facts(process: asyncio.subprocess.Process, begun: asyncio.Event | None = None) -> list[list[str]]:
    """All that it tells, to its end. `begun` is set at the first: the state is open, the crowd is served."""
    assert process.stdout is not None
    told: list[list[str]] = []
    async with asyncio.timeout(30):
        async for line in process.stdout:
            told.append(json.loads(line))
            if begun is not None:
                begun.set()
        await process.wait()
    return told


def stored(generation: Generation) -> set[str]:
    """A reply: the outputs that are stored."""
    return {str(each) for each, record in generation.register.outputs.items() if record.status == "success"}


async def holds(runtime: GenerationRuntime, told: list[list[str]]) -> None:
    """Assert that everything that a dead process told is true."""
    by_id: defaultdict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for what, generation_id, *more in told:
        by_id[generation_id][what] |= set(more)
    for generation_id, known in by_id.items():
        each = UUID(generation_id)
        assert known["delivered"] <= set(await runtime.call(each, nothing, images))
        assert known["stored"] <= await runtime.call(each, nothing, stored)
        for key in known["created"]:
            assert Created(each, created=False) == await runtime.create(a_birth(key=(key, "digest")))
        if "settled" in known:
            assert (await runtime.get_state(each)).settled


async def test_what_was_acknowledged_survives_kill_9(open_runtime: OpenRuntime, address: str) -> None:
    """At random moments, again and again: every fact that a call returned is there, and there is exactly one task
    for everything that some register still waits for. Then all of it is brought to its end."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    print("seed", seed)
    told: list[list[str]] = []
    for _ in range(5):
        process = await a_process("crowd", address)
        begun = asyncio.Event()
        telling = asyncio.ensure_future(facts(process, begun))
        await asyncio.wait_for(begun.wait(), 2 * PATIENCE)
        await asyncio.sleep(chance.uniform(0.0, 0.6))
        process.send_signal(signal.SIGKILL)
        told += await telling

        assert process.returncode == -signal.SIGKILL
        async with open_runtime() as runtime:
            await holds(runtime, told)
            await tasks_match_state(runtime)
    assert {"created", "delivered", "stored", "settled"} == {fact[0] for fact in told}

    async with open_runtime() as runtime:

        async def act(assignment: Assignment) -> None:
            await worker.do(assignment)
            if isinstance(assignment.task, Dispatch):
                await runtime.call(assignment.generation_id, deliver("a", "b"), version)

        worker = Scribe(runtime, act)
        runtime.start(worker, slots=slots(8))
        await asyncio.gather(*(runtime.call(each, deliver("a", "b"), version) for each in await all_ids(runtime)))
        await eventually(lambda: idle(runtime), within=20)
        states = [await runtime.get_state(each) for each in await all_ids(runtime)]

        assert {("completed", 2, True)} == {(each.status, each.counts.stored, each.settled) for each in states}
        assert (await runtime.stats()).parked == 0
        assert (await runtime.stats()).running == 0


async def test_a_task_that_kills_its_process_is_parked(open_runtime: OpenRuntime, address: str) -> None:
    """After five starts that it has brought down, and the innocent tasks beside it are done all the same."""
    births = [a_birth() for _ in range(12)]
    victim = births[4]
    async with open_runtime() as runtime:
        await make(runtime, births)
    deaths: list[list[str]] = []
    for _ in range(MAX_ATTEMPTS + 3):
        process = await a_process("deadly", address, victim.id)
        deaths += await facts(process)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL

    assert [["dies", str(attempts)] for attempts in range(MAX_ATTEMPTS)] == deaths
    async with open_runtime() as runtime:
        [parked] = await runtime.parked()
        assert (victim.id, "Project") == (parked.generation_id, parked.task)
        assert not any((await runtime.stats()).tasks.values())
        projected = {birth.id for birth in births if (await runtime.get_state(birth.id)).projected_at}
        assert {birth.id for birth in births} - {victim.id} == projected
        assert {"accepted"} == {(await runtime.get_state(birth.id)).dispatch for birth in births}
        worker = Scribe(runtime)
        runtime.start(worker, slots=slots())
        assert await runtime.unpark() == 1
        await worker.until(lambda: [Project()] == [each.task for each in worker.ended])


@pytest.mark.parametrize("turns", range(0, 12, 3))
async def test_a_stop_in_the_middle_of_a_crowd_loses_nothing(open_runtime: OpenRuntime, turns: int) -> None:
    """SIGTERM at any moment: what returned is there, what was refused may be asked again."""
    births = [a_birth() for _ in range(100)]
    async with open_runtime() as runtime:
        runtime.start(Scribe(runtime), slots=slots(4))
        creations = [asyncio.ensure_future(runtime.create(birth)) for birth in births]
        for _ in range(turns):
            await asyncio.sleep(0)
    outcomes = await asyncio.gather(*creations, return_exceptions=True)
    async with open_runtime() as runtime:
        there = set(await all_ids(runtime))

        assert {each.id for each in outcomes if isinstance(each, Created)} <= there
        await tasks_match_state(runtime)
        await asyncio.gather(*(runtime.create(birth) for birth in births))
        assert {birth.id for birth in births} == set(await all_ids(runtime))
        await tasks_match_state(runtime)
