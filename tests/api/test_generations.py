"""Generations over HTTP: every route, what it answers, and how it says that something is wrong."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from runware_provider.types import GenerationState
from tests.api.conftest import undocumented
from tests.service import (
    RawRunware,
    Service,
    a_service,
    acknowledges,
    an_input,
    eventually,
    hangs_up,
    images,
    locked,
    says,
)

# Create


async def test_a_request_for_images_is_accepted_with_its_state_and_its_address(service: Service) -> None:
    """202: it is committed and under way; `Location` is where to look."""
    answer = await service.post("/v1/generations", json={"input": an_input(), "metadata": {"a": "b"}})

    state = GenerationState.model_validate_json(answer.body)
    assert answer.status == 202
    assert answer.headers["location"] == f"/v1/generations/{state.id}"
    assert answer.headers["content-type"] == "application/json"
    assert (state.input, state.metadata) == (an_input(), {"a": "b"})
    assert (await service.get(answer.headers["location"])).json["id"] == str(state.id)


async def test_waiting_is_preferred_by_a_header(service: Service) -> None:
    """`Prefer: wait=10` gives the images with the first answer."""
    answer = await service.post("/v1/generations", json={"input": an_input()}, headers={"Prefer": "wait=10"})

    assert answer.status == 202
    assert (answer.json["status"], answer.json["settled"], answer.json["counts"]["stored"]) == ("completed", True, 1)


async def test_a_wait_ends_with_what_there_is_then(tmp_path: Path) -> None:
    """Still 202, still running."""
    async with a_service(tmp_path, {"on": "task", "do": "stuck"}) as service:
        answers = [
            await service.post("/v1/generations", json={"input": an_input()}, headers={"Prefer": prefer})
            for prefer in ("wait=0", "respond-async", "wait=x")
        ]

        assert [(answer.status, answer.json["status"]) for answer in answers] == [(202, "running")] * 3


@pytest.mark.parametrize("how", ["header", "body"])
async def test_the_same_idempotency_key_gives_the_same_generation(service: Service, how: str) -> None:
    """By header or in the body; another input under it is a conflict."""

    async def send(**changes: Any) -> Any:
        body: dict[str, Any] = {"input": an_input(**changes)}
        headers = {"Idempotency-Key": "k"} if how == "header" else {}
        if how == "body":
            body["idempotency_key"] = "k"
        return await service.post("/v1/generations", json=body, headers=headers)

    first, again, other = await send(), await send(), await send(seed=9)

    assert (first.status, again.status, other.status) == (202, 202, 409)
    assert first.json["id"] == again.json["id"]
    assert other.problem["detail"]


async def test_twenty_clients_with_one_key_pay_once(service: Service) -> None:
    """A retrying proxy, say."""
    answers = await asyncio.gather(
        *(
            service.post("/v1/generations", json={"input": an_input()}, headers={"Idempotency-Key": "k"})
            for _ in range(20)
        )
    )

    assert {answer.status for answer in answers} == {202}
    assert len({answer.json["id"] for answer in answers}) == 1
    assert service.simulator is not None
    assert service.simulator.ledger.totals.billed == 1


async def test_the_key_of_a_deleted_generation_is_a_conflict(service: Service) -> None:
    """The client sends a new one if it wants a new image."""
    body, headers = {"input": an_input()}, {"Idempotency-Key": "k"}
    first = await service.post("/v1/generations", json=body, headers=headers)
    await service.delete(first.headers["location"])

    again = await service.post("/v1/generations", json=body, headers=headers)

    assert again.status == 409
    assert "deleted" in again.problem["detail"]


async def test_a_client_that_hangs_up_leaves_its_generation_going(tmp_path: Path) -> None:
    """It was paid for."""
    fault = {"on": "dispatch", "do": "slow", "seconds": 0.2}
    async with a_service(tmp_path, fault, delivery="poll") as service:
        assert service.simulator is not None
        totals = service.simulator.ledger.totals
        asking = asyncio.create_task(service.post("/v1/generations", json={"input": an_input()}))
        await eventually(lambda: totals.billed == 1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        (generation_id,) = await service.ctx.runtime.ids()

        assert len(images(await service.settled(generation_id))) == 1


WRONG_BODIES: list[tuple[Any, list[str]]] = [
    ({}, ["input"]),
    ({"input": None}, ["input"]),
    ({"input": []}, ["input"]),
    ({"input": {}}, ["input.model"]),
    ({"input": an_input(), "unknown": 1}, ["unknown"]),
    ({"input": an_input(), "metadata": {"a": 1}}, ["metadata.a"]),
    ({"input": an_input(), "metadata": []}, ["metadata"]),
    ({"input": an_input(), "idempotency_key": ""}, ["idempotency_key"]),
    ({"input": an_input(), "idempotency_key": "x" * 256}, ["idempotency_key"]),
    ({"input": an_input(width=0, height="x")}, ["input.height", "input.width"]),
    ({"input": an_input(taskUUID="x", webhookURL="y")}, ["input.taskUUID", "input.webhookURL"]),
    ({"input": an_input(numberResults=1000)}, ["input.numberResults"]),
]


async def test_a_wrong_field_is_named(service: Service) -> None:
    """In words for people and in a list for programs; nothing is created."""
    for body, fields in WRONG_BODIES:
        answer = await service.post("/v1/generations", json=body)
        assert answer.status == 422, body
        assert sorted(answer.fields) == fields, body
        assert all(field in answer.problem["detail"] for field in fields), body
    assert await service.ctx.runtime.ids() == []


async def test_a_body_that_is_no_json_is_said_to_be_none(service: Service) -> None:
    """Whatever it is instead: never a 5xx."""
    for body in (b"", b"{", b"\xff\xfe", b"[" * 100_000, b"NaN", b"null", b"7", b'"text"', b"[]", b"9" * 5_000):
        answer = await service.post("/v1/generations", data=body, headers={"Content-Type": "application/json"})
        assert answer.status in {400, 422}, body[:20]
        assert answer.problem["detail"], body[:20]


async def test_json_must_be_called_json(service: Service) -> None:
    """`curl -d` sends a form; and a foreign page may send only that without being asked first."""
    for content_type in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
        answer = await service.post(
            "/v1/generations", data=json.dumps({"input": an_input()}).encode(), headers={"Content-Type": content_type}
        )
        assert answer.status == 415, content_type
        assert "application/json" in answer.problem["detail"]
    none = await service.post(
        "/v1/generations", data=json.dumps({"input": an_input()}).encode(), skip_auto_headers=["Content-Type"]
    )
    assert none.status == 415
    assert await service.ctx.runtime.ids() == []


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/vnd.mine+json"])
async def test_other_names_of_json_will_do(service: Service, content_type: str) -> None:
    """As RFC 6839 has them."""
    body = json.dumps({"input": an_input()}).encode()

    assert (await service.post("/v1/generations", data=body, headers={"Content-Type": content_type})).status == 202


async def test_a_body_that_is_too_large_is_refused_announced_or_not(tmp_path: Path) -> None:
    """By its length, or when the pieces add up."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"input":"'
        for _ in range(20):
            yield b"x" * 10_000

    async with a_service(tmp_path, max_request_bytes=100_000) as service:
        headers = {"Content-Type": "application/json"}
        announced = await service.post("/v1/generations", data=b"x" * 100_001, headers=headers)
        streamed = await service.post("/v1/generations", data=pieces(), headers=headers)
        within = await service.post("/v1/generations", json={"input": an_input(seedImage="x" * 99_000)})

        assert (announced.status, streamed.status, within.status) == (413, 413, 202)
        assert announced.fields == streamed.fields == ["body"]
        assert "MAX_REQUEST_BYTES" in announced.problem["detail"]
        assert undocumented(service) == []


