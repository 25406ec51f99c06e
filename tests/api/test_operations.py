"""The catalogue, reconciling and replaying, health, and the document that describes it all."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import uuid4

from fastapi import FastAPI

from tests.api.conftest import undocumented
from tests.service import RawRunware, Service, a_service, an_input, eventually, hangs_up, images, locked, says

ROUTES = {
    ("POST", "/v1/generations"),
    ("GET", "/v1/generations"),
    ("GET", "/v1/generations/{generation_id}"),
    ("DELETE", "/v1/generations/{generation_id}"),
    ("GET", "/v1/generations/{generation_id}/events"),
    ("GET", "/v1/generations/{generation_id}/outputs/{output_id}"),
    ("GET", "/v1/generations/{generation_id}/outputs/{output_id}/content"),
    ("POST", "/v1/generations/{generation_id}/replay"),
    ("POST", "/v1/generations/{generation_id}/retry"),
    ("DELETE", "/v1/generations/{generation_id}/error"),
    ("POST", "/v1/generations/{generation_id}/rerun"),
    ("POST", "/v1/generations/{generation_id}/undelete"),
    ("GET", "/v1/events"),
    ("GET", "/v1/stats"),
    ("POST", "/v1/retry"),
    ("GET", "/v1/models"),
    ("POST", "/webhooks/runware"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
}


# Models


async def test_the_catalogue_can_be_searched(service: Service) -> None:
    """Runware's filters by Runware's names; lists by repeating them."""
    page = await service.get("/v1/models?search=flux&limit=2&category=checkpoint&tags=general")

    assert page.status == 200
    assert len(page.json["results"]) <= 2
    assert page.json["total_results"] >= len(page.json["results"]) > 0
    assert all(model["air"] for model in page.json["results"])


async def test_a_wrong_filter_of_the_catalogue_is_named(service: Service) -> None:
    """Also one that there is not."""
    for query, field in (
        ("limit=0", "limit"),
        ("serch=x", "serch"),
        ("visibility=none", "visibility"),
        ("offset=x", "offset"),
    ):
        answer = await service.get(f"/v1/models?{query}")
        assert answer.status == 422, query
        assert answer.fields == [field], query


async def test_a_runware_that_does_not_help_is_named_as_the_one(tmp_path: Path) -> None:
    """502 when it refused, 503 when trying again may help; never our 500."""
    words = {"errors": [{"code": "c", "message": "in Runware's words"}]}
    async with RawRunware(hangs_up) as raw, a_service(tmp_path, runware_url=raw.url) as service:
        for reply, status in (
            (says(words, "400 X"), 502),
            (says(words, "401 X"), 502),
            (says(b"", "500 X"), 503),
            (says(words, "429 X"), 503),
            (says(b"garbage"), 503),
            (says({"data": []}), 503),
            (hangs_up, 503),
        ):
            raw.replies = [reply]
            answer = await service.get("/v1/models")
            assert answer.status == status
            if status == 503:
                assert int(answer.headers["retry-after"]) > 0
            else:
                assert answer.problem["runware_errors"] == words["errors"]
        assert undocumented(service) == []


async def test_a_filter_that_runware_refuses_is_the_callers_to_mend(service: Service) -> None:
    """422 that names it, with Runware's own words."""
    answer = await service.get("/v1/models?search=flux&source=nowhere")

    assert (answer.status, answer.fields) == (422, ["source"])
    assert answer.problem["runware_errors"][0]["parameter"] == "source"


async def test_a_filter_that_runware_blames_but_nobody_sent_is_not_the_callers(tmp_path: Path) -> None:
    """Nor is a key that Runware does not take, whatever it calls the parameter."""
    for status, parameter in (("400 X", "taskUUID"), ("401 X", "search")):
        words = {"errors": [{"code": "c", "message": "m", "parameter": parameter}]}
        async with (
            RawRunware(says(words, status)) as raw,
            a_service(tmp_path / parameter, runware_url=raw.url) as service,
        ):
            assert (await service.get("/v1/models?search=flux")).status == 502


async def test_what_is_given_twice_is_refused(service: Service) -> None:
    """One of the two would be ignored; lists are repeated on purpose."""
    assert (await service.get("/v1/models?type=base&type=lora&tags=a&tags=b")).fields == ["type"]
    assert (await service.get("/v1/doctor?deep=true&deep=false")).fields == ["deep"]
    assert (await service.get("/v1/models?tags=a&tags=b")).status == 200


# Reconcile, replay


