"""The route that Runware calls: 200 means committed, and the body never changes the answer."""

import asyncio
import json
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from runware_provider import tracing
from runware_provider.context import Context
from runware_provider.stub import get_generation_stub
from runware_provider.tokens import WebhookTokens
from runware_provider.types import GenerationState
from runware_provider.webhook import webhook
from tests.service import JsonObject, Service, a_context, a_service, born, error_codes, locked, served

IMAGE = "5b9e0d3c-0000-4000-8000-00000000000a"
URL = f"https://im.runware.ai/image/ws/2/ii/{IMAGE}.jpg"


@pytest.fixture(autouse=True, params=["the door of serve", "the door in any ASGI application"])
def door(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Through which `serve` takes deliveries; it takes the second for those that somebody traces."""
    if request.param == "the door in any ASGI application":
        monkeypatch.setattr(tracing, "listening", lambda: True)
    name: str = request.param
    return name


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """A service that records, and does nothing about it."""
    async with a_service(tmp_path, runware_url="http://127.0.0.1:9/v1", work=False, max_body_bytes=65_536) as running:
        yield running


def an_item(state: GenerationState, **fields: Any) -> JsonObject:
    """A result of this generation, as Runware describes it."""
    return {
        "taskType": "imageInference",
        "taskUUID": str(state.task_uuid),
        "imageUUID": IMAGE,
        "imageURL": URL,
        "seed": 7,
        "cost": 0.0019,
    } | fields


def delivered(state: GenerationState) -> list[str | None]:
    """The images that this generation has heard of."""
    return [entry.note for entry in state.timeline if entry.event == "delivered"]


async def raw_post(service: Service, request: bytes, *, then_close: bool = False) -> bytes:
    """Send these bytes and return what is answered."""
    port = int(service.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await writer.drain()
    if then_close:
        writer.close()
        await writer.wait_closed()
        return b""
    answer = await reader.read(65_536)
    writer.close()
    return answer


def address(service: Service, generation_id: UUID) -> str:
    """Path and query, with the right token."""
    return service.ctx.tokens.webhook_url("", generation_id)


# 200 means committed


async def test_200_means_that_the_delivery_survives_the_process(tmp_path: Path) -> None:
    """The state is opened anew, without a clean end between: what was answered is there."""
    async with a_service(tmp_path, runware_url="http://127.0.0.1:9/v1", work=False) as service:
        state = await born(service.ctx)
        answer = await service.deliver(state.id, {"data": [an_item(state)]})
        copy = tmp_path / "copy" / "data"
        copy.mkdir(parents=True)
        for name in ("state.db", "state.db-wal"):  # what a `kill -9` would have left at this moment
            (copy / name).write_bytes((tmp_path / "data" / name).read_bytes())

    assert answer.status == 200
    async with a_context(tmp_path / "copy", work=False) as ctx:
        assert delivered(await ctx.runtime.get_state(state.id)) == [IMAGE]


async def test_while_nothing_can_be_committed_runware_is_asked_to_deliver_again(
    service: Service, tmp_path: Path
) -> None:
    """503, and nothing of it is kept; the same delivery is welcome as soon as the store is back."""
    state = await born(service.ctx)

    with locked(tmp_path / "data" / "state.db"):
        refused = await service.deliver(state.id, {"data": [an_item(state)]})
    kept = await service.ctx.runtime.get_state(state.id)
    accepted = await service.deliver(state.id, {"data": [an_item(state)]})

    assert (refused.status, accepted.status) == (503, 200)
    assert delivered(kept) == []
    assert delivered(await service.ctx.runtime.get_state(state.id)) == [IMAGE]


async def test_while_nothing_can_be_committed_even_what_belongs_to_nobody_is_asked_for_again(
    service: Service, tmp_path: Path
) -> None:
    """It cannot be kept as unclaimed either, so it must not be called kept."""
    with locked(tmp_path / "data" / "state.db"):
        answer = await service.deliver(uuid4(), {"data": []})

    assert answer.status == 503


async def test_the_answer_comes_before_any_processing(tmp_path: Path) -> None:
    """Runware waits 5 s; the image here takes longer than the acknowledgement."""
    async with a_service(tmp_path, {"on": "cdn", "do": "hang", "seconds": 0.5}) as service:
        assert service.simulator is not None
        state = await service.create()
        async with asyncio.timeout(3):
            await _confirmed(service)

        assert (await service.ctx.runtime.get_state(state.id)).status == "running"


async def _confirmed(service: Service) -> None:
    assert service.simulator is not None
    while not service.simulator.ledger.totals.webhooks_confirmed:  # noqa: ASYNC110  nothing tells
        await asyncio.sleep(0.005)


async def test_a_repeated_delivery_changes_nothing(service: Service) -> None:
    """Runware may deliver twice, in another shape and at the same time."""
    state = await born(service.ctx, expected=2)
    await service.deliver(state.id, {"data": [an_item(state)]})
    once = await service.ctx.runtime.get_state(state.id)

    answers = await asyncio.gather(
        *(service.deliver(state.id, {"data": [an_item(state)]}) for _ in range(8)),
        service.deliver(state.id, an_item(state)),
        service.deliver(state.id, {"data": [an_item(state, status="success")]}),
    )

    assert {answer.status for answer in answers} == {200}
    assert once == await service.ctx.runtime.get_state(state.id)


async def test_results_of_one_task_come_one_by_one_and_all_count(service: Service) -> None:
    """All carry the same `taskUUID`; the image's id tells them apart."""
    state = await born(service.ctx, expected=3)
    names = [str(uuid4()) for _ in range(3)]

    await asyncio.gather(*(service.deliver(state.id, {"data": [an_item(state, imageUUID=name)]}) for name in names))

    assert sorted(names) == sorted(delivered(await service.ctx.runtime.get_state(state.id)), key=str)


# Who may deliver


async def test_without_its_own_token_nothing_is_taken(service: Service) -> None:
    """401, whatever is wrong with it; an unknown id is no different, so ids cannot be found out."""
    state, other = await born(service.ctx), await born(service.ctx)
    tokens = service.ctx.tokens
    right = tokens.token(state.id)
    queries = {
        "none": {"generation_id": str(state.id)},
        "empty": {"generation_id": str(state.id), "token": ""},
        "wrong": {"generation_id": str(state.id), "token": "x" * 43},
        "cut": {"generation_id": str(state.id), "token": right[:-1]},
        "longer": {"generation_id": str(state.id), "token": right + "A"},
        "of another generation": {"generation_id": str(state.id), "token": tokens.token(other.id)},
        "of another secret": {"generation_id": str(state.id), "token": WebhookTokens(["guess"]).token(state.id)},
        "unknown id": {"generation_id": str(uuid4()), "token": right},
        "no id": {"token": right},
        "no uuid": {"generation_id": "1 OR 1=1", "token": right},
        "not ascii": {"generation_id": str(state.id), "token": "é\udcff".encode("utf-8", "replace").decode()},
        "too many fields": {f"field{number}": "x" for number in range(40)} | {"generation_id": str(state.id)},
    }

    for name, query in queries.items():
        answer = await service.post("/webhooks/runware", params=query, data=json.dumps({"data": [an_item(state)]}))
        assert answer.status == 401, name
        assert answer.headers["cache-control"] == "no-store"
    assert await service.ctx.runtime.get_state(state.id) == state
    assert (await service.ctx.runtime.stats()).unclaimed == 0


async def test_a_forged_delivery_is_refused_without_a_look_at_its_body(service: Service) -> None:
    """A flood of them costs an HMAC each: the answer comes before the body has."""
    state = await born(service.ctx)
    head = (
        f"POST /webhooks/runware?generation_id={state.id}&token=forged HTTP/1.1\r\nHost: x\r\n"
        "Content-Length: 60000\r\nConnection: close\r\n\r\n"
    )

    assert b" 401 " in (await raw_post(service, head.encode()))[:20]


async def test_a_host_that_is_not_ours_is_no_hindrance(service: Service) -> None:
    """Runware comes through whatever name and proxy the operator has; it has its token and no client token."""
    state = await born(service.ctx)
    answer = await service.post(
        address(service, state.id), data=json.dumps({"data": [an_item(state)]}), headers={"Host": "images.example.com"}
    )

    assert answer.status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_only_post_delivers(service: Service, method: str) -> None:
    """A link that somebody follows changes nothing."""
    state = await born(service.ctx)

    assert (await service.ask(method, address(service, state.id))).status == 405


async def test_earlier_addresses_work_after_a_restart_and_a_rotation(tmp_path: Path) -> None:
    """A secret of our own is kept with the state; setting one does not shut out what is on its way."""
    async with a_context(tmp_path, work=False) as ctx:
        state = await born(ctx)
        first = ctx.tokens.token(state.id)
    async with a_context(tmp_path, work=False) as ctx:
        assert first == ctx.tokens.token(state.id)
    async with a_context(tmp_path, work=False, webhook_secret=("a-new-secret",)) as ctx:
        assert ctx.tokens.accepts(state.id, first)
        assert first != ctx.tokens.token(state.id)


# What is not taken


async def test_a_body_over_the_limit_is_refused_by_its_announced_length(service: Service) -> None:
    """413 before a byte of it is read."""
    state = await born(service.ctx)
    head = (
        f"POST {address(service, state.id)} HTTP/1.1\r\nHost: x\r\nContent-Length: 65537\r\nConnection: close\r\n\r\n"
    )

    assert b" 413 " in (await raw_post(service, head.encode()))[:20]


async def test_a_body_over_the_limit_is_refused_when_nobody_announced_it(service: Service) -> None:
    """Chunked bodies are counted as they come."""
    state = await born(service.ctx)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 8_192

    answer = await service.post(address(service, state.id), data=pieces())

    assert answer.status == 413
    assert await service.ctx.runtime.get_state(state.id) == state


async def test_a_body_of_exactly_the_limit_is_taken(service: Service) -> None:
    """The limit is the largest size that is allowed; in pieces too."""
    state = await born(service.ctx)
    body = json.dumps({"data": [an_item(state)]}).encode()
    body += b" " * (65_536 - len(body))

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 5_000):
            yield body[start : start + 5_000]

    whole = await service.post(address(service, state.id), data=body)
    pieced = await service.post(address(service, state.id), data=pieces())

    assert (whole.status, pieced.status) == (200, 200)
    assert delivered(await service.ctx.runtime.get_state(state.id)) == [IMAGE]