async def test_a_refusal_of_runwares_is_a_problem_with_the_id_and_runwares_own_words(service: Service) -> None:
    """The caller can mend `width`; the whole object is there, with `min` and `max`."""
    answer = await service.post("/v1/generations", json={"input": an_input(width=100)})

    assert answer.status == 422
    assert answer.fields == ["input.width"]
    assert answer.problem["runware_errors"][0]["max"] == 2048
    state = (await service.get(f"/v1/generations/{answer.problem['generation_id']}")).json
    assert (state["status"], state["error"]["code"]) == ("failed", "api_rejected")


async def test_a_refused_request_sent_again_under_its_key_is_refused_again(service: Service) -> None:
    """The same answer, and no second generation."""
    answers = [
        await service.post("/v1/generations", json={"input": an_input(width=100)}, headers={"Idempotency-Key": "k"})
        for _ in range(2)
    ]

    assert [answer.status for answer in answers] == [422, 422]
    assert answers[0].problem == answers[1].problem


async def test_who_can_mend_a_refusal_shows_in_its_status(tmp_path: Path) -> None:
    """422 the caller, 402 who pays, 502 the operator: a key that does not work is not the caller's fault."""
    words = {"errors": [{"code": "c", "message": "in Runware's words"}]}
    async with RawRunware(acknowledges) as raw, a_service(tmp_path, runware_url=raw.url) as service:
        for status, expected in ((400, 422), (401, 502), (402, 402), (403, 502), (404, 422), (422, 422)):
            raw.replies = [says(words, f"{status} X")]
            answer = await service.post("/v1/generations", json={"input": an_input()})
            assert answer.status == expected, status
            assert "in Runware's words" in answer.problem["detail"], status
            assert answer.problem["generation_id"], status
            assert ("RUNWARE_API_KEY" in answer.problem["detail"]) == (status in {401, 403}), status

            raw.replies = [says(b"<html>no</html>", f"{status} X")]  # a proxy's, say
            answer = await service.post("/v1/generations", json={"input": an_input()})
            assert answer.status == 502, status
            assert answer.problem["generation_id"], status
        assert undocumented(service) == []


