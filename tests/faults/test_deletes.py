"""What was deleted does not come back: not by a late delivery, a running store, or a running projection."""

import asyncio
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from runware_provider.artifacts import Artifacts
from runware_provider.durable import Assignment
from runware_provider.processing import Processing
from runware_provider.stub import get_generation_stub
from runware_provider.types import GenerationState, StoreOutput
from tests.faults.staged import TABLE, MovedClock, Row, artifact_rows, idle, purged, read_model, rows
from tests.service import JsonObject, Service, a_service, eventually, images, locked, objects, until

UNDO = timedelta(seconds=31)


async def deleted(service: Service, state: GenerationState) -> None:
    """Delete through the API."""
    assert (await service.delete(f"/v1/generations/{state.id}")).status == 204


async def nothing_came_back(service: Service, fault: str, tmp_path: Path, state: GenerationState) -> None:
    """No object, no row that says anything, nothing in state but id, `task_uuid` and times; paid once."""
    left = await service.ctx.runtime.get_state(state.id)
    listed = (await service.get("/v1/generations")).json["items"]
    prompts = rows(service, "SELECT prompt, input, deleted_at FROM generations WHERE id = ?", state)
    came_back = [*objects(tmp_path), *artifact_rows(service, state), *listed, *left.outputs]
    TABLE.append(Row(fault, 1, 0, len(came_back)))

    assert came_back == []
    assert (left.input, left.metadata, left.model) == ({}, {}, None)
    assert all(deleted_at is not None and not prompt for prompt, _, deleted_at in prompts)
    assert all("fox" not in str(row) for row in prompts)
    assert (await service.get(f"/v1/generations/{state.id}")).status == 404
    assert service.billed(state) == 1


def a_late_result(service: Service, state: GenerationState) -> JsonObject:
    """What Runware delivers of it; the image is there to be fetched."""
    assert service.simulator is not None
    entry = service.simulator.ledger.entry(str(state.task_uuid))
    assert entry is not None
    [result] = entry.results
    return {"data": [{"taskUUID": str(state.task_uuid), "imageUUID": result.image_uuid, "imageURL": result.url}]}


async def test_a_late_delivery_brings_nothing_back(tmp_path: Path) -> None:
    """Before the purge, after it, and by the answer to a question; each is answered 200 and dropped."""
    clock = MovedClock()
    async with a_service(tmp_path, {"on": "webhook", "do": "drop"}, clock=clock) as service:
        state = await service.create(positivePrompt="a fox")
        await eventually(lambda: bool(a_late_result(service, state)["data"]))
        await deleted(service, state)
        before = await service.deliver(state.id, a_late_result(service, state))
        clock.pass_time(service, UNDO)
        await purged(service, state)
        after = await service.deliver(state.id, a_late_result(service, state))
        other = {
            "data": [{"taskUUID": str(state.task_uuid), "imageUUID": str(uuid4()), "imageURL": "http://127.0.0.1"}]
        }
        another = await service.deliver(state.id, other)
        clock.pass_time(service, timedelta(hours=30))
        await service.post("/v1/reconcile", json={})
        await idle(service)

        assert [answer.status for answer in (before, after, another)] == [200] * 3
        assert (await service.ctx.runtime.stats()).unclaimed == 0
        await nothing_came_back(service, "late delivery of a deleted generation", tmp_path, state)


async def test_a_store_that_runs_past_the_purge_leaves_nothing(tmp_path: Path) -> None:
    """Its image is written after everything was removed: whoever confirms too late removes his own."""
    clock = MovedClock()
    async with a_service(tmp_path, {"on": "cdn", "do": "slow", "seconds": 0.6}, clock=clock) as service:
        state = await service.create(positivePrompt="a fox")
        await eventually(lambda: bool(service.simulator and service.simulator.faults.fired[0]))
        await deleted(service, state)
        clock.pass_time(service, UNDO)
        await eventually(lambda: _purged(service, state))
        assert (await service.ctx.runtime.stats()).tasks["StoreOutput"] == 1
        await idle(service)

        await nothing_came_back(service, "delete while an image is fetched", tmp_path, state)


async def _purged(service: Service, state: GenerationState) -> bool:
    return (await service.ctx.runtime.get_state(state.id)).input == {}


