"""Guards that no room's own tests hold: each of these fails when `tests/guards.py` takes the guard out."""

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from runware_provider.create import create_generation
from runware_provider.errors import DataDirInUse, OverBudget, network_error
from runware_provider.projection import Projection
from runware_provider.stub import get_generation_stub
from runware_provider.types import Accepted, Dispatch, Refused, StoreOutput, Unknown
from tests.builders import (
    DEADLINE,
    a_delivery,
    a_failure,
    a_generation,
    a_new_generation,
    a_result,
    at,
    state_of,
    stored,
)
from tests.conformance.builders import a_birth, accept, reads, version
from tests.conformance.workers import Scribe, for_ever, slots
from tests.durable.conftest import counted, opened
from tests.projection.builders import NOON, a_state, an_image, rows
from tests.service import RawRunware, Request, a_context, a_service, acknowledges, eventually, objects, some_args


async def test_runware_hears_of_a_task_after_its_generation_and_its_lease_are_committed(tmp_path: Path) -> None:
    """Whatever dies from then on, the next start knows that something may have been sent."""
    committed: list[tuple[str, str]] = []

    async def looks_first(request: Request, writer: asyncio.StreamWriter) -> None:
        for each in await ctx.runtime.ids():
            state = await ctx.runtime.get_state(each)
            committed.append((str(state.task_uuid), state.dispatch))
        await acknowledges(request, writer)

    async with RawRunware(looks_first) as runware, a_context(tmp_path, runware_url=runware.url) as ctx:
        state = await create_generation(ctx, some_args())

        assert [(str(state.task_uuid), "sending")] == committed


def test_what_runware_accepted_is_not_sent_again() -> None:
    """A worker whose answer comes late and says otherwise, of the same attempt, must not make it due once more."""
    generation = a_generation()
    version = generation.version

    for late in (Refused(network_error("busy"), retryable=True), Unknown("no answer")):
        orders = generation.record_dispatch(1, late, at(1))

        assert orders == []
        assert state_of(generation).dispatch == "accepted"
    assert version == generation.version
    assert [order for order in generation.alarm(at(3_600)) if isinstance(order, Dispatch)] == []


def test_acceptance_that_is_said_twice_is_one_acceptance() -> None:
    """Every method may be called twice; the second call changes nothing, not even a time."""
    generation = a_generation()
    version = generation.version

    assert generation.record_dispatch(1, Accepted(), at(5)) == []
    assert version == generation.version


def test_what_its_worker_finds_after_the_deadline_is_not_sent() -> None:
    """The service was down meanwhile; the client has long been told, and nothing was charged."""
    generation, _ = a_new_generation()
    generation.record_dispatching(1, at(DEADLINE.total_seconds()))

    assert state_of(generation).dispatch == "refused"


def test_a_stored_image_is_not_fetched_again() -> None:
    """Success is final: another address of the same image is no news."""
    generation = a_generation()
    generation.record_webhook(a_delivery("a"), at())
    generation.confirm_outputs([stored("a")], at())
    version = generation.version

    orders = generation.record_webhook(a_delivery(a_result("a", url="https://im.runware.ai/elsewhere.jpg")), at(1))

    assert [order for order in orders if isinstance(order, StoreOutput)] == []
    assert version == generation.version


def test_an_error_without_an_image_does_not_stand_for_one() -> None:
    """One of two images is stored, and Runware told of trouble: the other was paid for and may still come."""
    generation = a_generation(expecting=2)
    generation.record_webhook(a_delivery("a", a_failure("slow")), at())
    generation.confirm_outputs([stored("a")], at(1))
    assert state_of(generation).status == "running"

    generation.record_webhook(a_delivery("b"), at(2))
    generation.confirm_outputs([stored("b")], at(3))

    assert (state_of(generation).status, state_of(generation).counts.stored) == ("completed", 2)


async def test_a_call_and_the_end_of_its_task_are_one_commit(tmp_path: Path) -> None:
    """Between two commits there would be a moment at which a process could die, with the one and without the other."""
    birth = a_birth()
    async with opened(tmp_path / "state.db") as runtime:
        worker = Scribe(runtime, for_ever)
        runtime.start(worker, slots=slots())
        await runtime.create(birth)
        await worker.until(lambda: len(worker.given_of("Dispatch")) == 1)
        [dispatch] = worker.given_of("Dispatch")

        with counted(runtime) as commits:
            await runtime.call(birth.id, accept, version, done=dispatch)

        assert commits.count == 1
        assert not (await runtime.stats()).tasks.get("Dispatch")


async def test_an_image_that_is_stored_after_the_delete_does_not_stay(tmp_path: Path) -> None:
    """Its fetch was under way when the generation was deleted; the purge is not what removes it."""
    async with a_service(tmp_path, {"on": "cdn", "do": "slow", "seconds": 0.3}) as service:
        simulator = service.simulator
        assert simulator is not None
        state = await service.create()
        await eventually(lambda: simulator.ledger.totals.cdn_hits == 1)
        await get_generation_stub(service.ctx, state.id).tell("delete")
        assert (await service.ctx.runtime.stats()).tasks["StoreOutput"] == 1

        await eventually(lambda: reads(service.ctx.runtime, lambda stats: not stats.tasks.get("StoreOutput")))

        assert simulator.ledger.totals.cdn_bytes > 0
        await eventually(lambda: objects(tmp_path) == [])
        assert (await service.ctx.runtime.get_state(state.id)).outputs == []


async def test_the_budget_refuses_before_money_is_spent(tmp_path: Path) -> None:
    """A model of which no cost is known counts at a price that is not nothing, and Runware hears of none of it."""
    async with (
        RawRunware(acknowledges) as runware,
        a_context(tmp_path, runware_url=runware.url, daily_budget=Decimal("0.01")) as ctx,
    ):
        with pytest.raises(OverBudget):
            await create_generation(ctx, some_args())

        assert runware.asked == []
        assert await ctx.runtime.ids() == []


async def test_a_state_has_one_owner(tmp_path: Path) -> None:
    """Two processes on one state would send every task twice."""
    async with a_context(tmp_path, work=False):
        with pytest.raises(DataDirInUse):
            async with a_context(tmp_path, work=False):
                pass


async def test_what_a_newer_version_deleted_is_not_written_by_an_older_one(tmp_path: Path) -> None:
    """A worker that was held up comes with the images of a generation that is gone; no row of them appears."""
    path = tmp_path / "read.db"
    projection = await Projection.open(f"sqlite://{path}", migrate=True)
    state = a_state(metadata={"user": "ada"}, outputs=[an_image()])
    await projection.write([state.model_copy(update={"version": 2, "deleted_at": NOON})])

    assert await projection.write([state]) == [None]
    assert rows(path, "artifacts", state.id) == []
    assert rows(path, "generation_metadata", state.id) == []
    await projection.aclose()
