"""Several runtimes over one PostgreSQL, as several processes have them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from runware_provider.durable import Assignment, postgres_jobs
from runware_provider.durable.postgres import PostgresRuntime
from runware_provider.durable.postgres_schema import HEAD, migrate
from runware_provider.errors import (
    ConfigurationError,
    GenerationNotFound,
    IdempotencyConflict,
    OverBudget,
    StateTooNew,
    TooManyInFlight,
)
from runware_provider.generation import Generation
from runware_provider.schedule import Policy
from runware_provider.types import Ask, Order
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
    nothing,
    reads,
    version,
)
from tests.conformance.workers import Scribe, slots
from tests.postgres import PostgresServer, fetch, postgres, state_template

__all__ = ["postgres", "state_template"]

GOLDEN = Path(__file__).parents[1] / "golden" / f"state_schema_{HEAD}.txt"

CATALOGUE = """
SELECT c.relname || ' ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
  || CASE WHEN a.attnotnull THEN ' not null' ELSE '' END AS line
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'runware_provider' AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
  AND c.relname !~ '^pgqueuer'
UNION ALL
SELECT indexdef FROM pg_indexes WHERE schemaname = 'runware_provider' AND tablename !~ '^pgqueuer'
ORDER BY 1
"""


@pytest.fixture
def url(postgres: PostgresServer, state_template: str) -> Iterator[str]:
    """A fresh state."""
    with postgres.database(state_template) as url:
        yield url


async def a_node(url: str, policy: Policy | None = None) -> PostgresRuntime:
    """One more process's runtime."""
    return await PostgresRuntime.open(url, policy or Policy(), lambda: datetime.now(UTC), lease=timedelta(seconds=0.5))


@asynccontextmanager
async def nodes(url: str, number: int = 2) -> AsyncIterator[list[PostgresRuntime]]:
    """So many, stopped at the end."""
    async with AsyncExitStack() as stack:
        made = [await a_node(url) for _ in range(number)]
        for node in made:
            stack.push_async_callback(node.stop, grace=0.0)
        yield made


# State


async def test_what_two_nodes_record_of_one_generation_is_all_there(url: str) -> None:
    """Neither overwrites what the other has committed since it looked."""
    birth = a_birth(expected=60)
    async with nodes(url) as (one, two):
        await one.create(birth)
        versions: list[int] = []
        for number in range(30):
            both = (
                one.call(birth.id, deliver(f"one{number}"), version),
                two.call(birth.id, deliver(f"two{number}"), version),
            )
            versions += await asyncio.gather(*both)

        assert len(set(versions)) == 60
        assert sorted(await one.call(birth.id, nothing, images)) == sorted(
            f"{name}{number}" for name in ("one", "two") for number in range(30)
        )
        assert await one.get_state(birth.id) == await two.get_state(birth.id)


async def test_calls_on_many_generations_from_all_sides_never_wait_for_each_other_in_a_circle(url: str) -> None:
    """Batches lock rows in one order, whatever the order of their calls."""
    async with nodes(url, 3) as all_nodes:
        ids = await make(all_nodes[0], (a_birth(expected=30) for _ in range(20)))
        calls = [
            node.call(each, deliver(f"{number}/{turn}"), version)
            for turn in range(5)
            for number, node in enumerate(all_nodes)
            for each in (ids if number % 2 else reversed(ids))
        ]
        await asyncio.gather(*calls)

        states = [await all_nodes[0].get_state(each) for each in ids]
        assert {state.version for state in states} == {1 + 15}


async def test_what_cannot_be_written_down_is_taken_back_alone(url: str) -> None:
    """Calls before and after it in the same transaction are kept, and it is told why."""
    birth = a_birth(expected=9)
    async with nodes(url, 1) as [node]:
        await node.create(birth)
        steps = [deliver("a"), unwritable, deliver("b"), unwritable, deliver("c")]
        outcomes = await asyncio.gather(*(node.call(birth.id, step, version) for step in steps), return_exceptions=True)

        assert [type(each).__name__ for each in outcomes] == [
            "int", "TypeError", "int", "TypeError", "int",
        ]  # fmt: skip
        assert await node.call(birth.id, nothing, images) == ["a", "b", "c"]
        assert (await node.get_state(birth.id)).version == outcomes[-1]


def unwritable(generation: Generation) -> list[Order]:
    """The step that would keep what JSON has no word for."""
    orders = deliver("never")(generation)
    generation.register.outputs[next(iter(generation.register.outputs))].item = {"odd": object()}
    return orders


