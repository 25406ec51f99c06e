"""Every wrong that is staged on the way to the webhook."""

import json
from typing import Any

import pytest

from tests.simulator.simulator_harness import Api, JsonObject, simulated


def _rule(do: str, **fields: Any) -> JsonObject:
    return {"on": "webhook", "do": do, **fields}


async def test_a_dropped_delivery_is_never_sent(api: Api) -> None:
    api.stage(_rule("drop", nth=[2]))
    task = api.hooked(numberResults=3)
    await api.post(task)
    await api.settled()

    assert len(await api.receiver.wait(2)) == 2
    assert len((await api.finished(task["taskUUID"]))["data"]) == 3
    assert api.simulator.ledger.totals.webhooks_dropped == 1


async def test_a_duplicate_is_the_same_body_again(api: Api) -> None:
    api.stage(_rule("duplicate", times=2))
    await api.post(api.hooked())

    bodies = await api.receiver.wait(3)

    assert bodies[0] == bodies[1] == bodies[2]


async def test_a_delayed_delivery_comes_later(api: Api) -> None:
    api.stage(_rule("delay", seconds=0.1, nth=[1]))
    await api.post(api.hooked(numberResults=2))

    bodies = await api.receiver.wait(2)

    assert [body["data"][0]["resultIndex"] for body in bodies] == [1, 0]


@pytest.mark.parametrize("spread", [0.0, 0.01])
async def test_reordered_results_come_last_first(spread: float) -> None:
    async with simulated(result_spread=spread) as api:
        api.stage(_rule("reorder", seconds=0.04))
        await api.post(api.hooked(numberResults=4))

        bodies = await api.receiver.wait(4)

        assert [body["data"][0]["resultIndex"] for body in bodies] == [3, 2, 1, 0]


async def test_a_flat_body_is_the_item_alone(api: Api) -> None:
    api.stage(_rule("shape", shape="flat"))
    task = api.hooked()
    await api.post(task)

    [body] = await api.receiver.wait(1)

    assert body["taskUUID"] == task["taskUUID"]
    assert "imageURL" in body


@pytest.mark.parametrize("spread", [0.0, 0.01])
async def test_a_batch_carries_all_results_in_one_body(spread: float) -> None:
    async with simulated(result_spread=spread) as api:
        api.stage(_rule("shape", shape="batch"))
        await api.post(api.hooked(numberResults=3))
        await api.settled()

        [body] = await api.receiver.wait(1)

        assert len(body["data"]) == 3
        assert len(api.receiver.bodies) == 1


async def test_a_batch_carries_errors_beside_results(api: Api) -> None:
    api.stage(_rule("shape", shape="batch"), {"on": "result", "do": "error", "nth": [2]})
    await api.post(api.hooked(numberResults=3))

    [body] = await api.receiver.wait(1)

    assert (len(body["data"]), len(body["errors"])) == (2, 1)


async def test_items_may_carry_a_status(api: Api) -> None:
    api.stage(_rule("shape", status=True))
    await api.post(api.hooked())

    [body] = await api.receiver.wait(1)

    assert body["data"][0]["status"] == "success"


@pytest.mark.parametrize("shape", ["errors", "errors_and_data", "flat", "flat_object", "data"])
async def test_errors_come_in_every_shape(api: Api, shape: str) -> None:
    api.stage(_rule("shape", error_shape=shape), {"on": "task", "do": "error", "code": "boom", "message": "no"})
    task = api.hooked()
    await api.post(task)

    [body] = await api.receiver.wait(1)

    holder = body["data"][0] if shape == "data" else body
    found = holder["errors"][0] if "errors" in holder else holder | holder.get("error", {})
    assert (found["code"], found["message"], found["taskUUID"]) == ("boom", "no", task["taskUUID"])
    if shape in ("flat", "flat_object"):
        assert body["status"] == "error"
    if shape == "errors_and_data":
        assert body["data"] == []


async def test_processing_items_come_before_the_result(api: Api) -> None:
    api.stage(_rule("processing", times=2))
    task = api.hooked()
    await api.post(task)

    first, second, third = await api.receiver.wait(3)

    expected = {"taskType": "imageInference", "taskUUID": task["taskUUID"], "status": "processing"}
    assert first == second == {"data": [expected]}
    assert "imageURL" in third["data"][0]


async def test_a_result_may_come_without_its_url_and_later_with_it(api: Api) -> None:
    api.stage(_rule("without_url", later=0.02))
    await api.post(api.hooked())

    first, second = await api.receiver.wait(2)

    assert "imageURL" not in first["data"][0]
    assert first["data"][0]["imageUUID"] == second["data"][0]["imageUUID"]
    assert second["data"][0]["imageURL"]


async def test_a_result_may_come_without_its_url_for_good(api: Api) -> None:
    api.stage(_rule("without_url"))
    task = api.hooked()
    await api.post(task)
    await api.settled()

    assert len(api.receiver.bodies) == 1
    assert (await api.finished(task["taskUUID"]))["data"][0]["imageURL"]


@pytest.mark.parametrize("kind", ["not_json", "empty", "not_utf8", "cut", "new_shape", "null", "number", "deep"])
async def test_a_malformed_body_comes_instead_of_the_result(api: Api, kind: str) -> None:
    api.stage(_rule("malformed", kind=kind))
    await api.post(api.hooked())
    await api.settled()

    [body] = api.receiver.bodies
    try:
        decoded = json.loads(body)
    except (ValueError, RecursionError):
        decoded = None
    assert not isinstance(decoded, dict) or "data" not in decoded


async def test_a_malformed_body_comes_beside_the_result(api: Api) -> None:
    api.stage(_rule("malformed", also=True))
    await api.post(api.hooked())
    await api.settled()

    assert len(api.receiver.bodies) == 2
    assert b"imageURL" in api.receiver.bodies[1]


@pytest.mark.parametrize(
    ("kind", "sign"),
    [
        ("nul", b"\\u0000"),
        ("lone_surrogate", b"\\ud83d"),
        ("nan", b":NaN"),
        ("infinity", b":Infinity"),
        ("huge_number", b":1" + b"0" * 99),
        ("deep", b"[" * 1000),
    ],
)
async def test_a_real_result_carries_what_breaks_parsers(api: Api, kind: str, sign: bytes) -> None:
    api.stage(_rule("poison", kind=kind))
    await api.post(api.hooked())
    await api.settled()

    [body] = api.receiver.bodies
    assert sign in body
    assert b"imageURL" in body


@pytest.mark.parametrize("also", [False, True])
async def test_an_item_carries_a_foreign_task(api: Api, also: bool) -> None:
    api.stage(_rule("foreign", also=also))
    task = api.hooked()
    await api.post(task)

    [body] = await api.receiver.wait(1)

    owners = [item["taskUUID"] == task["taskUUID"] for item in body["data"]]
    assert owners == ([False, True] if also else [False])


async def test_the_default_shapes_are_options() -> None:
    async with simulated(webhook_shape="flat", webhook_status=True, webhook_error_shape="flat") as api:
        await api.post(api.hooked())
        [body] = await api.receiver.wait(1)
        assert body["status"] == "success"

        api.stage({"on": "task", "do": "error"})
        await api.post(api.hooked())
        [_, body] = await api.receiver.wait(2)
        assert (body["status"], body["code"]) == ("error", "inferenceError")
