"""What the tests of staged faults share: time that can be moved, and the books, which must balance whatever happens."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from runware_provider.create import wait_for
from runware_provider.durable.postgres import PostgresRuntime
from runware_provider.durable.sqlite import SqliteRuntime
from runware_provider.types import GenerationArgs, GenerationState
from tests.conformance.builders import idle as no_task_is_left
from tests.service import JsonObject, Service, eventually, images

SECONDS = 10.0
"""How long a test waits for what should happen at once."""


@dataclass(frozen=True)
class Row:
    """One row of the table: a fault, how many generations met it, and what was lost or doubled."""

    fault: str
    tried: int
    lost: int
    doubled: int


TABLE: list[Row] = []
"""What the tests of this process found; `python -m tests.faults` prints it."""


class MovedClock:
    """The wall clock, moved ahead as far as a test says."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        """What time it is there."""
        return datetime.now(UTC) + self.ahead

    def pass_time(self, service: Service, by: timedelta) -> None:
        """Let time pass; alarms that fall due meanwhile ring."""
        self.ahead += by
        runtime = service.ctx.runtime
        if isinstance(runtime, PostgresRuntime):
            runtime._alarm_set.set()
            return
        assert isinstance(runtime, SqliteRuntime)
        alarms = runtime._alarms
        if alarms._timer is not None:
            alarms._timer.cancel()
        alarms._fire()

    async def pass_until(self, service: Service, step: timedelta, holds: Callable[[], Awaitable[bool]]) -> None:
        """Let time pass in steps, and all work be done in between, until `holds`; fails after 100 of them."""
        for _ in range(100):
            if await holds():
                return
            self.pass_time(service, step)
            await asyncio.sleep(0.01)  # an alarm has no event of its own when it has nothing to do
            await idle(service)
        raise AssertionError(f"not within {100 * step}")


def for_prompts(cases: dict[str, list[JsonObject]], on: str) -> list[JsonObject]:
    """One plan for all cases, each for the generations with its name in their prompt."""
    return [{"on": on, "prompt": f"<{name}>", **rule} for name, rules in cases.items() for rule in rules]


async def made_of(service: Service, cases: dict[str, list[JsonObject]], count: int) -> dict[str, GenerationState]:
    """A generation of `count` images for each case, all at once."""
    states = await asyncio.gather(
        *(service.create(positivePrompt=f"a fox <{name}>", numberResults=count) for name in cases)
    )
    return dict(zip(cases, states, strict=True))


async def stored(service: Service, state: GenerationState, count: int) -> GenerationState:
    """Its state once so many images are stored and projected, or as it is when that does not happen."""

    def holds(state: GenerationState) -> bool:
        return state.counts.stored >= count and state.settled

    args = GenerationArgs(generation_id=state.id)
    return await wait_for(service.ctx, args, holds, timedelta(seconds=SECONDS))


async def all_stored(service: Service, states: Iterable[GenerationState]) -> list[GenerationState]:
    """Those states once every image that was asked for is stored and projected."""
    return list(await asyncio.gather(*(stored(service, state, state.counts.expected) for state in states)))


def everything_fired(service: Service) -> None:
    """Fail when a rule of the plan never came into play: then its fault was not tried."""
    assert service.simulator is not None
    plan = service.simulator.faults
    idle = [rule for rule, fired in zip(plan.plan.rules, plan.fired, strict=True) if not fired]
    assert idle == []


def balanced(service: Service, fault: str, states: Iterable[GenerationState], *, extra: int = 0) -> None:
    """Enter `fault` into the table, and fail unless nothing of `states` is lost or doubled.

    Every image asked for (and `extra` a generation) is stored once, lies in the store once and has one row; nothing
    else lies there; each generation was billed once.
    """
    states = list(states)
    lost: list[str] = []
    doubled: list[str] = []
    artifacts = service.ctx.settings.data_dir / "artifacts"
    for state in states:
        wanted = state.counts.expected + extra
        keys = [image.key for image in images(state)]
        files = [str(path.relative_to(artifacts)) for path in artifacts.glob(f"generations/{state.id}/*")]
        rows = artifact_rows(service, state)
        billed = service.billed(state)
        lost += [f"{state.id} misses an image: {state!r}"] * max(0, wanted - len(keys))
        lost += [f"{key} is not in the store" for key in keys if key not in files]
        lost += [f"{key} has no row" for key in keys if key not in rows]
        lost += [f"{state.id} was never made"] * (billed < 1)
        doubled += [f"{state.id} has an image more"] * max(0, len(keys) - wanted)
        doubled += [f"{file} is in the store and not in state" for file in files if file not in keys]
        doubled += [f"{row} is in the read model and not in state" for row in rows if row not in keys]
        doubled += [f"{state.id} was billed {billed} times"] * (billed > 1)
        doubled += [f"{state.id} was stored twice"] * (len(set(keys)) < len(keys) or len(set(rows)) < len(rows))
    TABLE.append(Row(fault, len(states), len(lost), len(doubled)))
    assert (lost, doubled) == ([], []), fault


def artifact_rows(service: Service, state: GenerationState) -> list[str]:
    """The keys that the read model has for a generation."""
    return [str(key) for (key,) in rows(service, "SELECT key FROM artifacts WHERE generation_id = ?", state)]


def rows(service: Service, query: str, *states: GenerationState) -> list[tuple[object, ...]]:
    """What a query of the team's own gets from the read model; each `?` is the id of a state."""
    with closing(sqlite3.connect(read_model(service))) as database:
        found = database.execute(query, [str(state.id) for state in states]).fetchall()
    return cast("list[tuple[object, ...]]", found)


def change(service: Service, *statements: str) -> None:
    """What somebody does to the read model by hand."""
    with closing(sqlite3.connect(read_model(service))) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def read_model(service: Service) -> Path:
    """The read model's file."""
    return Path(service.ctx.settings.projection_address.removeprefix("sqlite:///"))


async def purged(service: Service, state: GenerationState) -> GenerationState:
    """Its state once the purge is done; `get_generation` no longer knows it."""

    async def done() -> bool:
        return (await service.ctx.runtime.get_state(state.id)).input == {}

    await eventually(done)
    await idle(service)
    return await service.ctx.runtime.get_state(state.id)


async def idle(service: Service) -> None:
    """Wait until no task waits or runs."""
    await eventually(lambda: no_task_is_left(service.ctx.runtime))
