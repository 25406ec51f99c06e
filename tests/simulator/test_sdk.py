"""Runware's own SDK runs against the simulator: what it understands is what Runware says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest

runware = pytest.importorskip("runware", reason="runware-sdk cannot be installed beside the older `runware`")

from runware import Runware, RunwareError  # noqa: E402 - after the check above

from tests.simulator.simulator_harness import Api, JsonObject  # noqa: E402


def _task(**fields: Any) -> JsonObject:
    return {
        "taskType": "imageInference",
        "taskUUID": str(uuid4()),
        "positivePrompt": "a lighthouse at dusk",
        "model": "runware:101@1",
        "width": 256,
        "height": 256,
    } | fields


@asynccontextmanager
async def _sdk(api: Api, key: str = "a-key", **config: Any) -> AsyncIterator[Any]:
    chosen = {"transport": "rest", "http_base_url": api.simulator.url, "max_retries": 0} | config
    async with Runware(api_key=key, **chosen) as client:
        yield client


async def test_run_sync(api: Api) -> None:
    async with _sdk(api) as client:
        results = await client.run(_task(deliveryMethod="sync", numberResults=2, includeCost=True))

    assert len({result["imageUUID"] for result in results}) == 2
    assert all(result["imageURL"] and result["cost"] > 0 for result in results)


async def test_run_async_polls_until_all_are_there(api: Api) -> None:
    async with _sdk(api) as client:
        results = await client.run(_task(numberResults=3))

    assert [result["resultIndex"] for result in results] == [0, 1, 2]
    assert all(result["status"] == "success" for result in results)
    assert api.simulator.ledger.totals.responses >= 1


async def test_model_search(api: Api) -> None:
    async with _sdk(api) as client:
        [page] = await client.model_search({"search": "flux", "limit": 5})

    assert page["totalResults"] > 5
    assert len(page["results"]) == 5


async def test_task_details(api: Api) -> None:
    task = _task(deliveryMethod="sync")
    async with _sdk(api) as client:
        [result] = await client.run(task)
        [details] = await client.get_task_details({"taskUUID": task["taskUUID"]})

    assert details["request"] == [task]
    assert details["response"]["data"][0]["imageUUID"] == result["imageUUID"]


@pytest.mark.parametrize(
    ("fields", "parameter"),
    [({"width": 100}, "width"), ({"model": "a:b@c d"}, "model"), ({"positivePrompt": "x"}, "positivePrompt")],
)
async def test_a_mistake_is_a_validation_error(api: Api, fields: JsonObject, parameter: str) -> None:
    async with _sdk(api) as client:
        with pytest.raises(RunwareError) as caught:
            await client.run(_task(**fields))

    assert (caught.value.code, caught.value.parameter, caught.value.status_code) == ("validation", parameter, 400)


async def test_a_wrong_key_is_an_auth_error(api: Api) -> None:
    async with _sdk(api, key="wrong") as client:
        with pytest.raises(RunwareError) as caught:
            await client.run(_task())

    assert (caught.value.code, caught.value.status_code) == ("auth", 401)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "validation"),
        (401, "auth"),
        (402, "quota"),
        (403, "auth"),
        (404, "notFound"),
        (429, "rateLimit"),
        (500, "serverError"),
        (502, "serverError"),
        (503, "serverError"),
        (504, "timeout"),
    ],
)
async def test_every_status_comes_out_as_its_code(api: Api, status: int, code: str) -> None:
    api.stage({"on": "dispatch", "do": "status", "status": status})
    async with _sdk(api) as client:
        with pytest.raises(RunwareError) as caught:
            await client.run(_task())

    assert (caught.value.code, caught.value.status_code) == (code, status)


@pytest.mark.parametrize(
    ("delivery", "raw", "code"),
    [
        ("sync", "inferenceError", "provider"),
        ("sync", "providerTimeout", "timeout"),
        ("async", "invalidProviderContent", "safety"),
    ],
)
async def test_an_error_of_the_task_comes_out_with_its_code(api: Api, delivery: str, raw: str, code: str) -> None:
    api.stage({"on": "task", "do": "error", "code": raw})
    task = _task(deliveryMethod=delivery)
    async with _sdk(api) as client:
        with pytest.raises(RunwareError) as caught:
            await client.run(task)

    assert (caught.value.code, caught.value.task_uuid) == (code, task["taskUUID"])


async def test_errors_among_the_data_come_out_too(api: Api) -> None:
    api.stage({"on": "task", "do": "error"}, {"on": "response", "do": "errors_in_data"})
    async with _sdk(api) as client:
        with pytest.raises(RunwareError) as caught:
            await client.run(_task())

    assert caught.value.code == "provider"


async def test_a_retried_dispatch_is_billed_once(api: Api) -> None:
    """The SDK sends the same id again after a 500; the task, once accepted and still running, is a conflict."""
    fault = {"on": "dispatch", "do": "status", "status": 500, "first": 1}
    api.stage(fault)
    task = _task(deliveryMethod="sync")
    async with _sdk(api, max_retries=1, retry_delay=1) as client:
        [result] = await client.run(task)

    entry = api.simulator.ledger.entry(task["taskUUID"])
    assert entry is not None
    assert result["imageURL"]
    assert (entry.dispatches, entry.billed) == (2, 1)
