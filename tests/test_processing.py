"""From acceptance to bucket and database: what becomes of results, lost ones too, and of what goes wrong on the way."""

import json
import logging
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image

from runware_provider.context import Context
from runware_provider.durable.sqlite import utc_now
from runware_provider.errors import ContentRejected, FetchFailed, ProjectionFailed, StorageFailed, timeout
from runware_provider.reconcile import ReconcileArgs, reconcile
from runware_provider.runware import inference_task
from runware_provider.stub import get_generation_stub
from runware_provider.types import GenerationState
from tests.conformance.builders import idle as no_task_is_left
from tests.service import (
    Service,
    a_context,
    a_service,
    a_simulator,
    an_input,
    born,
    error_codes,
    eventually,
    images,
    objects,
    until,
)

AT_ONCE = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)


def rows(tmp_path: Path, table: str) -> list[dict[str, Any]]:
    """What stands in a table of the read model, as any SQL client sees it."""
    with closing(sqlite3.connect(tmp_path / "data" / "projection.db")) as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(f"SELECT * FROM {table}")]  # noqa: S608  our own names


def alter(tmp_path: Path, statement: str) -> None:
    """Do to the read model what an operator might."""
    with closing(sqlite3.connect(tmp_path / "data" / "projection.db", isolation_level=None)) as database:
        database.execute(statement)


async def idle(ctx: Context) -> None:
    """Wait until no task is waiting or being performed."""
    await eventually(lambda: no_task_is_left(ctx.runtime))


# The main job


@pytest.mark.parametrize("delivery", ["webhook", "poll"])
async def test_every_image_ends_in_the_bucket_and_the_database(tmp_path: Path, delivery: str) -> None:
    """The promise, in one process: bytes, metadata and row agree with each other and with what was billed."""
    async with a_service(tmp_path, delivery=delivery) as service:
        state = await service.made(numberResults=4, seed=7, outputFormat="PNG", metadata={"project": "postcards"})
        await idle(service.ctx)
        assert service.simulator is not None
        entry = service.simulator.ledger.entry(str(state.task_uuid))

    assert entry is not None
    assert (state.status, state.error, entry.billed) == ("completed", None, 1)
    assert (state.counts.expected, state.counts.stored, state.counts.missing) == (4, 4, 0)
    assert sorted(result.image_uuid for result in entry.results) == sorted(each.image_uuid for each in images(state))
    assert {result.seed for result in entry.results} == {each.seed for each in images(state)}
    assert sum(each.cost_micros or 0 for each in images(state)) == entry.cost_micros
    assert sorted(each.key for each in images(state)) == [
        str(path.relative_to(tmp_path / "data" / "artifacts")) for path in objects(tmp_path)
    ]
    for each in images(state):
        with Image.open(tmp_path / "data" / "artifacts" / each.key) as picture:
            assert (picture.format, picture.size) == ("PNG", (128, 128))
        assert (each.content_type, each.width, each.height) == ("image/png", 128, 128)
    (generation,) = rows(tmp_path, "generations")
    assert (generation["id"], generation["status"], generation["stored"]) == (str(state.id), "completed", 4)
    assert (generation["prompt"], generation["model"]) == ("a lighthouse at dusk", "runware:101@1")
    assert generation["cost_micros"] == entry.cost_micros
    assert {(row["sha256"], row["key"]) for row in rows(tmp_path, "artifacts")} == {
        (each.sha256, each.key) for each in images(state)
    }


async def test_results_come_in_any_shape_order_and_number_and_are_kept_once(tmp_path: Path) -> None:
    """What Runware is known to do to webhooks, all at once."""
    async with a_service(
        tmp_path,
        {"on": "webhook", "do": "duplicate", "times": 2},
        {"on": "webhook", "do": "reorder", "seconds": 0.005},
        {"on": "webhook", "do": "processing"},
        {"on": "webhook", "do": "shape", "shape": "flat"},
        {"on": "webhook", "do": "without_url", "later": 0.01, "nth": [2]},
    ) as service:
        state = await service.create(numberResults=3)
        state = await until(service.ctx, state.id, lambda state: state.counts.stored == 3 and state.settled)
        await idle(service.ctx)

        assert error_codes(state) == []
        assert len(objects(tmp_path)) == 3
        assert service.billed(state) == 1