async def test_a_body_that_does_not_arrive_is_not_waited_for(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow sender cannot hold a connection for long: 408."""
    for module in ("runware_provider.connections", "runware_provider.webhook"):
        monkeypatch.setattr(import_module(module), "BODY_WAIT", 0.1)
    state = await born(service.ctx)
    head = f"POST {address(service, state.id)} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n"

    assert b" 408 " in (await raw_post(service, head.encode() + b'{"data":['))[:20]


async def test_a_sender_that_leaves_in_the_middle_leaves_nothing(service: Service) -> None:
    """Half a body is no delivery, and the next one is served as ever."""
    state = await born(service.ctx)
    head = f"POST {address(service, state.id)} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"

    await raw_post(service, head.encode() + b'{"data":[', then_close=True)
    answer = await service.deliver(state.id, {"data": [an_item(state)]})

    assert answer.status == 200
    assert (await service.ctx.runtime.stats()).unclaimed == 0
    after = await service.ctx.runtime.get_state(state.id)
    assert error_codes(after) == []
    assert delivered(after) == [IMAGE]


# What a body may be


async def test_a_result_is_taken_in_every_shape(service: Service) -> None:
    """Wrapped, flat, with a status, several in one, as a bare list."""
    for shape in (
        lambda item: {"data": [item]},
        lambda item: item,
        lambda item: {"data": item},
        lambda item: {"data": [{**item, "status": "success"}]},
        lambda item: {**item, "status": "success"},
        lambda item: [item],
        lambda item: {"data": [{**item, "imageUUID": None}, item]},
        lambda item: {"data": [item], "errors": []},
        lambda item: {"data": [item], "errors": None},
    ):
        state = await born(service.ctx, expected=4)
        body = shape(an_item(state))
        answer = await service.deliver(state.id, body)
        assert answer.status == 200
        assert delivered(await service.ctx.runtime.get_state(state.id)) == [IMAGE], body


async def test_an_error_is_taken_in_every_shape(service: Service) -> None:
    """In `errors`, flat, with an `error` object; it is an output with Runware's own words."""
    for shape in (
        lambda task: {"errors": [{**task, "code": "inferenceError", "message": "m"}]},
        lambda task: {"data": [], "errors": [{**task, "code": "inferenceError", "message": "m"}]},
        lambda task: {"errors": {**task, "code": "inferenceError", "message": "m"}},
        lambda task: {**task, "status": "error", "code": "inferenceError", "message": "m"},
        lambda task: {**task, "status": "error", "error": {"code": "inferenceError", "message": "m"}},
        lambda task: {"data": [{**task, "status": "error", "error": {"code": "inferenceError", "message": "m"}}]},
    ):
        state = await born(service.ctx)
        body = shape({"taskType": "imageInference", "taskUUID": str(state.task_uuid)})
        answer = await service.deliver(state.id, body)
        after = await service.ctx.runtime.get_state(state.id)
        assert answer.status == 200
        assert error_codes(after) == ["webhook_error"], body
        assert "inferenceError" in after.model_dump_json()


async def test_processing_is_no_result(service: Service) -> None:
    """It shows that Runware has the task, and nothing else."""
    state = await born(service.ctx)

    answer = await service.deliver(
        state.id, {"data": [{"taskUUID": str(state.task_uuid), "status": "processing", "progress": 40}]}
    )

    after = await service.ctx.runtime.get_state(state.id)
    assert answer.status == 200
    assert (after.outputs, delivered(after), after.dispatch) == ([], [], "accepted")


HOSTILE: list[bytes] = [
    b"",
    b"not json",
    b"\xff\xfe\x00",
    b"null",
    b"7",
    b"9" * 5_000,
    b'"text"',
    b"[]",
    b"{}",
    b"[null]",
    b"[[[]]]",
    b'{"data":7}',
    b'{"data":[7,"x",null,[],{}]}',
    b'{"errors":[7]}',
    b'{"data":[{"imageUUID":7,"imageURL":[]}]}',
    b'{"version":2,"result":{"tasks":[]}}',
    b"[" * 30_000,
    b"[" * 30_000 + b"]" * 30_000,
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    b'{"data":[{"imageUUID":"\\u0000","imageURL":"https://x/\\u0000"}]}',
    b'{"data":[{"imageUUID":"\\ud800","imageURL":"https://x/\\udfff","k\\ud800":1}]}',
    b'{"data":[{"imageUUID":"a","imageURL":"https://x/a.jpg","cost":NaN,"seed":Infinity}]}',
    b'{"data":[{"imageUUID":"a","imageURL":"https://x/a.jpg","seed":1' + b"0" * 100 + b',"cost":1e999}]}',
    b'{"data":[{"imageUUID":"a","imageURL":"https://x/a.jpg","cost":"0.1","seed":true}]}',
    b'{"data":[' + b",".join(b'{"imageUUID":"%d"}' % number for number in range(2_000)) + b"]}",
    b'{"data":[' + b",".join(b"{}" for _ in range(20_000)) + b"]}",
    b'{"errors":[' + b",".join(b'{"code":"c%d"}' % number for number in range(2_000)) + b"]}",
    b'{"data":[{"imageUUID":"a","imageURL":"' + b"x" * 60_000 + b'"}]}',
    b'{"data":[{"imageUUID":"a","imageURL":"https://x/a.jpg","taskUUID":"someone else\'s"}]}',
    b'{"status":"error"}',
    b'{"code":[1,2],"message":{}}',
    b'{"data":[{"status":7,"imageUUID":"a"}]}',
]


async def test_no_body_changes_the_answer_or_is_lost(service: Service) -> None:
    """Whatever comes with a valid token is answered 200 and can be found again: as an output, or as unclaimed."""
    for body in HOSTILE:
        state = await born(service.ctx)
        unclaimed = (await service.ctx.runtime.stats()).unclaimed
        answer = await service.deliver(state.id, body)
        assert answer.status == 200, body[:60]
        after = await service.ctx.runtime.get_state(state.id)
        kept = after.outputs or delivered(after) or (await service.ctx.runtime.stats()).unclaimed > unclaimed
        assert kept or body == b"[]", body[:60]
        assert (await service.get(f"/v1/generations/{state.id}")).status == 200, body[:60]


async def test_hostile_bodies_harm_nobody_elses_delivery(service: Service) -> None:
    """Committed together, a poisoned call fails alone."""
    state = await born(service.ctx, expected=20)
    poisoned = [await born(service.ctx) for _ in HOSTILE]
    names = [f"image-{number}" for number in range(20)]

    answers = await asyncio.gather(
        *(service.deliver(each.id, body) for each, body in zip(poisoned, HOSTILE, strict=True)),
        *(service.deliver(state.id, {"data": [an_item(state, imageUUID=name)]}) for name in names),
    )

    assert {answer.status for answer in answers} == {200}
    assert sorted(names) == sorted(delivered(await service.ctx.runtime.get_state(state.id)), key=str)


async def test_a_body_that_is_no_result_shows_as_a_validation_error_once(service: Service) -> None:
    """An operator sees what came; a repeat is the same output."""
    state = await born(service.ctx)

    for _ in range(3):
        await service.deliver(state.id, b"<html>502</html>")

    after = await service.ctx.runtime.get_state(state.id)
    assert error_codes(after) == ["validation"]
    assert "<html>502</html>" in after.model_dump_json()
    assert after.counts.missing == 1


async def test_a_flood_of_nonsense_stays_bounded(service: Service) -> None:
    """Sixteen invalid deliveries are kept for a generation, the rest is dropped; the state does not grow."""
    state = await born(service.ctx)

    await asyncio.gather(*(service.deliver(state.id, b"nonsense %d" % number) for number in range(100)))

    after = await service.ctx.runtime.get_state(state.id)
    assert len(after.outputs) == 16
    assert len(after.timeline) <= 64


# What belongs to nobody


async def test_a_delivery_for_an_unknown_generation_is_kept_as_unclaimed(service: Service) -> None:
    """The token proves that we gave this address away: a restored backup, say, must not lose what was paid for."""
    generation_id = uuid4()

    answers = [await service.deliver(generation_id, {"data": [{"imageUUID": IMAGE}]}) for _ in range(2)]

    (kept,) = await service.ctx.runtime.unclaimed()
    assert [answer.status for answer in answers] == [200, 200]
    assert (kept.generation_id, kept.reason) == (generation_id, "unknown_generation")
    assert json.loads(kept.body) == {"data": [{"imageUUID": IMAGE}]}


async def test_a_delivery_that_cannot_be_recorded_is_kept_as_unclaimed(tmp_path: Path) -> None:
    """A newer release wrote this state: the result waits until somebody can read it."""
    state = await born_of_a_newer_release(tmp_path)
    async with a_service(tmp_path, runware_url="http://127.0.0.1:9/v1", work=False) as service:
        answer = await service.deliver(state.id, {"data": [an_item(state)]})
        (kept,) = await service.ctx.runtime.unclaimed()

    assert answer.status == 200
    assert kept.generation_id == state.id
    assert kept.reason == "record_webhook raised StateTooNew"
    assert json.loads(kept.body) == {"data": [an_item(state)]}


async def born_of_a_newer_release(tmp_path: Path) -> GenerationState:
    """A generation whose state this release cannot read."""
    async with a_context(tmp_path, work=False) as ctx:
        state = await born(ctx)
    with closing(sqlite3.connect(tmp_path / "data" / "state.db", isolation_level=None)) as file:
        file.execute(
            "UPDATE generations SET register = json_set(register, '$.schema', 99) WHERE id = ?", [state.id.bytes]
        )
    return state


async def test_a_result_of_a_foreign_task_is_kept_as_unclaimed(service: Service) -> None:
    """It is somebody's, but not this generation's; what stands beside it counts."""
    state = await born(service.ctx, expected=2)
    stranger = an_item(state, taskUUID=str(uuid4()), imageUUID="foreign")

    answer = await service.deliver(state.id, {"data": [stranger, an_item(state)]})

    (kept,) = await service.ctx.runtime.unclaimed()
    assert answer.status == 200
    assert (kept.reason, json.loads(kept.body)["data"][0]["imageUUID"]) == ("foreign_task", "foreign")
    assert delivered(await service.ctx.runtime.get_state(state.id)) == [IMAGE]


async def test_a_delivery_for_a_deleted_generation_is_dropped(service: Service) -> None:
    """Who deleted it does not want it back: 200, so that Runware stops, and nothing is kept."""
    state = await born(service.ctx)
    await get_generation_stub(service.ctx, state.id).tell("delete")
    before = await service.ctx.runtime.get_state(state.id)

    answer = await service.deliver(state.id, {"data": [an_item(state)]})

    assert answer.status == 200
    assert before == await service.ctx.runtime.get_state(state.id)
    assert (await service.ctx.runtime.stats()).unclaimed == 0


# In somebody else's application


async def deliver_to(url: str, ctx: Context, state: GenerationState, prefix: str = "") -> int:
    """Deliver a result at this address; the status of the answer."""
    address = ctx.tokens.webhook_url(url + prefix, state.id)
    async with aiohttp.ClientSession() as session, session.post(address, json={"data": [an_item(state)]}) as answer:
        return answer.status


async def test_it_mounts_in_a_foreign_starlette_application(tmp_path: Path) -> None:
    """Beside routes of its own, or below a prefix that `PUBLIC_URL` names."""
    async with a_context(tmp_path, work=False) as ctx:
        state, other = await born(ctx), await born(ctx)
        app = Starlette(
            routes=[
                Route("/", lambda _: PlainTextResponse("mine")),
                webhook(ctx),
                Mount("/below", routes=[webhook(ctx)]),
            ]
        )
        async with served(app) as url:
            statuses = [await deliver_to(url, ctx, state), await deliver_to(url, ctx, other, "/below")]

        assert statuses == [200, 200]
        assert delivered(await ctx.runtime.get_state(state.id)) == [IMAGE]
        assert delivered(await ctx.runtime.get_state(other.id)) == [IMAGE]


async def test_it_mounts_in_a_foreign_fastapi_application(tmp_path: Path) -> None:
    """Its middleware runs, its own routes work, and it stays out of its documentation."""
    async with a_context(tmp_path, work=False) as ctx:
        state = await born(ctx)
        app = FastAPI()
        app.router.routes.append(webhook(ctx))
        async with served(app) as url:
            status = await deliver_to(url, ctx, state)

        assert status == 200
        assert delivered(await ctx.runtime.get_state(state.id)) == [IMAGE]
        assert "/webhooks/runware" not in app.openapi()["paths"]


# The token stays a secret


async def test_no_log_shows_a_token(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Deliveries of every kind, with everything that anybody logs."""
    caplog.set_level(logging.DEBUG)
    broken = await born_of_a_newer_release(tmp_path)
    async with a_service(tmp_path, runware_url="http://127.0.0.1:9/v1", work=False, max_body_bytes=65_536) as service:
        statuses, tokens = await deliveries_of_every_kind(service, tmp_path, broken)

    assert statuses == [200, 200, 200, 200, 401, 413, 503]
    assert "webhook_not_committed" in caplog.text
    assert "webhook_unclaimed" in caplog.text
    assert [token for token in tokens if token in caplog.text] == []
    assert "token=" not in caplog.text


async def deliveries_of_every_kind(
    service: Service, tmp_path: Path, broken: GenerationState
) -> tuple[list[int], list[str]]:
    """How they were answered, and the tokens that they carried."""
    state, unknown = await born(service.ctx), uuid4()
    wrong = WebhookTokens(["guess"]).token(state.id)

    statuses = [
        (await service.deliver(state.id, {"data": [an_item(state)]})).status,
        (await service.deliver(state.id, b"nonsense")).status,
        (await service.deliver(unknown, {})).status,
        (await service.deliver(broken.id, {"data": [an_item(broken)]})).status,
        (await service.deliver(state.id, {}, token=wrong)).status,
        (await service.post(address(service, state.id), data=b" " * 70_000)).status,
    ]
    with locked(tmp_path / "data" / "state.db"):
        statuses.append((await service.deliver(state.id, {"errors": [{"code": "c"}]})).status)

    return statuses, [wrong, *(service.ctx.tokens.token(each) for each in (state.id, broken.id, unknown))]


async def test_not_even_a_foreign_servers_access_log_shows_a_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """uvicorn writes path and query of every request, unless the query is taken out of it."""
    caplog.set_level(logging.DEBUG)
    async with a_context(tmp_path, work=False) as ctx:
        state = await born(ctx)
        async with served(Starlette(routes=[webhook(ctx)])) as url:
            await deliver_to(url, ctx, state)
        token = ctx.tokens.token(state.id)

    assert "POST /webhooks/runware" in caplog.text
    assert token not in caplog.text


async def test_what_runware_echoes_of_our_address_is_redacted(service: Service) -> None:
    """It repeats the request in some errors; clients must not read the token there."""
    state = await born(service.ctx)
    hook = service.ctx.tokens.webhook_url("https://images.example.com", state.id)
    task = {"taskUUID": str(state.task_uuid), "code": "c", "message": f"could not deliver to {hook}"}

    await service.deliver(state.id, {"errors": [{**task, "request": {"webhookURL": hook}}]})
    await service.deliver(state.id, f"no JSON but {hook}".encode())
    await service.deliver(state.id, {"data": [an_item(state, webhookURL=hook, note=hook.replace("&", "&amp;"))]})

    text = (await service.get(f"/v1/generations/{state.id}")).body.decode()
    assert "could not deliver to" in text
    assert service.ctx.tokens.token(state.id) not in text
