"""Asking Runware now, replaying projections, and giving again what was delivered to nobody."""

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from runware_provider.context import Context
from runware_provider.durable import Birth
from runware_provider.errors import GenerationNotFound, RunwareRefused, RunwareUnavailable
from runware_provider.reconcile import ReconcileArgs, Reconciled, ReplayArgs, reconcile, replay
from runware_provider.stub import get_generation_stub
from runware_provider.types import GenerationState, Request
from tests.conformance.builders import idle
from tests.service import (
    RawRunware,
    a_context,
    a_service,
    an_input,
    born,
    eventually,
    images,
    says,
    until,
)


async def test_lost_webhooks_are_fetched_when_somebody_asks(tmp_path: Path) -> None:
    """Without waiting for the alarm."""
    async with a_service(tmp_path, {"on": "webhook", "do": "drop"}) as service:
        states = [await service.create() for _ in range(3)]
        assert service.simulator is not None
        totals = service.simulator.ledger.totals
        await eventually(lambda: totals.results == 3)

        told = await reconcile(service.ctx, ReconcileArgs())

        assert told == Reconciled(asked=3, answered=3, changed=3)
        assert [len(images(await service.settled(state.id))) for state in states] == [1, 1, 1]


async def test_one_generation_can_be_asked_about_whatever_its_state(tmp_path: Path) -> None:
    """A complete one learns that it is over, and then nothing new; that is an answer, too."""
    async with a_service(tmp_path) as service:
        state = await service.made()
        await reconcile(service.ctx, ReconcileArgs(generation_id=state.id))
        await service.settled(state.id)  # what it learnt is in the read model, too

        told = await reconcile(service.ctx, ReconcileArgs(generation_id=state.id))

        assert told == Reconciled(asked=1, answered=1, changed=0)


async def test_only_what_runs_is_asked_about(tmp_path: Path) -> None:
    """The rest is known."""
    async with a_service(tmp_path) as service:
        await service.made()

        assert await reconcile(service.ctx, ReconcileArgs()) == Reconciled()


async def test_many_are_asked_about_in_bodies_of_fifty(tmp_path: Path) -> None:
    """120 open generations cost three bodies of each question."""
    async with (
        RawRunware(says({"data": []})) as raw,
        a_context(tmp_path, work=False, runware_url=raw.url) as ctx,
    ):
        for _ in range(120):
            await born(ctx)

        told = await reconcile(ctx, ReconcileArgs())

    assert (told.asked, told.answered, told.changed) == (120, 120, 0)
    kinds = [(request.tasks[0]["taskType"], len(request.tasks)) for request in raw.asked]
    assert kinds == [
        ("getResponse", size) if turn == 0 else ("getTaskDetails", size) for size in (50, 50, 20) for turn in (0, 1)
    ]


async def test_an_unknown_generation_is_an_error(tmp_path: Path) -> None:
    """Never 'nothing to do'."""
    async with a_context(tmp_path, work=False) as ctx:
        with pytest.raises(GenerationNotFound):
            await reconcile(ctx, ReconcileArgs(generation_id=uuid4()))
        with pytest.raises(GenerationNotFound):
            await replay(ctx, ReplayArgs(generation_id=uuid4()))


async def test_who_can_mend_it_is_said_when_runware_does_not_answer(tmp_path: Path) -> None:
    """Try again, or look at the key."""
    async with RawRunware(says(b"", "503 X")) as raw, a_context(tmp_path, work=False, runware_url=raw.url) as ctx:
        await born(ctx)
        with pytest.raises(RunwareUnavailable):
            await reconcile(ctx, ReconcileArgs())
        raw.replies = [says({"errors": [{"message": "bad key"}]}, "401 X", Connection="close")]
        with pytest.raises(RunwareRefused, match="bad key"):
            await reconcile(ctx, ReconcileArgs())


# What was delivered to nobody


async def keep(ctx: Context, generation_id: UUID, body: bytes, reason: str = "unknown_generation") -> None:
    """A delivery that nobody claimed."""
    await ctx.runtime.keep_unclaimed(generation_id, reason, body, ctx.clock())


async def rise(ctx: Context, generation_id: UUID, task_uuid: UUID) -> GenerationState:
    """Make a generation with this id, as a restored backup would."""
    now = ctx.clock()
    birth = Birth(
        id=generation_id,
        task_uuid=task_uuid,
        request=Request(an_input(), {}),
        expected=1,
        now=now,
        deadline=now + timedelta(minutes=15),
    )
    await ctx.runtime.create(birth)
    return await ctx.runtime.get_state(generation_id)


def a_body(task_uuid: UUID, image: str = "i") -> bytes:
    """A webhook's body with one result."""
    item = {"taskUUID": str(task_uuid), "imageUUID": image, "imageURL": f"http://127.0.0.1:9/{image}.jpg"}
    return json.dumps({"data": [item]}).encode()


def delivered(state: GenerationState) -> list[str | None]:
    """The images that this generation has heard of."""
    return [entry.note for entry in state.timeline if entry.event == "delivered"]


async def test_an_unclaimed_delivery_finds_its_generation_once_it_is_there(tmp_path: Path) -> None:
    """A state that was restored from yesterday's backup gets what came in between."""
    generation_id, task_uuid = uuid4(), uuid4()
    async with (
        RawRunware(says({"data": []})) as raw,
        a_context(tmp_path, work=False, runware_url=raw.url) as ctx,
    ):
        await keep(ctx, generation_id, a_body(task_uuid))
        before = await reconcile(ctx, ReconcileArgs(unclaimed=True))
        await rise(ctx, generation_id, task_uuid)
        after = await reconcile(ctx, ReconcileArgs(unclaimed=True))

        assert (before.claimed, before.still_unclaimed) == (0, 1)
        assert (after.claimed, after.still_unclaimed) == (1, 0)
        assert delivered(await ctx.runtime.get_state(generation_id)) == ["i"]