async def test_more_results_than_asked_for_are_kept(tmp_path: Path) -> None:
    """They were paid for."""
    async with a_service(tmp_path, {"on": "task", "do": "more", "extra": 2}) as service:
        state = await service.made()
        state = await until(service.ctx, state.id, lambda state: state.counts.stored == 3 and state.settled)

        assert len(objects(tmp_path)) == 3
        await eventually(lambda: len(rows(tmp_path, "artifacts")) == 3)


async def test_an_error_for_one_result_stands_beside_the_others(tmp_path: Path) -> None:
    """The generation is complete: three images and why there is no fourth."""
    fault = {"on": "result", "do": "error", "image_uuid": True, "nth": [2]}
    async with a_service(tmp_path, fault) as service:
        state = await service.made(numberResults=4)

        assert (state.status, state.counts.stored, state.counts.failed) == ("completed", 3, 1)
        assert error_codes(state) == ["webhook_error"]


@pytest.mark.parametrize("delivery", ["webhook", "poll"])
async def test_an_error_for_the_whole_task_ends_it(tmp_path: Path, delivery: str) -> None:
    """`getResponse` says that it is over; nobody waits for the deadline."""
    async with a_service(tmp_path, {"on": "task", "do": "error"}, delivery=delivery) as service:
        state = await service.made(numberResults=2)

        assert (state.status, state.counts.failed) == ("failed", 2)
        assert set(error_codes(state)) == {"webhook_error"}


async def test_a_refusal_without_an_image_is_an_output_error(tmp_path: Path) -> None:
    """A provider's content filter looks like a success without `imageURL`."""
    async with a_service(tmp_path, {"on": "result", "do": "refusal"}) as service:
        state = await service.made()

        (output,) = state.outputs
        assert output.type == "error"
        assert isinstance(output.error, ContentRejected)
        assert output.error.reason == "no_image"


async def test_a_result_of_a_foreign_task_is_unclaimed_and_changes_nothing(tmp_path: Path) -> None:
    """It came to this generation's address beside its own."""
    async with a_service(tmp_path, {"on": "webhook", "do": "foreign", "also": True}) as service:
        state = await service.made()

        (kept,) = await service.ctx.runtime.unclaimed()
        assert kept.reason == "foreign_task"
        assert (len(images(state)), error_codes(state)) == (1, [])


async def test_a_cost_that_runware_does_not_tell_is_unknown_and_not_zero(tmp_path: Path) -> None:
    """Sums must not look complete when they are not."""
    async with a_service(tmp_path, {"on": "result", "do": "omit", "fields": ["cost", "seed"]}) as service:
        state = await service.made()

        assert [(each.cost_micros, each.seed) for each in images(state)] == [(None, None)]
        assert rows(tmp_path, "generations")[0]["cost_micros"] is None


async def test_a_poisoned_item_is_still_an_image(tmp_path: Path) -> None:
    """What breaks parsers and databases stands in one field; the image is paid for."""
    async with a_service(tmp_path) as service:
        for number, kind in enumerate(("nul", "lone_surrogate", "nan", "infinity", "huge_number", "deep")):
            service.stage({"on": "webhook", "do": "poison", "kind": kind})
            # The deep one is no JSON that can be read, so Runware is asked at once.
            state = await service.made()

            assert len(images(state)) == 1, kind
            assert (await service.get(f"/v1/generations/{state.id}")).json["status"] == "completed", kind
            assert len(rows(tmp_path, "artifacts")) == number + 1, kind


# Lost webhooks


