"""The life of a generation through the library's and the service's doors, against the simulator."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest

from runware_provider import (
    GenerationArgs,
    IdempotencyConflict,
    InvalidArgs,
    ListArgs,
    OverBudget,
    ReconcileArgs,
    ReplayArgs,
    TooManyInFlight,
    create_generation,
    generate,
    get_generation,
    reconcile,
    replay,
)
from runware_provider.errors import GenerationNotFound
from runware_provider.stub import get_generation_stub
from tests.conformance.builders import reads
from tests.service import a_service, error_codes, eventually, images, objects, some_args, until


@pytest.mark.parametrize("delivery", ["webhook", "poll"])
async def test_generate_returns_the_stored_images(tmp_path: Path, delivery: str) -> None:
    """The one-liner for scripts, with a public address and without."""
    async with a_service(tmp_path, delivery=delivery) as service:
        made = await generate(service.ctx, some_args(numberResults=2))

        assert [image.output.size_bytes for image in made] == [len(await image.read()) for image in made]
        assert sorted(image.output.key for image in made) == [
            str(path.relative_to(tmp_path / "data" / "artifacts")) for path in objects(tmp_path)
        ]
        [row] = (await service.ctx.projection.list(ListArgs())).items
        assert (row.status, row.counts.stored, len(row.artifacts)) == ("completed", 2, 2)


async def test_the_same_key_and_input_is_the_same_generation(tmp_path: Path) -> None:
    """Twenty callers that all retry pay once; another input under the key is a conflict."""
    async with a_service(tmp_path) as service:
        states = await asyncio.gather(*(create_generation(service.ctx, some_args(key="order")) for _ in range(20)))
        await service.settled(states[0].id)

        assert {states[0].id} == {state.id for state in states}
        assert service.billed(states[0]) == 1
        with pytest.raises(IdempotencyConflict):
            await create_generation(service.ctx, some_args(key="order", seed=5))


async def test_a_cancelled_caller_leaves_its_generation_going(tmp_path: Path) -> None:
    """It was committed; it is finished, and the caller's own retry finds it."""
    async with a_service(tmp_path, {"on": "dispatch", "do": "slow", "seconds": 0.3}) as service:
        caller = asyncio.create_task(create_generation(service.ctx, some_args(key="order")))
        await eventually(lambda: reads(service.ctx.runtime, lambda stats: stats.running == 1))
        caller.cancel()
        [generation_id] = await service.ctx.runtime.ids()
        state = await service.settled(generation_id)

        assert len(images(state)) == 1
        assert (await create_generation(service.ctx, some_args(key="order"))).id == generation_id
        assert service.billed(state) == 1


@pytest.mark.parametrize("accepted", [True, False])
async def test_an_answer_that_never_came_is_found_out(tmp_path: Path, accepted: bool) -> None:
    """Whether Runware has the task or not: it is paid for once, and its images come."""
    fault = {"on": "dispatch", "do": "break", "accept": accepted, "first": 1}
    half_a_second = timedelta(seconds=0.5)
    async with a_service(tmp_path, fault, delivery="poll", patience=half_a_second) as service:
        state = await service.made()

        assert len(images(state)) == 1
        assert service.billed(state) == 1


async def test_lost_webhooks_are_asked_for(tmp_path: Path) -> None:
    """By `reconcile` at once, by the alarms in time."""
    async with a_service(tmp_path, {"on": "webhook", "do": "drop"}) as service:
        state = await service.create(numberResults=2)
        await asyncio.sleep(0.2)

        found = await reconcile(service.ctx, ReconcileArgs())

        assert (found.asked, found.answered, found.changed) == (1, 1, 1)
        assert len(images(await service.settled(state.id))) == 2


async def test_no_more_than_so_many_run_at_once(tmp_path: Path) -> None:
    """Counted in the commit, so that fifty callers at once cannot slip through together."""
    async with a_service(tmp_path, {"on": "task", "do": "stuck"}, max_in_flight=3) as service:
        tries = await asyncio.gather(
            *(create_generation(service.ctx, some_args()) for _ in range(20)), return_exceptions=True
        )

        assert sum(isinstance(each, TooManyInFlight) for each in tries) == 17
        answer = await service.post("/v1/generations", json={"input": some_args().input})
        assert (answer.status, answer.headers["retry-after"]) == (429, "5")


async def test_the_days_budget_is_held_before_it_is_spent(tmp_path: Path) -> None:
    """Reservations count, at the highest known price of the model or at five cents."""
    async with a_service(tmp_path, daily_budget=Decimal("0.12")) as service:
        await service.made(width=1024, height=1024)  # reserved at $0.05, then known to cost far less
        spent = (await service.ctx.runtime.stats()).spent_today_micros
        assert 0 < spent < 50_000
        tries = await asyncio.gather(
            *(create_generation(service.ctx, some_args(numberResults=20, width=1024, height=1024)) for _ in range(40)),
            return_exceptions=True,
        )

        refused = [each for each in tries if isinstance(each, OverBudget)]
        assert refused
        assert (await service.ctx.runtime.stats()).spent_today_micros <= 120_000
        answer = await service.post(
            "/v1/generations", json={"input": some_args(numberResults=20, width=1024, height=1024).input}
        )
        assert answer.status == 402
        assert "DAILY_BUDGET" in answer.problem["detail"]