async def test_reconciling_over_http_fetches_what_was_lost(service: Service) -> None:
    """And tells what it did."""
    service.stage({"on": "webhook", "do": "drop"})
    state = await service.create()
    assert service.simulator is not None
    totals = service.simulator.ledger.totals
    await eventually(lambda: totals.results == 1)

    answer = await service.post("/v1/reconcile", json={})

    assert (answer.status, answer.json["asked"], answer.json["changed"]) == (200, 1, 1)
    assert len(images(await service.settled(state.id))) == 1


async def test_replaying_over_http_mends_all_that_failed(service: Service, tmp_path: Path) -> None:
    """After a person has mended the cause."""
    with closing(sqlite3.connect(tmp_path / "data" / "projection.db", isolation_level=None)) as database:
        database.execute("ALTER TABLE generations DROP COLUMN negative_prompt")
        await service.made()
        database.execute("ALTER TABLE generations ADD COLUMN negative_prompt TEXT")

    answer = await service.post("/v1/replay", json={"all_failed": True})

    assert (answer.status, answer.json) == (200, {"replayed": 1})


async def test_operations_name_what_is_wrong(service: Service) -> None:
    """An unknown id, a wrong field, a body that is none, one that is too large."""
    for path in ("/v1/reconcile", "/v1/replay"):
        unknown = await service.post(path, json={"generation_id": str(uuid4())})
        wrong = await service.post(path, json={"generation_id": 7, "more": 1})
        broken = await service.post(path, data=b"{", headers={"Content-Type": "application/json"})
        typeless = await service.post(path, data=b"{}", headers={"Content-Type": "text/plain"})
        assert (unknown.status, wrong.status, broken.status, typeless.status) == (404, 422, 400, 415), path
        assert sorted(wrong.fields) == ["generation_id", "more"]
    assert (await service.post("/v1/replay", json={"everything": "yes"})).fields == ["everything"]


# Health


async def test_ready_tells_what_is_going_on(service: Service) -> None:
    """Counts for a dashboard; no id, no prompt."""
    await service.made()

    answer = await service.get("/readyz")

    assert answer.status == 200
    assert (answer.json["running"], answer.json["parked"], answer.json["unclaimed"]) == (0, 0, 0)
    assert "lighthouse" not in answer.body.decode()


async def test_not_ready_while_nothing_can_be_committed(service: Service, tmp_path: Path) -> None:
    """Whoever spreads requests takes it out; it lives, and is ready again by itself."""
    with locked(tmp_path / "data" / "state.db"):
        assert (await service.post("/v1/generations", json={"input": an_input()})).status == 503
        ready, alive = await service.get("/readyz"), await service.get("/healthz")
    again = await service.get("/readyz")

    assert (ready.status, alive.status, again.status) == (503, 200, 200)
    assert "cannot commit" in ready.problem["detail"]
    assert int(ready.headers["retry-after"]) > 0


# The document


async def test_every_route_of_the_design_is_there_and_described(service: Service) -> None:
    """Clients are made from the document: each operation has a name of its own, a summary and typed answers."""
    document = (await service.get("/openapi.json")).json
    operations = {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }

    assert set(operations) >= ROUTES
    assert len({operation["operationId"] for operation in operations.values()}) == len(operations)
    for route, operation in operations.items():
        assert operation.get("summary"), route
        assert operation.get("tags"), route
        assert any(status.startswith("2") for status in operation["responses"]), route
        for status, answer in operation["responses"].items():
            assert answer["description"], (route, status)
            if status >= "400" and route[1] != "/webhooks/runware":
                assert list(answer["content"]) == ["application/problem+json"], (route, status)


async def test_every_reference_in_the_document_leads_somewhere(service: Service) -> None:
    """A generator fails on one that does not."""
    document = (await service.get("/openapi.json")).json
    text = json.dumps(document)

    for reference in {part.partition('"')[0] for part in text.split('"$ref": "')[1:]}:
        assert reference.startswith("#/"), reference
        place = document
        for step in reference[2:].split("/"):
            assert step in place, reference
            place = place[step]


async def test_the_document_names_no_secret_and_docs_are_served(service: Service) -> None:
    """What is public is the shape of things."""
    document = await service.get("/openapi.json")

    assert service.ctx.tokens.token(uuid4()) not in document.body.decode()
    assert (await service.get("/docs")).status == 200


async def test_an_error_of_ours_is_a_problem_that_tells_nothing(tmp_path: Path) -> None:
    """A mistake in the code: 500 in the usual form, with the details in the log only."""
    async with a_service(tmp_path) as service:
        assert isinstance(service.app, FastAPI)

        async def broken() -> None:
            raise RuntimeError("a-secret-detail")

        service.app.add_api_route("/broken", broken)
        answer = await service.get("/broken")

    assert answer.status == 500
    assert answer.problem
    assert "a-secret-detail" not in answer.body.decode()