async def test_a_key_that_two_nodes_see_at_once_makes_one_generation(url: str) -> None:
    """The client's retry reaches another node while the first one is still at it."""
    async with nodes(url) as (one, two):
        for number in range(20):
            key = (f"order {number}", "digest")
            births = [a_birth(key=key) for _ in range(4)]
            made = await asyncio.gather(*(node.create(b) for node, b in zip((one, two, one, two), births, strict=True)))
            assert len({each.id for each in made}) == 1
            assert [each.created for each in made].count(True) == 1
            with pytest.raises(IdempotencyConflict):
                await two.create(a_birth(key=(key[0], "another digest")))

        assert (await one.stats()).running == 20


async def test_limits_hold_over_all_nodes(url: str) -> None:
    """Not one generation more, however many nodes ask at the same moment."""
    async with nodes(url, 3) as all_nodes:
        births = [replace(a_birth(), max_in_flight=25) for _ in range(90)]
        outcomes = await asyncio.gather(
            *(all_nodes[number % 3].create(birth) for number, birth in enumerate(births)), return_exceptions=True
        )
        assert Counter(type(each).__name__ for each in outcomes) == {"Created": 25, "TooManyInFlight": 65}
        assert all(isinstance(each, TooManyInFlight) for each in outcomes if isinstance(each, BaseException))

        # An image of a model that nobody has heard of is taken to cost 0.05 dollars.
        paid = [replace(a_birth(), model="a:1@1", daily_budget_micros=50_000 * 40) for _ in range(60)]
        outcomes = await asyncio.gather(
            *(all_nodes[number % 3].create(birth) for number, birth in enumerate(paid)), return_exceptions=True
        )
        assert Counter(type(each).__name__ for each in outcomes) == {"Created": 15, "OverBudget": 45}
        assert all(isinstance(each, OverBudget) for each in outcomes if isinstance(each, BaseException))
        assert {(await node.stats()).spent_today_micros for node in all_nodes} == {50_000 * 40}


async def test_a_node_hears_of_what_another_one_commits(url: str, postgres: PostgresServer) -> None:
    """Also after its connection was cut, and of an end."""
    birth = a_birth(expected=9)
    async with nodes(url) as (one, two):
        await one.create(birth)
        heard = asyncio.ensure_future(two.changed(birth.id, after=1))
        await asyncio.sleep(0.1)
        told = await one.call(birth.id, deliver("a"), version)
        assert await asyncio.wait_for(heard, PATIENCE) == told

        heard = asyncio.ensure_future(two.changed(birth.id, after=told))
        postgres.disconnect(url.rpartition("/")[2].partition("?")[0])
        told = await one.call(birth.id, deliver("b"), version)
        assert await asyncio.wait_for(heard, PATIENCE) == told

        heard = asyncio.ensure_future(two.changed(birth.id, after=told))
        await asyncio.sleep(0.1)
        await one.call(birth.id, expire, version)
        with pytest.raises(GenerationNotFound):
            await asyncio.wait_for(heard, PATIENCE)


def expire(generation: Generation) -> list[Order]:
    """The step of a retention that is over."""
    generation.policy = Policy(retention=timedelta(seconds=1))
    live(generation)
    return generation.alarm(datetime.now(UTC) + timedelta(days=9))


# Tasks


async def test_a_task_is_given_to_one_node_only(url: str) -> None:
    """While all of them live, nothing is done twice."""
    async with nodes(url, 3) as all_nodes:
        workers = [Scribe(node) for node in all_nodes]
        for node, worker in zip(all_nodes, workers, strict=True):
            node.start(worker, slots=slots(4))
        ids = await make(all_nodes[0], (a_birth() for _ in range(60)))
        await asyncio.gather(*(all_nodes[1].call(each, deliver("a"), version) for each in ids))
        await eventually(lambda: idle(all_nodes[2]), within=30)

        given = Counter(each.number for worker in workers for each in worker.given)
        assert set(given.values()) == {1}
        assert all(worker.given for worker in workers)


async def test_who_has_no_worker_leaves_tasks_and_questions_to_others(url: str) -> None:
    """What a webhook teaches one node is asked and done by another."""
    birth = a_birth(expected=2)
    async with nodes(url) as (mute, busy):
        worker = Scribe(busy)
        busy.start(worker, slots=slots())
        await mute.create(birth)
        await mute.call(birth.id, accept, version)
        await worker.until(lambda: len(worker.given) >= 2)
        asked = len(worker.asked)
        question = Ask((await mute.get_state(birth.id)).task_uuid, details=True)
        await mute.call(birth.id, lambda _: [question], version)
        await worker.until(lambda: len(worker.asked) > asked)

        assert (birth.id, question) in worker.asked
        await eventually(lambda: idle(mute))