async def test_nothing_is_claimed_without_being_asked_to(tmp_path: Path) -> None:
    """It is a person's decision."""
    async with (
        RawRunware(says({"data": []})) as raw,
        a_context(tmp_path, work=False, runware_url=raw.url) as ctx,
    ):
        state = await born(ctx)
        await keep(ctx, state.id, a_body(state.task_uuid))

        told = await reconcile(ctx, ReconcileArgs())

        assert (told.claimed, told.still_unclaimed) == (0, 1)
        assert delivered(await ctx.runtime.get_state(state.id)) == []


async def test_one_delivery_that_cannot_be_recorded_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """It is unclaimed because of that, and stays so; hundreds of others are given all the same."""
    async with a_context(tmp_path, work=False) as ctx:
        broken, good = await born(ctx), await born(ctx)
    with closing(sqlite3.connect(tmp_path / "data" / "state.db", isolation_level=None)) as file:
        newer = "UPDATE generations SET register = json_set(register, '$.schema', 99) WHERE id = ?"
        file.execute(newer, [broken.id.bytes])
        file.execute("UPDATE generations SET flags = 0 WHERE id = ?", [broken.id.bytes])
    async with (
        RawRunware(says({"data": []})) as raw,
        a_context(tmp_path, work=False, runware_url=raw.url) as ctx,
    ):
        await keep(ctx, broken.id, a_body(broken.task_uuid), "record_webhook raised StateTooNew")
        for number in range(250):
            await keep(ctx, good.id, b"nonsense %d" % number)
        await keep(ctx, good.id, a_body(good.task_uuid))

        told = await reconcile(ctx, ReconcileArgs(unclaimed=True))

        assert (told.claimed, told.still_unclaimed) == (251, 1)
        assert delivered(await ctx.runtime.get_state(good.id)) == ["i"]


async def test_a_state_that_cannot_be_read_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """One damaged generation must not keep Runware from being asked about all the rest."""
    async with a_context(tmp_path, work=False) as ctx:
        broken, good = await born(ctx), await born(ctx)
    with closing(sqlite3.connect(tmp_path / "data" / "state.db", isolation_level=None)) as file:
        newer = "UPDATE generations SET register = json_set(register, '$.schema', 99) WHERE id = ?"
        file.execute(newer, [broken.id.bytes])
    row = {"taskUUID": str(good.task_uuid), "imageUUID": "i", "imageURL": "http://127.0.0.1:9/i.jpg"}
    async with (
        RawRunware(says({"data": [row | {"status": "success"}]})) as raw,
        a_context(tmp_path, work=False, runware_url=raw.url) as ctx,
    ):
        await reconcile(ctx, ReconcileArgs())

        assert delivered(await ctx.runtime.get_state(good.id)) == ["i"]


async def test_what_belongs_to_another_task_stays_unclaimed(tmp_path: Path) -> None:
    """Given again to the same generation it would only come back."""
    async with (
        RawRunware(says({"data": []})) as raw,
        a_context(tmp_path, work=False, runware_url=raw.url) as ctx,
    ):
        state = await born(ctx)
        await keep(ctx, state.id, b"{}", "foreign_task")

        told = await reconcile(ctx, ReconcileArgs(unclaimed=True))

        assert (told.claimed, told.still_unclaimed) == (0, 1)


# Replaying


async def test_all_that_failed_to_be_projected_is_projected_again(tmp_path: Path) -> None:
    """After the cause was mended; what did not fail is left alone."""
    async with a_service(tmp_path) as service:
        fine = await service.made()
        projection = tmp_path / "data" / "projection.db"
        with closing(sqlite3.connect(projection, isolation_level=None)) as database:
            database.execute("ALTER TABLE generations DROP COLUMN negative_prompt")
        failed = [await service.made() for _ in range(3)]
        assert all(state.projection_error for state in failed)
        with closing(sqlite3.connect(projection, isolation_level=None)) as database:
            database.execute("ALTER TABLE generations ADD COLUMN negative_prompt TEXT")

        assert await replay(service.ctx, ReplayArgs(all_failed=True)) == 3
        for each in failed:
            await until(service.ctx, each.id, lambda state: state.settled and state.projection_error is None)

        assert await replay(service.ctx, ReplayArgs(all_failed=True)) == 0
        page = await service.get("/v1/generations")
        assert {item["id"] for item in page.json["items"]} == {str(state.id) for state in (fine, *failed)}
        assert {item["status"] for item in page.json["items"]} == {"completed"}


async def test_a_replay_that_names_nothing_replays_nothing(tmp_path: Path) -> None:
    """Neither an id nor `all_failed`: it must not mean everything."""
    async with a_context(tmp_path, work=False) as ctx:
        await born(ctx)

        assert await replay(ctx, ReplayArgs()) == 0


async def test_a_deleted_generation_stays_deleted_through_a_replay(tmp_path: Path) -> None:
    """Its tombstone is what is projected."""
    async with a_service(tmp_path) as service:
        state = await service.made()
        await get_generation_stub(service.ctx, state.id).tell("delete")

        await replay(service.ctx, ReplayArgs(generation_id=state.id))
        await eventually(lambda: idle(service.ctx.runtime))

        assert (await service.get("/v1/generations")).json["items"] == []