async def test_lost_webhooks_are_fetched_at_the_deadline_at_the_latest(tmp_path: Path) -> None:
    """One of three results, and for another generation all: no verdict falls, for Runware has them."""
    async with a_service(tmp_path, {"on": "webhook", "do": "drop", "nth": [2, 4, 5]}, deadline=SECOND) as service:
        first = await service.create(numberResults=3)
        await until(service.ctx, first.id, lambda state: state.counts.stored == 2)
        second = await service.create(numberResults=2)

        for each in (first, second):
            state = await service.settled(each.id)
            assert (state.counts.stored, state.error) == (state.counts.expected, None)
            assert service.billed(state) == 1


async def test_a_body_of_no_use_asks_runware_at_once(tmp_path: Path) -> None:
    """Something came that was not understood: the result is fetched instead, long before the deadline."""
    async with a_service(tmp_path, {"on": "webhook", "do": "malformed"}) as service:
        state = await service.made()

        assert len(images(state)) == 1
        assert error_codes(state) == ["validation"]
        assert state.status == "completed"


async def test_the_verdict_falls_after_the_deadline_and_a_late_result_takes_it_back(tmp_path: Path) -> None:
    """`timeout` is what the client is told, not the end of trying."""
    async with a_service(tmp_path, {"on": "task", "do": "slow", "seconds": 1.6}, deadline=SECOND) as service:
        state = await service.made()
        assert (state.status, state.error) == ("failed", timeout(0, 1))

        state = await until(service.ctx, state.id, lambda state: state.counts.stored == 1 and state.settled)
        assert (state.status, state.error, service.billed(state)) == ("completed", None, 1)
        await eventually(lambda: rows(tmp_path, "generations")[0]["status"] == "completed")
        assert rows(tmp_path, "generations")[0]["error_code"] is None


async def test_no_verdict_falls_while_runware_does_not_answer(tmp_path: Path) -> None:
    """It needs an answered question after the deadline; silence is not one."""
    async with a_service(
        tmp_path,
        {"on": "task", "do": "stuck"},
        {"on": "response", "do": "status", "status": 503},
        deadline=SECOND,
    ) as service:
        state = await service.create()
        assert service.simulator is not None
        faults = service.simulator.faults
        await eventually(lambda: faults.fired[1] >= 1)

        assert (await service.ctx.runtime.get_state(state.id)).status == "running"


async def test_fifty_generations_are_asked_about_together(tmp_path: Path) -> None:
    """Polling costs a request for all, not one each."""
    async with a_simulator({"on": "task", "do": "stuck"}) as simulator:
        async with a_context(tmp_path, runware_url=simulator.url, work=False) as ctx:
            for _ in range(60):
                state = await born(ctx)
                stub = get_generation_stub(ctx, state.id)
                await stub.record_dispatching(1)
        before = simulator.ledger.totals.responses
        async with a_context(tmp_path, runware_url=simulator.url) as ctx:
            await reconcile(ctx, ReconcileArgs())

        assert simulator.ledger.totals.responses - before >= 60


async def test_what_an_earlier_process_left_is_taken_up(tmp_path: Path) -> None:
    """It knew of the results and had stored none: the next one stores them."""
    async with a_simulator() as simulator:
        async with a_context(tmp_path, runware_url=simulator.url, work=False) as ctx:
            state = await born(ctx, expected=2)
            await get_generation_stub(ctx, state.id).record_dispatching(1)
            await ctx.runware.dispatch(inference_task(an_input(numberResults=2), state.task_uuid, None), 1)
            await eventually(lambda: simulator.ledger.totals.results == 2)
            await reconcile(ctx, ReconcileArgs())
            assert images(await ctx.runtime.get_state(state.id)) == []
        async with a_context(tmp_path, runware_url=simulator.url) as ctx:
            state = await until(ctx, state.id, lambda state: state.settled)

    assert len(images(state)) == len(objects(tmp_path)) == 2


# What goes wrong on the way into the bucket