async def test_state_lets_go_after_retention_and_the_rest_stays(tmp_path: Path) -> None:
    """Images and rows are the team's; only our own record of it goes."""
    async with a_service(tmp_path, retention=timedelta(seconds=1)) as service:
        state = await service.made(key="order")
        await eventually(lambda: _gone(service.ctx, state.id))

        assert len(objects(tmp_path)) == 1
        assert len((await service.ctx.projection.list(ListArgs())).items) == 1
        assert (await service.ctx.runtime.stats()).running == 0


async def _gone(ctx: object, generation_id: object) -> bool:
    try:
        await get_generation(ctx, GenerationArgs(generation_id=generation_id))  # type: ignore[arg-type]
    except GenerationNotFound:
        return True
    return False


async def test_a_cdn_that_is_down_shows_an_error_and_retry_brings_the_image(tmp_path: Path) -> None:
    """It costs nothing: what was made is fetched."""
    fault = {"on": "cdn", "do": "status", "status": 503}
    async with a_service(tmp_path, fault, store_patience=timedelta(seconds=0.1)) as service:
        state = await service.create()
        state = await until(service.ctx, state.id, lambda state: state.status == "failed")
        assert error_codes(state) == ["fetch_failed"]
        service.stage()

        answer = await service.post(f"/v1/generations/{state.id}/retry")
        healed = await until(service.ctx, state.id, lambda state: state.status == "completed")

        assert answer.status == 202
        assert len(images(healed)) == 1
        assert service.billed(healed) == 1


async def test_a_projection_that_failed_is_kept_and_replayed(tmp_path: Path) -> None:
    """The images are there; a schema bug is for a person to mend, then everything follows."""
    async with a_service(tmp_path) as service:
        with closing(sqlite3.connect(tmp_path / "data" / "projection.db")) as database:
            database.execute("ALTER TABLE artifacts RENAME COLUMN sha256 TO hash")
        state = await service.made()
        assert (state.status, state.error and state.error.code) == ("completed", "projection_failed")
        assert (await service.ctx.runtime.stats()).projection_failed == 1
        with closing(sqlite3.connect(tmp_path / "data" / "projection.db")) as database:
            database.execute("ALTER TABLE artifacts RENAME COLUMN hash TO sha256")

        assert await replay(service.ctx, ReplayArgs(all_failed=True)) == 1
        mended = await until(service.ctx, state.id, lambda state: state.error is None)

        assert mended.projected_at is not None
        assert len((await service.ctx.projection.list(ListArgs())).items[0].artifacts) == 1
        assert (await service.ctx.runtime.stats()).projection_failed == 0


async def test_the_read_model_can_be_made_anew(tmp_path: Path) -> None:
    """Every generation, from state."""
    async with a_service(tmp_path) as service:
        states = [await service.made() for _ in range(3)]
        with closing(sqlite3.connect(tmp_path / "data" / "projection.db")) as database:
            for table in ("artifacts", "generation_metadata", "generations"):
                database.execute(f"DELETE FROM {table}")  # noqa: S608  names of our own
            database.commit()

        assert await replay(service.ctx, ReplayArgs(everything=True)) == 3
        for state in states:
            await until(service.ctx, state.id, lambda state: state.settled and state.projected_at is not None)

        assert {row.id for row in (await service.ctx.projection.list(ListArgs())).items} == {s.id for s in states}


async def test_a_delete_hides_at_once(tmp_path: Path) -> None:
    """In state and in the read model; a late delivery is answered 200 and brings nothing back."""
    async with a_service(tmp_path) as service:
        state = await service.made()
        answer = await service.delete(f"/v1/generations/{state.id}")
        await eventually(lambda: _unlisted(service.ctx))
        late = await service.deliver(
            state.id,
            {"data": [{"taskUUID": str(state.task_uuid), "imageUUID": str(uuid4()), "imageURL": "https://x.y/z.png"}]},
        )

        assert (answer.status, late.status) == (204, 200)
        assert (await service.get(f"/v1/generations/{state.id}")).status == 404
        assert (await service.delete(f"/v1/generations/{state.id}")).status == 404
        assert len((await service.ctx.runtime.get_state(state.id)).outputs) == 1


async def _unlisted(ctx: object) -> bool:
    return not (await ctx.projection.list(ListArgs())).items  # type: ignore[attr-defined]


async def test_what_the_caller_sends_wrong_is_named(tmp_path: Path) -> None:
    """Every field at once, before anything is kept or spent."""
    async with a_service(tmp_path) as service:
        with pytest.raises(InvalidArgs) as caught:
            await create_generation(service.ctx, some_args(width="wide", taskUUID="mine", numberResults=0))

        assert sorted(field for field, _ in caught.value.issues) == [
            "input.numberResults",
            "input.taskUUID",
            "input.width",
        ]
        assert await service.ctx.runtime.ids() == []


async def test_a_stub_speaks_to_one_generation(tmp_path: Path) -> None:
    """The typed contract: whether it exists is found at the first call."""
    async with a_service(tmp_path) as service:
        state = await service.made()

        assert (await get_generation_stub(service.ctx, state.id).get_state()).id == state.id
        with pytest.raises(GenerationNotFound):
            await get_generation_stub(service.ctx, uuid4()).get_state()