async def test_an_unknown_outcome_is_not_an_error(tmp_path: Path) -> None:
    """Never 5xx for what may still succeed."""
    async with RawRunware(acknowledges) as raw, a_service(tmp_path, runware_url=raw.url) as service:
        for reply in (hangs_up, says(b"", "500 X"), says(b"", "502 X"), says(b"", "504 X"), says(b"garbage")):
            raw.replies = [reply]
            answer = await service.post("/v1/generations", json={"input": an_input()})
            assert (answer.status, answer.json["dispatch"]) == (202, "unknown")


async def test_a_runware_without_capacity_until_the_deadline_is_not_the_callers_fault(tmp_path: Path) -> None:
    """502: there was nothing wrong with the input."""
    busy = says({"errors": [{"code": "noCapacity", "message": "busy"}]}, "503 X")
    async with (
        RawRunware(busy) as raw,
        a_service(tmp_path, runware_url=raw.url, deadline=timedelta(seconds=1)) as service,
    ):
        answer = await service.post("/v1/generations", json={"input": an_input()})

        assert answer.status == 502
        assert undocumented(service) == []


async def test_too_many_in_flight_is_429_with_the_time_to_wait(tmp_path: Path) -> None:
    """The client learns when to come again."""
    async with a_service(tmp_path, {"on": "task", "do": "stuck"}, max_in_flight=1) as service:
        first = await service.post("/v1/generations", json={"input": an_input()})
        second = await service.post("/v1/generations", json={"input": an_input()})

        assert (first.status, second.status) == (202, 429)
        assert int(second.headers["retry-after"]) > 0
        assert "MAX_IN_FLIGHT" in second.problem["detail"]
        assert undocumented(service) == []


async def test_without_a_key_creating_is_unavailable_and_the_rest_works(tmp_path: Path) -> None:
    """The operator must set it; images that are there can be looked at."""
    async with a_service(tmp_path, runware_api_key=None) as service:
        answers = {
            "create": await service.post("/v1/generations", json={"input": an_input()}),
            "models": await service.get("/v1/models"),
            "reconcile": await service.post("/v1/reconcile", json={}),
        }

        for name, answer in answers.items():
            assert answer.status == 503, name
            assert "RUNWARE_API_KEY" in answer.problem["detail"], name
        assert (await service.get("/v1/generations")).status == 200
        assert undocumented(service) == []


async def test_a_state_store_that_cannot_commit_is_unavailable(service: Service, tmp_path: Path) -> None:
    """503 with `Retry-After`: nothing was accepted, and nobody billed; reading works meanwhile."""
    state = await service.made()
    with locked(tmp_path / "data" / "state.db"):
        create = await service.post("/v1/generations", json={"input": an_input()})
        delete = await service.delete(f"/v1/generations/{state.id}")
        show = await service.get(f"/v1/generations/{state.id}")

    assert (create.status, delete.status, show.status) == (503, 503, 200)
    assert int(create.headers["retry-after"]) > 0
    assert service.simulator is not None
    assert service.simulator.ledger.totals.billed == 1


