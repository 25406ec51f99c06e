"""`POST /v1` as Runware documents it: authentication, the three ways of delivery, questions, errors."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from tests.simulator.simulator_harness import Api, JsonObject, simulated


async def test_a_sync_task_is_answered_with_its_results(api: Api) -> None:
    task = api.task(numberResults=2, includeCost=True, seed=7)

    status, body = await api.post(task)

    assert status == 200
    assert [item["taskUUID"] for item in body["data"]] == [task["taskUUID"]] * 2
    assert len({item["imageUUID"] for item in body["data"]}) == 2
    assert [item["seed"] for item in body["data"]] == [7, 8]
    assert all(item["cost"] > 0 for item in body["data"])
    assert all(item["imageURL"].startswith(api.simulator.origin + "/image/ws/") for item in body["data"])


async def test_cost_comes_only_when_asked_for(api: Api) -> None:
    [item] = await api.made()

    assert "cost" not in item


@pytest.mark.parametrize(("kind", "field"), [("base64Data", "imageBase64Data"), ("dataURI", "imageDataURI")])
async def test_an_image_comes_inline_when_asked_for(api: Api, kind: str, field: str) -> None:
    [item] = await api.made(outputType=kind)

    assert "imageURL" not in item
    assert len(item[field]) > 1000


@pytest.mark.parametrize("with_webhook", [False, True])
async def test_an_async_task_is_acknowledged_with_its_id_alone(api: Api, with_webhook: bool) -> None:
    task = api.hooked() if with_webhook else api.task(deliveryMethod="async")

    status, body = await api.post(task)

    assert status == 200
    assert body == {"data": [{"taskType": "imageInference", "taskUUID": task["taskUUID"]}]}


async def test_the_path_may_end_in_a_slash(api: Api) -> None:
    headers = {"Authorization": "Bearer a-key"}

    async with api.session.post(api.simulator.url + "/", json=[api.task()], headers=headers) as answer:
        assert answer.status == 200


async def test_the_key_may_come_as_the_first_task(api: Api) -> None:
    status, body = await api.post({"taskType": "authentication", "apiKey": "a-key"}, api.task(), key="")

    assert status == 200
    assert len(body["data"]) == 1


@pytest.mark.parametrize(
    ("key", "first", "code"),
    [
        ("wrong-key", [], "invalidApiKey"),
        ("", [], "missingApiKey"),
        ("", [{"taskType": "authentication", "apiKey": "wrong"}], "invalidApiKey"),
        ("", [{"taskType": "authentication", "apiKey": ""}], "invalidApiKey"),
        ("", [{"taskType": "authentication"}], "invalidApiKey"),
    ],
)
async def test_a_wrong_or_missing_key_is_refused(api: Api, key: str, first: list[JsonObject], code: str) -> None:
    status, body = await api.post(*first, api.task(), key=key)

    assert status == 401
    assert body["errors"][0]["code"] == code


async def test_only_listed_keys_are_accepted_when_there_is_a_list() -> None:
    async with simulated(api_keys=frozenset({"good"})) as api:
        assert (await api.post(api.task(), key="good"))[0] == 200
        assert (await api.post(api.task(), key="other"))[0] == 401


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"{}",
        b"[]",
        b"[1]",
        b'"text"',
        b"[NaN]",
        b"[" * 100_000,
        b"\xff\xfe",
        b'[{"taskType": "imageInference", "seed": NaN}]',
    ],
)
async def test_a_body_that_is_no_array_of_tasks_is_a_400(api: Api, body: bytes) -> None:
    headers = {"Authorization": "Bearer a-key"}

    async with api.session.post(api.simulator.url, data=body, headers=headers) as answer:
        assert answer.status == 400
        assert (await answer.json())["errors"][0]["message"]


def _without(field: str) -> Callable[[JsonObject], JsonObject]:
    return lambda task: {key: value for key, value in task.items() if key != field}


def _with(**fields: Any) -> Callable[[JsonObject], JsonObject]:
    return lambda task: task | fields


@pytest.mark.parametrize(
    ("change", "parameter", "code"),
    [
        (_without("taskUUID"), "taskUUID", "missingTaskUUID"),
        (_with(taskUUID="nope"), "taskUUID", "invalidTaskUUID"),
        (_with(taskUUID="018f0000-0000-7000-8000-000000000000"), "taskUUID", "invalidTaskUUID"),
        (_with(taskUUID=7), "taskUUID", "invalidTaskUUID"),
        (_without("positivePrompt"), "positivePrompt", "missingPositivePrompt"),
        (_with(positivePrompt="x"), "positivePrompt", "invalidPositivePrompt"),
        (_with(positivePrompt="x" * 3001), "positivePrompt", "invalidPositivePrompt"),
        (_with(positivePrompt=["a"]), "positivePrompt", "invalidPositivePrompt"),
        (_with(negativePrompt=3), "negativePrompt", "invalidNegativePrompt"),
        (_without("model"), "model", "missingModel"),
        (_with(model="flux"), "model", "invalidModel"),
        (_with(width=100), "width", "invalidWidth"),
        (_with(width=2112), "width", "invalidWidth"),
        (_with(height=64), "height", "invalidHeight"),
        (_with(height=512.0), "height", "invalidHeight"),
        (_with(height=True), "height", "invalidHeight"),
        (_with(numberResults=0), "numberResults", "invalidNumberResults"),
        (_with(numberResults=21), "numberResults", "invalidNumberResults"),
        (_with(outputFormat="GIF"), "outputFormat", "invalidOutputFormat"),
        (_with(outputFormat=[]), "outputFormat", "invalidOutputFormat"),
        (_with(outputQuality=100), "outputQuality", "invalidOutputQuality"),
        (_with(outputType=["URL", "dataURI"]), "outputType", "invalidOutputType"),
        (_with(deliveryMethod="stream"), "deliveryMethod", "invalidDeliveryMethod"),
        (_with(seed=-1), "seed", "invalidSeed"),
        (_with(seed=2**63), "seed", "invalidSeed"),
        (_with(steps=0), "steps", "invalidSteps"),
        (_with(CFGScale=51), "CFGScale", "invalidCFGScale"),
        (_with(strength="half"), "strength", "invalidStrength"),
        (_with(scheduler=1), "scheduler", "invalidScheduler"),
        (_with(includeCost="yes"), "includeCost", "invalidIncludeCost"),
        (_with(ttl=59), "ttl", "invalidTtl"),
        (_with(webhookURL="ftp://host/"), "webhookURL", "invalidWebhookURL"),
        (_with(webhookURL="http://"), "webhookURL", "invalidWebhookURL"),
        (_with(taskType="videoInference"), "taskType", "invalidTaskType"),
        (_with(taskType=None), "taskType", "invalidTaskType"),
    ],
)
async def test_a_mistake_in_a_task_is_a_400_that_names_it(
    api: Api, change: Callable[[JsonObject], JsonObject], parameter: str, code: str
) -> None:
    status, body = await api.post(change(api.task()))

    assert status == 400
    [error] = body["errors"]
    assert (error["code"], error["parameter"]) == (code, parameter)
    assert error["message"]
    assert error["documentation"].startswith("https://")
    assert api.simulator.ledger.totals.billed == 0


async def test_a_wrong_size_names_its_limits(api: Api) -> None:
    _, body = await api.post(api.task(width=130))

    [error] = body["errors"]
    assert (error["min"], error["max"], error["multiplier"]) == (128, 2048, 64)


async def test_fields_that_nobody_knows_are_accepted(api: Api) -> None:
    status, _ = await api.post(api.task(brandNewField={"deep": [1]}, lora=[{"model": "a:b@c", "weight": 1}]))

    assert status == 200


async def test_an_unknown_model_is_accepted_or_refused_as_configured() -> None:
    async with simulated() as api:
        assert (await api.post(api.task(model="civitai:1@2")))[0] == 200
    async with simulated(unknown_models="refuse") as api:
        assert (await api.post(api.task(model="civitai:1@2")))[0] == 400
        assert (await api.post(api.task(model="runware:100@1")))[0] == 200


async def test_one_bad_task_does_not_spoil_the_others(api: Api) -> None:
    good = api.task(deliveryMethod="async")

    status, body = await api.post(api.task(width=1), good)

    assert status == 200
    assert [row["taskUUID"] for row in body["data"]] == [good["taskUUID"]]
    assert [error["parameter"] for error in body["errors"]] == ["width"]


async def test_fifty_tasks_are_asked_for_in_one_body(api: Api) -> None:
    tasks = [api.task(deliveryMethod="async") for _ in range(50)]
    await api.post(*tasks)
    await api.settled()

    _, body = await api.post(*({"taskType": "getResponse", "taskUUID": task["taskUUID"]} for task in tasks))

    assert [row["taskUUID"] for row in body["data"]] == [task["taskUUID"] for task in tasks]
    assert all(row["status"] == "success" for row in body["data"])


async def test_an_unknown_task_looks_like_one_that_is_processing() -> None:
    async with simulated(latency=30.0) as api:
        running, unknown = api.task(deliveryMethod="async"), str(uuid4())
        await api.post(running)

        [first] = (await api.rows(running["taskUUID"]))["data"]
        [second] = (await api.rows(unknown))["data"]

        assert first["status"] == "processing"
        assert first == second | {"taskUUID": running["taskUUID"]}


async def test_finished_rows_come_back_on_every_poll(api: Api) -> None:
    task = api.task(deliveryMethod="async", numberResults=3)
    await api.post(task)

    first = await api.finished(task["taskUUID"])
    second = await api.finished(task["taskUUID"])

    assert first == second
    assert len({row["imageUUID"] for row in first["data"]}) == 3


async def test_results_show_one_by_one_beside_a_row_that_is_processing() -> None:
    async with simulated(result_spread=0.5) as api:
        task = api.task(deliveryMethod="async", numberResults=2)
        await api.post(task)

        rows = (await api.rows(task["taskUUID"]))["data"]

        assert [row["status"] for row in rows] == ["success", "processing"]


async def test_details_are_known_only_once_the_task_has_finished() -> None:
    async with simulated(latency=0.3) as api:
        task = api.task(deliveryMethod="async")
        await api.post(task)
        question = {"taskType": "getTaskDetails", "taskUUID": task["taskUUID"]}

        status, body = await api.post(question)
        assert (status, body["errors"][0]["code"]) == (404, "taskNotFound")

        await api.settled()
        status, body = await api.post(question)
        [details] = body["data"]
        assert status == 200
        assert details["request"] == [task]
        assert [item["taskUUID"] for item in details["response"]["data"]] == [task["taskUUID"]]


async def test_an_id_that_is_still_running_is_a_conflict_and_not_billed() -> None:
    async with simulated(latency=30.0) as api:
        task = api.task(deliveryMethod="async")
        await api.post(task)

        status, body = await api.post(task)

        assert (status, body["errors"][0]["code"]) == (400, "conflictTaskUUID")
        entry = api.simulator.ledger.entry(task["taskUUID"])
        assert entry is not None
        assert (entry.billed, entry.conflicts, entry.dispatches) == (1, 1, 2)


async def test_a_finished_id_sent_again_is_billed_and_made_again(api: Api) -> None:
    """Nothing that is known of Runware rules this out, so a client must never do it."""
    task = api.task()
    [first] = (await api.post(task))[1]["data"]

    [second] = (await api.post(task))[1]["data"]

    assert first["imageUUID"] != second["imageUUID"]
    [entry] = api.simulator.ledger.billed_more_than_once
    assert entry.billed == 2
    assert {result.image_uuid for result in entry.results} == {first["imageUUID"], second["imageUUID"]}
    assert api.simulator.ledger.totals.billed_again == 1


async def test_a_task_runs_on_when_its_client_leaves() -> None:
    async with simulated(latency=0.05) as api:
        task = api.task()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await api.post(task)
        await api.settled()

        assert len((await api.finished(task["taskUUID"]))["data"]) == 1


async def test_models_are_searched(api: Api) -> None:
    _, body = await api.post({"taskType": "modelSearch", "taskUUID": str(uuid4()), "search": "flux schnell"})

    [row] = body["data"]
    assert row["totalResults"] == 1
    assert row["results"][0]["air"] == "runware:100@1"
    async with api.session.get(row["results"][0]["heroImage"]) as answer:
        assert (answer.status, answer.content_type) == (200, "image/jpeg")


async def test_too_large_a_body_is_refused() -> None:
    async with simulated(max_body_bytes=1024) as api:
        status, body = await api.post(api.task(seedImage="x" * 2000))

        assert (status, body["errors"][0]["code"]) == (413, "maxBodySizeExceeded")


async def test_too_many_tasks_in_one_body_are_refused() -> None:
    async with simulated(max_tasks=2) as api:
        assert (await api.post(api.task(), api.task()))[0] == 200
        status, body = await api.post(api.task(), api.task(), api.task())

        assert (status, body["errors"][0]["max"]) == (400, 2)


async def test_too_many_running_tasks_are_refused_with_retry_after() -> None:
    async with simulated(latency=30.0, max_running=2) as api:
        for _ in range(2):
            assert (await api.post(api.task(deliveryMethod="async")))[0] == 200

        headers = {"Authorization": "Bearer a-key"}
        async with api.session.post(api.simulator.url, json=[api.task()], headers=headers) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "1")
        assert api.simulator.ledger.totals.billed == 2