async def test_an_image_that_cannot_be_had_is_an_output_error_and_leaves_nothing(tmp_path: Path) -> None:
    """The client learns of it once patience is over; half an image, or a page of HTML, never reaches the store."""
    async with a_service(tmp_path, store_patience=AT_ONCE, max_image_bytes=200_000) as service:
        for fault, code in (
            ({"do": "status", "status": 404}, "fetch_failed"),
            ({"do": "status", "status": 403}, "fetch_failed"),
            ({"do": "status", "status": 500}, "fetch_failed"),
            ({"do": "break"}, "fetch_failed"),
            ({"do": "truncate", "how": "length"}, "fetch_failed"),
            ({"do": "html"}, "content_rejected"),
            ({"do": "html", "as_image": True}, "content_rejected"),
            ({"do": "empty"}, "content_rejected"),
            ({"do": "oversize", "size_bytes": 300_000}, "content_rejected"),
            ({"do": "oversize", "size_bytes": 300_000, "declared": False}, "content_rejected"),
            ({"do": "redirect"}, "content_rejected"),
        ):
            service.stage({"on": "cdn", **fault})
            state = await service.made()

            assert error_codes(state) == [code], fault
            assert (state.status, objects(tmp_path)) == ("failed", []), fault
            assert list((tmp_path / "data" / "tmp").iterdir()) == [], fault


async def test_a_failed_image_is_had_by_a_retry_once_the_cause_is_gone(tmp_path: Path) -> None:
    """It costs nothing: what Runware has made is fetched. The success replaces the error, in the read model too."""
    async with a_service(tmp_path, {"on": "cdn", "do": "status", "status": 404}, store_patience=AT_ONCE) as service:
        failed = await service.made(numberResults=2)
        (first, _) = failed.outputs
        assert first.type == "error"
        assert isinstance(first.error, FetchFailed)
        assert first.error.status == 404
        assert first.error.attempts >= 1
        await eventually(lambda: rows(tmp_path, "generations")[0]["status"] == "failed")

        service.stage()
        answer = await service.post(f"/v1/generations/{failed.id}/retry")
        assert answer.status == 202
        healed = await until(service.ctx, failed.id, lambda state: state.counts.stored == 2 and state.settled)

        assert (healed.status, error_codes(healed)) == ("completed", [])
        assert {output.id for output in healed.outputs} == {output.id for output in failed.outputs}
        assert service.billed(healed) == 1
        await eventually(lambda: rows(tmp_path, "generations")[0]["status"] == "completed")
        assert len(rows(tmp_path, "artifacts")) == 2


async def test_a_failure_that_passes_is_never_shown(tmp_path: Path) -> None:
    """It is tried again within the patience."""
    async with a_service(tmp_path, {"on": "cdn", "do": "status", "status": 503, "first": 1}) as service:
        state = await service.made()

        assert (error_codes(state), len(images(state))) == ([], 1)
        assert "error" not in [entry.event for entry in state.timeline]


async def test_an_image_from_elsewhere_is_not_fetched(tmp_path: Path) -> None:
    """Whoever writes the webhook's body must not choose whom we talk to."""
    async with a_service(
        tmp_path, {"on": "result", "do": "url", "url": "http://169.254.169.254/latest/{name}"}, store_patience=AT_ONCE
    ) as service:
        state = await service.made()

        (output,) = state.outputs
        assert output.type == "error"
        assert isinstance(output.error, ContentRejected)
        assert output.error.reason == "host_not_allowed"


async def test_a_store_that_does_not_take_it_is_an_output_error_that_heals(tmp_path: Path) -> None:
    """Shown after the patience, tried on all the same, and replaced by the success."""
    async with a_service(tmp_path, store_patience=AT_ONCE) as service:
        folder = tmp_path / "data" / "artifacts" / "generations"
        folder.rmdir()
        folder.write_text("in the way")  # a file where a folder must be
        state = await service.made()
        (output,) = state.outputs
        assert output.type == "error"
        assert isinstance(output.error, StorageFailed)

        folder.unlink()
        folder.mkdir()
        state = await until(service.ctx, state.id, lambda state: state.counts.stored == 1 and state.settled)

        assert (state.status, error_codes(state)) == ("completed", [])


# The read model