# Look


async def test_a_generation_shows_all_there_is_to_know(service: Service) -> None:
    """The state as the library has it, in the same names."""
    state = await service.made(numberResults=2)
    answer = await service.get(f"/v1/generations/{state.id}")

    assert answer.status == 200
    assert answer.body.decode() == state.model_dump_json()
    assert answer.json["created_at"].endswith("Z")


async def test_one_output_can_be_looked_at(service: Service) -> None:
    """A stored image or an error, told apart by `type`."""
    good = await service.made()
    service.stage({"on": "result", "do": "error"})
    bad = await service.made()

    for state, kind in ((good, "success"), (bad, "error")):
        (output,) = [each for each in state.outputs if each.type == kind][:1]
        answer = await service.get(f"/v1/generations/{state.id}/outputs/{output.id}")
        assert answer.status == 200
        assert (answer.json["type"], answer.json["id"]) == (kind, str(output.id))
        assert answer.json == next(
            each
            for each in (await service.get(f"/v1/generations/{state.id}")).json["outputs"]
            if each["id"] == str(output.id)
        )


async def test_what_does_not_exist_is_not_found_on_every_route(service: Service) -> None:
    """404 with a reason; never 'done', never an empty list. The same for what was deleted."""
    deleted = await service.made()
    output = deleted.outputs[0].id
    await service.delete(f"/v1/generations/{deleted.id}")
    for generation_id in (uuid4(), deleted.id):
        for method, rest in (
            ("GET", ""),
            ("GET", "/events"),
            ("GET", f"/outputs/{output}"),
            ("GET", f"/outputs/{output}/content"),
            ("POST", "/replay"),
            ("POST", "/retry"),
            ("DELETE", "/error"),
            ("DELETE", ""),
        ):
            answer = await service.ask(method, f"/v1/generations/{generation_id}{rest}")
            assert answer.status == 404, (method, rest)
            assert str(generation_id) in answer.problem["detail"], (method, rest)


async def test_an_unknown_output_is_not_found(service: Service) -> None:
    """Also with the id of somebody else's."""
    one, other = await service.made(), await service.made()

    for output_id in (uuid4(), other.outputs[0].id):
        for rest in ("", "/content"):
            answer = await service.get(f"/v1/generations/{one.id}/outputs/{output_id}{rest}")
            assert answer.status == 404
            assert answer.problem["detail"]


async def test_an_id_that_is_none_is_refused(service: Service) -> None:
    """With the name of the parameter."""
    answer = await service.get("/v1/generations/not-a-uuid")

    assert answer.status == 422
    assert answer.fields == ["generation_id"]
    assert (await service.get("/v1/generations/x/outputs/y/content")).status == 404


async def test_a_wrong_path_or_method_is_a_problem_too(service: Service) -> None:
    """In the same form as all others; `Allow` says what would have been right."""
    assert (await service.get("/v1/nothing")).problem["status"] == 404
    wrong = await service.ask("PATCH", "/v1/generations")
    assert wrong.problem["status"] == 405
    assert wrong.headers["allow"]


# Repair


async def test_repairs_answer_with_the_state(service: Service) -> None:
    """`replay` and `retry` are accepted, `clear` is done; all may be repeated."""
    state = await service.made()

    for _ in range(2):
        replay = await service.post(f"/v1/generations/{state.id}/replay")
        retry = await service.post(f"/v1/generations/{state.id}/retry")
        clear = await service.delete(f"/v1/generations/{state.id}/error")
        assert (replay.status, retry.status, clear.status) == (202, 202, 200)
        assert {answer.json["id"] for answer in (replay, retry, clear)} == {str(state.id)}
    assert service.billed(state) == 1


async def test_a_delete_answers_without_a_body_and_only_once(service: Service) -> None:
    """204, then 404."""
    state = await service.made()

    first = await service.delete(f"/v1/generations/{state.id}")
    second = await service.delete(f"/v1/generations/{state.id}")

    assert (first.status, first.body, second.status) == (204, b"", 404)


# List


async def test_the_list_is_newest_first_and_pages_follow_one_another(service: Service) -> None:
    """By a cursor, so that what is created meanwhile shifts nothing."""
    states = [await service.made() for _ in range(5)]
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await service.get("/v1/generations", params={"limit": "2"} | ({"cursor": cursor} if cursor else {}))
        assert page.status == 200
        seen += [item["id"] for item in page.json["items"]]
        cursor = page.json["next_cursor"]
        if len(seen) == 2:
            await service.made()

    assert seen == [str(state.id) for state in reversed(states)]


