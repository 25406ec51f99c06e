"""The client API: what each route answers, and that it is documented."""

import json
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from tests.service import Answer, a_service, an_input, images


async def test_a_request_is_answered_with_an_id_at_once(tmp_path: Path) -> None:
    """202, the state, and where to look."""
    async with a_service(tmp_path) as service:
        answer = await service.post("/v1/generations", json={"input": an_input(), "metadata": {"order": "7"}})

        assert answer.status == 202
        assert answer.headers["location"] == f"/v1/generations/{answer.json['id']}"
        assert answer.json["metadata"] == {"order": "7"}
        assert answer.json["input"] == an_input()


async def test_prefer_wait_answers_when_it_is_done(tmp_path: Path) -> None:
    """For callers that have no better way to wait."""
    async with a_service(tmp_path) as service:
        answer = await service.post(
            "/v1/generations", json={"input": an_input()}, headers={"Prefer": "wait=10", "Idempotency-Key": "k"}
        )

        assert (answer.json["status"], answer.json["settled"]) == ("completed", True)
        again = await service.post("/v1/generations", json={"input": an_input()}, headers={"Idempotency-Key": "k"})
        assert again.json["id"] == answer.json["id"]


@pytest.mark.parametrize(
    ("body", "status", "fields"),
    [
        ({"input": an_input(width="x")}, 422, ["input.width"]),
        ({"input": an_input(webhookURL="https://evil.example")}, 422, ["input.webhookURL"]),
        ({"input": {"positivePrompt": "a fox"}}, 422, ["input.model"]),
        ({"input": an_input(), "colour": "red"}, 422, ["colour"]),
        ({"input": an_input(), "metadata": {"a": 5}}, 422, ["metadata.a"]),
        ({}, 422, ["input"]),
        ("{", 400, ["body"]),
    ],
)
async def test_bad_input_is_a_problem_that_names_the_field(
    tmp_path: Path, body: Any, status: int, fields: list[str]
) -> None:
    """And says what it must be; nothing was kept."""
    async with a_service(tmp_path) as service:
        data = body if isinstance(body, str) else json.dumps(body)
        answer = await service.post("/v1/generations", data=data, headers={"Content-Type": "application/json"})

        assert (answer.status, answer.fields) == (status, fields)
        assert (await service.ctx.runtime.stats()).running == 0


async def test_runwares_refusal_comes_with_the_id_and_its_own_words(tmp_path: Path) -> None:
    """The field that Runware names is named, and its error objects are whole."""
    async with a_service(tmp_path) as service:
        answer = await service.post("/v1/generations", json={"input": an_input(width=100)})

        assert (answer.status, answer.fields) == (422, ["input.width"])
        assert answer.problem["runware_errors"][0]["multiplier"] == 64
        state = (await service.get(f"/v1/generations/{answer.problem['generation_id']}")).json
        assert (state["status"], state["error"]["code"]) == ("failed", "api_rejected")


async def test_a_wrong_key_of_runware_is_the_operators_to_mend(tmp_path: Path) -> None:
    """502, not 401: the client cannot do anything about it."""
    async with a_service(tmp_path, runware_api_key=SecretStr("wrong-key")) as service:
        answer = await service.post("/v1/generations", json={"input": an_input()})

        assert answer.status == 502
        assert "RUNWARE_API_KEY" in answer.problem["detail"]
        assert "wrong-key" not in answer.body.decode()


async def test_an_image_is_served_whole_in_parts_and_not_again(tmp_path: Path) -> None:
    """Ranges and validators, as browsers and download managers use them."""
    async with a_service(tmp_path) as service:
        state = await service.made()
        [output] = images(state)
        path = f"/v1/generations/{state.id}/outputs/{output.id}/content"

        async def get(**headers: str) -> Answer:
            return await service.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})

        whole = await get()
        size, etag = output.size_bytes, whole.headers["etag"]
        assert (whole.status, len(whole.body), whole.headers["content-type"]) == (200, size, output.content_type)
        assert whole.headers["x-content-type-options"] == "nosniff"
        part = await get(Range="bytes=10-19")
        assert (part.status, part.body, part.headers["content-range"]) == (
            206,
            whole.body[10:20],
            f"bytes 10-19/{size}",
        )
        assert (await get(Range="bytes=-5")).body == whole.body[-5:]
        assert (await get(Range=f"bytes={size - 3}-")).body == whole.body[-3:]
        assert (await get(Range="bytes=5-2")).status == 200
        assert (await get(Range="bytes=0-1", If_Range='"other"')).status == 200
        beyond = await get(Range=f"bytes={size}-")
        assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{size}")
        assert (await get(If_None_Match=etag)).status == 304
        head = await service.ask("HEAD", path, headers={"Range": "bytes=0-1"})
        assert (head.status, head.headers["content-length"], head.body) == (200, str(size), b"")