async def test_a_projection_that_fails_is_kept_beside_the_images_and_mended_by_a_replay(tmp_path: Path) -> None:
    """A column is gone: only a person can mend that, so it is said and not tried for ever."""
    async with a_service(tmp_path) as service:
        alter(tmp_path, "ALTER TABLE generations DROP COLUMN negative_prompt")
        state = await until(
            service.ctx, (await service.create()).id, lambda state: state.settled and state.projection_error is not None
        )
        assert (state.status, len(images(state))) == ("completed", 1)
        assert isinstance(state.error, ProjectionFailed)
        assert "negative_prompt" in state.error.message
        assert (await service.ctx.runtime.stats()).projection_failed == 1

        alter(tmp_path, "ALTER TABLE generations ADD COLUMN negative_prompt TEXT")
        answer = await service.post(f"/v1/generations/{state.id}/replay")
        assert answer.status == 202
        state = await until(service.ctx, state.id, lambda state: state.settled and state.projection_error is None)

        assert (state.error, state.projected_at is not None) == (None, True)
        assert [row["status"] for row in rows(tmp_path, "generations")] == ["completed"]
        assert (await service.ctx.runtime.stats()).projection_failed == 0


async def test_a_replay_before_the_cause_is_mended_fails_again(tmp_path: Path) -> None:
    """And says so again."""
    async with a_service(tmp_path) as service:
        alter(tmp_path, "ALTER TABLE generations DROP COLUMN negative_prompt")
        state = await service.made()
        await service.post(f"/v1/generations/{state.id}/replay")
        await idle(service.ctx)

        assert (await service.ctx.runtime.get_state(state.id)).projection_error is not None


async def test_clear_takes_away_that_error_and_no_other(tmp_path: Path) -> None:
    """The operator knows that the read model lacks this one."""
    async with a_service(tmp_path) as service:
        alter(tmp_path, "ALTER TABLE generations DROP COLUMN negative_prompt")
        good = await service.made()
        bad = await service.made(width=100)
        assert bad.projection_error is not None

        cleared = await service.delete(f"/v1/generations/{good.id}/error")
        still = await service.delete(f"/v1/generations/{bad.id}/error")

        assert (cleared.status, cleared.json["error"], cleared.json["projection_error"]) == (200, None, None)
        assert (still.json["error"]["code"], still.json["projection_error"]) == ("api_rejected", None)


async def test_a_refused_generation_is_in_the_read_model(tmp_path: Path) -> None:
    """A list without failures would hide them."""
    async with a_service(tmp_path) as service:
        await service.made(width=100)

        (row,) = rows(tmp_path, "generations")
        assert (row["status"], row["error_code"]) == ("failed", "api_rejected")


# Deleting


async def test_a_delete_hides_at_once_in_state_and_read_model(tmp_path: Path) -> None:
    """The row stays as a tombstone without prompt, so that no older version brings it back."""
    async with a_service(tmp_path) as service:
        state = await service.made(metadata={"secret": "label"})
        assert (await service.delete(f"/v1/generations/{state.id}")).status == 204

        assert (await service.get(f"/v1/generations/{state.id}")).status == 404
        await eventually(lambda: rows(tmp_path, "generations")[0]["deleted_at"] is not None)
        assert (await service.get("/v1/generations")).json["items"] == []
        text = json.dumps([rows(tmp_path, table) for table in ("generations", "artifacts", "generation_metadata")])
        assert "lighthouse" not in text
        assert "label" not in text


async def test_a_purge_removes_images_and_prompt_after_the_time_for_undoing_it(tmp_path: Path) -> None:
    """Here the process ends in between, and the next one starts later: id and times remain, nothing else."""
    offset = timedelta(0)

    def clock() -> datetime:
        return utc_now() + offset

    async with a_service(tmp_path, clock=clock) as service:
        state = await service.made(numberResults=2)
        kept = await service.made()
        await service.delete(f"/v1/generations/{state.id}")
        await idle(service.ctx)
        assert len(objects(tmp_path)) == 3  # it could still be taken back

    offset = timedelta(seconds=31)
    async with a_context(tmp_path, clock=clock) as ctx:
        await eventually(lambda: len(objects(tmp_path)) == 1)
        await idle(ctx)
        gone = await ctx.runtime.get_state(state.id)

        assert (gone.input, gone.outputs, gone.metadata, gone.model) == ({}, [], {}, None)
        assert (gone.id, gone.task_uuid) == (state.id, state.task_uuid)
        assert str(kept.id) in str(objects(tmp_path)[0])
    with closing(sqlite3.connect(tmp_path / "data" / "state.db")) as file:
        text = str(file.execute("SELECT register FROM generations WHERE id = ?", [state.id.bytes]).fetchall())
        text += str(file.execute("SELECT request FROM requests ORDER BY number LIMIT 1").fetchall())
    assert "lighthouse" not in text
    assert "im/" not in text