async def test_a_slot_that_gets_free_takes_the_next_task_at_once(url: str) -> None:
    """Not with the next look at the queue: 40 tasks through one slot take no 40 polls."""
    async with nodes(url, 1) as [node]:
        worker = Scribe(node)
        node.start(worker, slots={"Dispatch": 0, "Project": 1, "StoreOutput": 1, "Purge": 1})
        await make(node, (a_birth() for _ in range(40)))

        await worker.until(lambda: len(worker.given_of("Project")) == 40, within=postgres_jobs.POLL * 3)


async def test_a_node_that_stops_gives_back_what_it_holds(url: str) -> None:
    """Others have it at once, and nothing is counted against it."""
    async with nodes(url, 1) as [staying]:
        leaving = await a_node(url)
        held = asyncio.Event()

        async def hold(_: Assignment) -> None:
            held.set()
            await asyncio.Event().wait()

        leaving.start(Scribe(leaving, hold), slots=slots())
        await leaving.create(a_birth())
        await asyncio.wait_for(held.wait(), PATIENCE)
        await leaving.stop(grace=0.0)
        worker = Scribe(staying)
        staying.start(worker, slots=slots())
        await worker.until(lambda: len(worker.ended) == 2, within=2)

        assert {each.attempts for each in worker.given} == {0}


async def test_the_queues_history_is_trimmed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PgQueuer keeps three rows a job for ever; we keep what is recent."""
    monkeypatch.setattr(postgres_jobs, "LOG_KEPT", timedelta(0))
    async with nodes(url, 1) as [node]:
        node.start(Scribe(node), slots=slots())
        await make(node, (a_birth() for _ in range(5)))
        await eventually(lambda: idle(node))
        assert (await fetch(url, "SELECT count(*) FROM runware_provider.pgqueuer_log"))[0][0] >= 30
        await node._jobs._trim()

        assert (await fetch(url, "SELECT count(*) FROM runware_provider.pgqueuer_log"))[0][0] == 0


# The schema


async def test_the_schema_is_the_sum_of_its_migrations(url: str) -> None:
    """What this release was tested with; a change of it is a new migration."""
    found = "\n".join(row["line"] for row in await fetch(url, CATALOGUE)) + "\n"

    assert found == GOLDEN.read_text()


async def test_nodes_that_migrate_at_once_do_it_once(postgres: PostgresServer) -> None:
    """As in a deployment where every container does."""
    with postgres.database() as url:
        before = await asyncio.gather(*(migrate(url) for _ in range(4)))
        assert sorted(before) == [0, HEAD, HEAD, HEAD]
        async with nodes(url, 1) as [node]:
            await node.create(a_birth())


async def test_a_schema_of_another_release_is_refused_untouched(url: str, postgres: PostgresServer) -> None:
    """Too old, too new, none at all; each with its remedy."""
    database = url.rpartition("/")[2].partition("?")[0]
    with postgres.database() as empty, pytest.raises(ConfigurationError, match="run `runware-provider migrate`"):
        await a_node(empty)
    postgres.run("UPDATE runware_provider.revision SET number = number + 1", database)
    with pytest.raises(StateTooNew, match="newer release"):
        await a_node(url)
    with pytest.raises(StateTooNew, match="newer release"):
        await migrate(url)
    postgres.run("UPDATE runware_provider.revision SET number = 0", database)
    with pytest.raises(ConfigurationError, match="run `runware-provider migrate`"):
        await a_node(url)

    assert postgres.run("SELECT number FROM runware_provider.revision", database).strip() == "0"


async def test_settings_that_lose_commits_are_pointed_out(url: str, postgres: PostgresServer) -> None:
    """`doctor` shows it."""
    database = url.rpartition("/")[2].partition("?")[0]
    postgres.run(f"ALTER DATABASE {database} SET synchronous_commit = on", database)
    async with nodes(url, 1) as [node]:
        assert await node.advice() == []
    postgres.run(f"ALTER DATABASE {database} SET synchronous_commit = off", database)
    async with nodes(url, 1) as [node]:
        assert "synchronous_commit is off" in (await node.advice())[0]


async def test_what_is_damaged_is_named_and_harms_nothing_else(url: str) -> None:
    """`doctor --deep` reads everything."""
    async with nodes(url, 1) as [node]:
        ids: list[UUID] = await make(node, (a_birth() for _ in range(3)))
        await fetch(url, "UPDATE runware_provider.generations SET register = '{' WHERE id = $1", ids[1])
        await fetch(url, "DELETE FROM runware_provider.requests WHERE id = $1", ids[2])
        faults = await node.check()

        assert len(faults) == 2
        assert [any(str(each) in fault for fault in faults) for each in ids] == [False, True, True]
        node.start(worker := Scribe(node), slots=slots())
        await worker.until(lambda: any(each.generation_id == ids[0] for each in worker.ended))
        assert await reads(node, lambda stats: stats.running == 3)