async def test_unknown_things_are_404_and_wrong_ids_are_said(tmp_path: Path) -> None:
    """Never 'done'."""
    async with a_service(tmp_path) as service:
        state = await service.made()
        unknown = uuid4()
        for path in (
            f"/v1/generations/{unknown}",
            f"/v1/generations/{unknown}/events",
            f"/v1/generations/{unknown}/outputs/{unknown}/content",
            f"/v1/generations/{state.id}/outputs/{unknown}",
            f"/v1/generations/{state.id}/outputs/{unknown}/content",
            f"/v1/generations/{state.id}/outputs/..%2f..%2fetc%2fpasswd/content",
            "/v1/nothing",
        ):
            answer = await service.get(path)
            assert answer.problem["status"] == 404, path
        assert (await service.get("/v1/generations/nonsense")).fields == ["generation_id"]
        assert (await service.post(f"/v1/generations/{unknown}/replay")).status == 404


async def test_the_list_is_filtered_and_paged(tmp_path: Path) -> None:
    """By your own labels too; an unknown filter is said."""
    async with a_service(tmp_path) as service:
        for number in range(3):
            await service.made(metadata={"order": str(number)})

        first = (await service.get("/v1/generations?limit=2")).json
        rest = (await service.get("/v1/generations", params={"limit": "2", "cursor": first["next_cursor"]})).json
        assert [item["metadata"]["order"] for item in (*first["items"], *rest["items"])] == ["2", "1", "0"]
        assert rest["next_cursor"] is None
        found = (await service.get("/v1/generations?metadata.order=1&status=completed")).json
        assert [item["metadata"]["order"] for item in found["items"]] == ["1"]
        assert (await service.get("/v1/generations?colour=red")).fields == ["colour"]
        assert (await service.get("/v1/generations?cursor=nonsense")).fields == ["cursor"]
        assert (await service.get("/v1/generations?limit=1000")).fields == ["limit"]


async def test_events_follow_a_generation_until_it_is_settled(tmp_path: Path) -> None:
    """Each holds the whole state under its version, so that a reconnect loses nothing."""
    async with a_service(tmp_path) as service:
        state = await service.create(numberResults=2)
        text = (await service.get(f"/v1/generations/{state.id}/events")).body.decode()

        versions = [int(each) for each in re.findall(r"^id: (\d+)$", text, re.MULTILINE)]
        last = json.loads(text.rpartition("data: ")[2])
        assert versions == sorted(set(versions))
        assert (last["settled"], last["counts"]["stored"]) == (True, 2)


async def test_tokens_are_asked_for_when_there_are_any(tmp_path: Path) -> None:
    """Either of two, so that one can be changed; health is open."""
    tokens = (SecretStr("new-token"), SecretStr("old-token"))
    async with a_service(tmp_path, client_tokens=tokens) as service:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic new-token"}):
            answer = await service.get("/v1/generations", headers=headers)
            assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
            assert "new-token" not in answer.body.decode()
        for token in ("new-token", "old-token"):
            answer = await service.get("/v1/generations", headers={"Authorization": f"bearer {token}"})
            assert answer.status == 200
        assert (await service.get("/healthz")).status == 200


async def test_without_tokens_only_this_machine_is_answered(tmp_path: Path) -> None:
    """A web page could reach loopback through a name of its own; its Host gives it away."""
    async with a_service(tmp_path) as service:
        for host, status in (("evil.example", 403), ("localhost:80", 200), ("LOCALHOST", 200), ("[::1]:5", 200)):
            assert (await service.get("/v1/generations", headers={"Host": host})).status == status, host


async def test_bodies_and_queries_have_limits(tmp_path: Path) -> None:
    """Announced or not."""
    async with a_service(tmp_path, max_request_bytes=1_000) as service:

        async def chunks() -> Any:
            for _ in range(20):
                yield b"x" * 100

        announced = await service.post("/v1/generations", data=b"x" * 2_000)
        chunked = await service.post("/v1/generations", data=chunks(), headers={"Content-Type": "application/json"})
        query = await service.get("/v1/generations?status=" + "x" * 9_000)

        assert (announced.status, chunked.status, query.status) == (413, 413, 431)


async def test_models_are_found(tmp_path: Path) -> None:
    """Runware's catalogue, by Runware's own filters."""
    async with a_service(tmp_path) as service:
        page = (await service.get("/v1/models?search=flux&limit=2")).json

        assert len(page["results"]) == 2
        assert all("air" in model for model in page["results"])
        assert (await service.get("/v1/models?limit=0")).fields == ["limit"]


async def test_the_doctor_finds_everything_well_and_says_what_is_not(tmp_path: Path) -> None:
    """Each with its remedy; a webhook is sent through the public address."""
    async with a_service(tmp_path) as service:
        well = (await service.get("/v1/doctor?deep=true")).json
        assert well["healthy"], well
        await service.deliver(uuid4(), {"data": []})
        for _ in range(101):
            await service.deliver(uuid4(), {}, token="wrong")

        checks = {check["name"]: check for check in (await service.get("/v1/doctor")).json["checks"]}

        assert {name for name, check in checks.items() if check["status"] == "warn"} == {"unclaimed", "webhook tokens"}
        assert all(check["remedy"] for check in checks.values() if check["status"] != "ok")


async def test_the_document_has_every_route(tmp_path: Path) -> None:
    """The plain ones, too; clients are made from it."""
    async with a_service(tmp_path) as service:
        paths = (await service.get("/openapi.json")).json["paths"]

        assert "/webhooks/runware" in paths
        assert "/v1/generations/{generation_id}/outputs/{output_id}/content" in paths
        assert {"get", "delete"} <= set(paths["/v1/generations/{generation_id}"])