async def test_an_image_that_is_being_stored_when_its_generation_is_deleted_does_not_stay(tmp_path: Path) -> None:
    """Its confirm finds the delete and takes its own object away."""
    async with a_service(tmp_path, {"on": "cdn", "do": "slow", "seconds": 0.3}) as service:
        state = await service.create()
        assert service.simulator is not None
        await until(service.ctx, state.id, lambda state: "delivered" in [entry.event for entry in state.timeline])
        await get_generation_stub(service.ctx, state.id).tell("delete")
        await idle(service.ctx)

        await eventually(lambda: objects(tmp_path) == [])  # after the confirm that found the delete


async def test_an_undone_delete_gets_what_came_meanwhile(tmp_path: Path) -> None:
    """The delivery was dropped while it was deleted; Runware is asked for it."""
    async with a_service(tmp_path, {"on": "task", "do": "slow", "seconds": 0.2}) as service:
        state = await service.create()
        stub = get_generation_stub(service.ctx, state.id)
        await stub.tell("delete")
        assert service.simulator is not None
        totals = service.simulator.ledger.totals
        await eventually(lambda: totals.webhooks_confirmed == 1)
        await stub.tell("undelete")
        state = await service.settled(state.id)

        assert (len(images(state)), service.billed(state)) == (1, 1)


async def test_a_late_delivery_for_a_purged_generation_brings_nothing_back(tmp_path: Path) -> None:
    """Not the image, not the row."""
    async with a_service(tmp_path) as service:
        state: GenerationState = await service.made()
        item = {
            "taskUUID": str(state.task_uuid),
            "imageUUID": str(uuid4()),
            "imageURL": images(state)[0].item["imageURL"],
        }
        await service.delete(f"/v1/generations/{state.id}")
        await idle(service.ctx)
        before = objects(tmp_path)

        assert (await service.deliver(state.id, {"data": [item]})).status == 200
        await idle(service.ctx)

        assert before == objects(tmp_path)
        assert (await service.get("/v1/generations")).json["items"] == []


# Secrets


async def test_no_secret_is_in_what_is_kept_or_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Key and webhook token, after a life with failures: not in the state, the read model, the answers or the logs."""
    caplog.set_level(logging.DEBUG)
    async with a_service(
        tmp_path,
        {"on": "cdn", "do": "status", "status": 404, "nth": [1]},
        {"on": "dispatch", "do": "status", "status": 503, "first": 1},
        {"on": "webhook", "do": "malformed", "also": True},
        store_patience=AT_ONCE,
    ) as service:
        states = [await service.made(), await service.made(width=100)]
        shown = [(await service.get(f"/v1/generations/{state.id}")).body.decode() for state in states]
        shown.append((await service.get("/v1/generations")).body.decode())
        tokens = [service.ctx.tokens.token(state.id) for state in states]
        assert_no_secret(service, tokens, [*shown, caplog.text])

    for name in ("state.db", "projection.db"):
        content = (tmp_path / "data" / name).read_bytes()
        for secret in (b"a-key-of-runware", *(token.encode() for token in tokens)):
            assert secret not in content, name


def assert_no_secret(service: Service, tokens: list[str], texts: list[str]) -> None:
    """None of these texts shows the key or a token."""
    key = service.ctx.settings.runware_api_key
    assert key is not None
    for text in texts:
        assert key.get_secret_value() not in text
        for token in tokens:
            assert token not in text