async def test_the_list_can_be_filtered(service: Service) -> None:
    """By status, model, times and one's own labels; all must hold."""
    old = await service.made(metadata={"project": "a", "größe x": "1 & 2"})
    new = await service.made(model="runware:100@1", metadata={"project": "b"})
    bad = await service.made(width=100, metadata={"project": "b"})
    between = old.created_at + (new.created_at - old.created_at) / 2

    for query, expected in (
        ({"status": "completed"}, [new, old]),
        ({"status": "failed"}, [bad]),
        ({"status": "running"}, []),
        ({"model": "runware:100@1"}, [new]),
        ({"metadata.project": "b"}, [bad, new]),
        ({"metadata.project": "b", "status": "completed"}, [new]),
        ({"metadata.größe x": "1 & 2"}, [old]),
        ({"metadata.project": "c"}, []),
        ({"created_after": between.isoformat()}, [bad, new]),
        ({"created_before": between.isoformat()}, [old]),
        ({"created_before": "2000-01-01T00:00:00Z"}, []),
    ):
        page = await service.get("/v1/generations", params=query)
        assert page.status == 200, query
        assert [item["id"] for item in page.json["items"]] == [str(state.id) for state in expected], query


async def test_a_filter_that_is_none_is_refused_by_name(service: Service) -> None:
    """A misspelt filter that is ignored would show everything."""
    for query, field in (
        ({"stauts": "failed"}, "stauts"),
        ({"status": "done"}, "status"),
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"cursor": "x" * 201}, "cursor"),
        ({"created_after": "yesterday"}, "created_after"),
        ({"created_after": "1764072000"}, "created_after"),
        ({"created_before": "0.5"}, "created_before"),
        ({"metadata": "x"}, "metadata"),
        ({"model": "x" * 257}, "model"),
    ):
        answer = await service.get("/v1/generations", params=query)
        assert answer.status == 422, query
        assert answer.fields == [field], query


async def test_a_filter_that_comes_twice_is_refused(service: Service) -> None:
    """All filters must hold, and none may be dropped without a word."""
    for name in ("status", "model", "metadata.order"):
        answer = await service.get(f"/v1/generations?{name}=failed&{name}=completed")
        assert (answer.status, answer.fields) == (422, [name])


async def test_a_damaged_state_is_said_to_be_so(tmp_path: Path) -> None:
    """Not "something went wrong": the operator can mend it, and nothing else is touched."""
    async with a_service(tmp_path) as service:
        state, other = await service.made(), await service.made()
    with closing(sqlite3.connect(tmp_path / "data" / "state.db", isolation_level=None)) as file:
        file.execute("UPDATE generations SET register = '{' WHERE id = ?", [state.id.bytes])

    async with a_service(tmp_path) as service:
        answer = await service.get(f"/v1/generations/{state.id}")

        assert answer.status == 500
        assert "backup" in answer.problem["detail"]
        assert (await service.get(f"/v1/generations/{other.id}")).status == 200


async def test_a_read_model_with_a_missing_table_is_unavailable_and_the_rest_works(
    service: Service, tmp_path: Path
) -> None:
    """What is being looked at now is served from the state."""
    state = await service.made()
    with closing(sqlite3.connect(tmp_path / "data" / "projection.db", isolation_level=None)) as database:
        database.execute("ALTER TABLE artifacts RENAME TO elsewhere")

    assert (await service.get("/v1/generations")).status == 503
    assert (await service.get(f"/v1/generations/{state.id}")).status == 200
    content = await service.get(f"/v1/generations/{state.id}/outputs/{state.outputs[0].id}/content")
    assert content.status == 200


async def test_a_generation_is_listed_as_running_before_it_is_complete(tmp_path: Path) -> None:
    """The read model has it from the start."""
    async with (
        RawRunware(acknowledges) as raw,
        a_service(tmp_path, runware_url=raw.url) as service,
    ):
        await service.post("/v1/generations", json={"input": an_input()})

        async def listed() -> bool:
            items = (await service.get("/v1/generations")).json["items"]
            return [item["status"] for item in items] == ["running"]

        await eventually(listed)