async def test_an_image_that_was_put_but_not_confirmed_is_removed(tmp_path: Path) -> None:
    """The delete is committed between the put and its confirm."""
    clock = MovedClock()
    put, go_on = asyncio.Event(), asyncio.Event()
    async with a_service(tmp_path, clock=clock) as service:
        artifacts = service.ctx.artifacts
        keep = artifacts.keep

        async def held(*args: object, **kwargs: object) -> object:
            stored = await keep(*args, **kwargs)  # type: ignore[arg-type]
            put.set()
            await go_on.wait()
            return stored

        assert isinstance(artifacts, Artifacts)
        artifacts.keep = held  # type: ignore[method-assign,assignment]
        state = await service.create(positivePrompt="a fox")
        await put.wait()
        assert len(objects(tmp_path)) == 1
        await deleted(service, state)
        go_on.set()
        await idle(service)

        assert objects(tmp_path) == []
        clock.pass_time(service, UNDO)
        await purged(service, state)
        await nothing_came_back(service, "delete between put and confirm", tmp_path, state)


async def test_a_projection_under_way_does_not_show_it_again(tmp_path: Path) -> None:
    """The read model was locked while the outcome and the delete were projected: the tombstone is the newest."""
    clock = MovedClock()
    async with a_service(tmp_path, clock=clock) as service:
        first = await service.made()
        with locked(read_model(service)):
            state = await service.create(positivePrompt="a fox")
            await until(service.ctx, state.id, lambda state: state.completed_at is not None)
            await deleted(service, state)
            clock.pass_time(service, UNDO)
            await eventually(lambda: _purged(service, state))
        await idle(service)
        listed = (await service.get("/v1/generations")).json["items"]
        assert [row["id"] for row in listed] == [str(first.id)]
        await deleted(service, first)
        clock.pass_time(service, UNDO)
        await purged(service, first)

        await nothing_came_back(service, "delete while the read model is locked", tmp_path, state)


async def test_a_deleted_generation_is_not_sent(tmp_path: Path) -> None:
    """Runware had refused it for now; nobody wants it any more, so no money is spent on it."""
    clock = MovedClock()
    rule = {"on": "dispatch", "do": "status", "status": 429, "first": 1}
    async with a_service(tmp_path, rule, clock=clock) as service:
        creating = asyncio.create_task(
            service.post(
                "/v1/generations",
                json={"input": {"positivePrompt": "a fox", "model": "runware:101@1", "width": 128, "height": 128}},
            )
        )
        assert service.simulator is not None
        await eventually(lambda: service.simulator.faults.fired == [1])  # type: ignore[union-attr]
        [generation_id] = await service.ctx.runtime.ids()
        state = await until(service.ctx, generation_id, lambda state: state.dispatch == "queued")
        await deleted(service, state)
        await creating
        clock.pass_time(service, timedelta(hours=1))
        await purged(service, state)

        assert service.simulator.ledger.totals.billed == 0
        assert objects(tmp_path) == []


async def test_what_was_put_by_a_process_that_died_is_swept(tmp_path: Path) -> None:
    """Its task is given again, finds the image confirmed or the generation purged, and removes what nobody keeps."""
    async with a_service(tmp_path, clock=(clock := MovedClock()), options={"image_bytes": 40_000}) as service:
        state, other = await service.made(), await service.made()
        [image], [beside] = images(state), images(other)
        folder = service.ctx.settings.data_dir / "artifacts" / image.key.rpartition("/")[0]
        stray = folder / f"{image.id}-{'f' * 12}.jpg"
        stray.write_bytes(b"what a dead process put")
        again = Assignment(2**40, state.id, StoreOutput(image.id), 1)
        await Processing(service.ctx, service.ctx.webhook_url).perform(again)

        assert sorted(folder.iterdir()) == [folder / image.key.rpartition("/")[2]]

        await get_generation_stub(service.ctx, state.id).tell("delete")
        clock.pass_time(service, timedelta(minutes=1))
        await purged(service, state)
        folder.mkdir(exist_ok=True)
        stray.write_bytes(b"what a dead process put")
        await Processing(service.ctx, service.ctx.webhook_url).perform(again)

        assert not stray.exists()
        assert [path.name for path in objects(tmp_path)] == [beside.key.rpartition("/")[2]]
