"""Every wrong that is staged in the answers of the API and in what a task comes to."""

import asyncio

import aiohttp
import pytest

from tests.simulator.simulator_harness import Api, JsonObject, simulated

CODES = {
    400: "invalidParameter",
    401: "invalidApiKey",
    402: "insufficientCredits",
    403: "forbidden",
    404: "taskNotFound",
    429: "rateLimitExceeded",
    500: "internalServerError",
    502: "serverUnavailable",
    503: "serviceUnavailable",
    504: "queueTimeout",
}


def _billed(api: Api, task: JsonObject) -> int:
    entry = api.simulator.ledger.entry(task["taskUUID"])
    return entry.billed if entry is not None else 0


@pytest.mark.parametrize("accept", [False, True])
@pytest.mark.parametrize("status", CODES)
async def test_a_dispatch_is_answered_with_any_status(api: Api, status: int, accept: bool) -> None:
    api.stage({"on": "dispatch", "do": "status", "status": status, "accept": accept})
    task = api.task(deliveryMethod="async")

    answered, body = await api.post(task)
    await api.settled()

    assert (answered, body["errors"][0]["code"]) == (status, CODES[status])
    assert _billed(api, task) == accept
    rows = (await api.rows(task["taskUUID"]))["data"]
    assert rows[0]["status"] == ("success" if accept else "processing")


async def test_retry_after_code_and_message_are_chosen(api: Api) -> None:
    fault = {"on": "dispatch", "do": "status", "status": 429, "retry_after": 2.5, "code": "busy", "message": "Later."}
    api.stage(fault)

    headers = {"Authorization": "Bearer a-key"}
    async with api.session.post(api.simulator.url, json=[api.task()], headers=headers) as answer:
        assert answer.headers["Retry-After"] == "2.5"
        error = (await answer.json())["errors"][0]

    assert (error["code"], error["message"]) == ("busy", "Later.")


@pytest.mark.parametrize(
    ("body", "content_type", "starts"),
    [
        ("errors", "application/json", b'{"errors":[{'),
        ("errors_and_data", "application/json", b'{"data":[],"errors":[{'),
        ("empty_data", "application/json", b'{"data":[]}'),
        ("html", "text/html", b"<html>"),
        ("not_json", "application/json", b"<html>"),
        ("empty", "text/plain", b""),
    ],
)
async def test_a_refusal_has_any_body(api: Api, body: str, content_type: str, starts: bytes) -> None:
    api.stage({"on": "dispatch", "do": "status", "status": 502, "body": body})

    headers = {"Authorization": "Bearer a-key"}
    async with api.session.post(api.simulator.url, json=[api.task()], headers=headers) as answer:
        assert answer.content_type == content_type
        assert (await answer.read()).startswith(starts)


@pytest.mark.parametrize("accept", [False, True])
@pytest.mark.parametrize("sent_bytes", [None, 20, 130])
async def test_the_connection_breaks_before_or_after_acceptance(api: Api, accept: bool, sent_bytes: int | None) -> None:
    api.stage({"on": "dispatch", "do": "break", "accept": accept, "sent_bytes": sent_bytes, "first": 1})
    task = api.task(deliveryMethod="async")

    with pytest.raises(aiohttp.ClientError):
        await api.post(task)

    assert _billed(api, task) == accept
    assert (await api.post(api.task()))[0] == 200


@pytest.mark.parametrize("accept", [False, True])
async def test_an_answer_never_comes(api: Api, accept: bool) -> None:
    api.stage({"on": "dispatch", "do": "hang", "accept": accept})
    task = api.task(deliveryMethod="async")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await api.post(task)

    assert _billed(api, task) == accept


async def test_a_hanging_answer_ends_in_a_broken_connection(api: Api) -> None:
    api.stage({"on": "dispatch", "do": "hang", "seconds": 0.02})

    with pytest.raises(aiohttp.ClientError):
        await api.post(api.task())


async def test_a_slow_answer_comes_after_acceptance(api: Api) -> None:
    api.stage({"on": "dispatch", "do": "slow", "seconds": 0.4})
    task = api.task(deliveryMethod="async")
    posting = asyncio.create_task(api.post(task))
    await asyncio.sleep(0.05)

    assert not posting.done()
    assert _billed(api, task) == 1
    assert (await posting)[0] == 200


async def test_the_webhook_comes_before_the_acknowledgement(api: Api) -> None:
    api.stage({"on": "dispatch", "do": "webhook_first"})
    api.receiver.silence = 0.05

    status, _ = await api.post(api.hooked())

    assert status == 200
    assert len(api.receiver.bodies) == 1


async def test_the_acknowledgement_does_not_wait_for_ever(api: Api) -> None:
    api.stage({"on": "dispatch", "do": "webhook_first", "seconds": 0.03}, {"on": "webhook", "do": "drop"})

    assert (await api.post(api.hooked()))[0] == 200


async def test_a_task_fails_as_a_whole_the_same_everywhere(api: Api) -> None:
    api.stage({"on": "task", "do": "error", "code": "providerError", "message": "It broke."})
    task = api.hooked(numberResults=3)
    await api.post(task)

    [body] = await api.receiver.wait(1)
    await api.settled()
    polled = await api.finished(task["taskUUID"])

    [by_webhook], [by_poll] = body["errors"], polled["errors"]
    assert by_poll == by_webhook | {"status": "error"}
    assert (by_webhook["code"], by_webhook["taskUUID"]) == ("providerError", task["taskUUID"])
    assert polled.get("data", []) == []
    assert len(api.receiver.bodies) == 1
    _, details = await api.post({"taskType": "getTaskDetails", "taskUUID": task["taskUUID"]})
    assert details["data"][0]["response"] == {"data": [], "errors": [by_webhook]}


async def test_a_sync_task_that_fails_answers_with_its_status(api: Api) -> None:
    api.stage({"on": "task", "do": "error", "http_status": 504})

    status, body = await api.post(api.task())

    assert (status, body["errors"][0]["code"]) == (504, "inferenceError")


@pytest.mark.parametrize("named", [False, True])
async def test_one_result_fails_the_same_by_webhook_and_by_get_response(api: Api, named: bool) -> None:
    api.stage({"on": "result", "do": "error", "nth": [2], "per": "task", "image_uuid": named})
    task = api.hooked(numberResults=3)
    await api.post(task)

    bodies = await api.receiver.wait(3)
    await api.settled()
    polled = await api.finished(task["taskUUID"])

    [by_webhook] = [body["errors"][0] for body in bodies if "errors" in body]
    assert polled["errors"] == [by_webhook | {"status": "error"}]
    assert ("imageUUID" in by_webhook) is named
    assert len(polled["data"]) == 2
    assert api.simulator.ledger.totals.result_errors == 1


async def test_more_or_fewer_results_than_asked_for(api: Api) -> None:
    api.stage({"on": "task", "do": "more", "extra": 2, "nth": [1]}, {"on": "task", "do": "fewer", "nth": [2]})

    assert [len(await api.made(numberResults=2)), len(await api.made(numberResults=2))] == [4, 1]


async def test_a_content_filter_refuses_without_url(api: Api) -> None:
    api.stage({"on": "result", "do": "refusal"})

    [item] = await api.made()

    assert "imageURL" not in item
    assert item["imageUUID"]


async def test_fields_are_left_out(api: Api) -> None:
    api.stage({"on": "result", "do": "omit", "fields": ["cost", "seed", "imageUUID"]})

    [item] = await api.made(includeCost=True)

    assert set(item) == {"taskType", "taskUUID", "imageURL"}


async def test_the_url_is_another(api: Api) -> None:
    api.stage({"on": "result", "do": "url", "url": "http://10.0.0.1/{name}?{image_uuid}"})

    [item] = await api.made()

    assert item["imageURL"] == f"http://10.0.0.1/{item['imageUUID']}.jpg?{item['imageUUID']}"


async def test_a_task_is_slow_or_never_ends(api: Api) -> None:
    slow = {"on": "task", "do": "slow", "seconds": 0.3, "nth": [1]}
    api.stage(slow, {"on": "task", "do": "stuck", "nth": [2]})
    first, second = api.task(deliveryMethod="async"), api.task(deliveryMethod="async")
    await api.post(first, second)

    assert (await api.rows(first["taskUUID"]))["data"][0]["status"] == "processing"
    assert (await api.finished(first["taskUUID"]))["data"][0]["status"] == "success"
    assert (await api.rows(second["taskUUID"]))["data"][0]["status"] == "processing"


QUESTIONS = {"response": "getResponse", "details": "getTaskDetails", "search": "modelSearch"}


async def _asked(api: Api, on: str, *rules: JsonObject) -> tuple[int, JsonObject]:
    task = api.task()
    await api.post(task)
    api.stage(*({"on": on, **rule} for rule in rules))
    return await api.post({"taskType": QUESTIONS[on], "taskUUID": task["taskUUID"]})


@pytest.mark.parametrize("on", QUESTIONS)
async def test_a_question_is_answered_with_any_status(api: Api, on: str) -> None:
    status, body = await _asked(api, on, {"do": "status", "status": 503, "retry_after": 1})

    assert (status, body["errors"][0]["code"]) == (503, "serviceUnavailable")


@pytest.mark.parametrize("on", QUESTIONS)
async def test_a_question_breaks_hangs_or_is_slow(api: Api, on: str) -> None:
    with pytest.raises(aiohttp.ClientError):
        await _asked(api, on, {"do": "break", "sent_bytes": 30})
    with pytest.raises(aiohttp.ClientError):
        await _asked(api, on, {"do": "hang", "seconds": 0.01})
    assert (await _asked(api, on, {"do": "slow", "seconds": 0.01}))[0] == 200


@pytest.mark.parametrize("on", QUESTIONS)
async def test_a_question_gets_an_empty_or_a_malformed_answer(api: Api, on: str) -> None:
    assert await _asked(api, on, {"do": "empty"}) == (200, {"data": []})
    with pytest.raises(ValueError):
        await _asked(api, on, {"do": "malformed", "kind": "cut"})


async def test_a_finished_task_looks_like_processing(api: Api) -> None:
    _, body = await _asked(api, "response", {"do": "processing"})

    assert [row["status"] for row in body["data"]] == ["processing"]


async def test_only_the_matching_row_looks_like_processing(api: Api) -> None:
    tasks = [api.task(), api.task()]
    await api.post(*tasks)
    api.stage({"on": "response", "do": "processing", "task_uuid": tasks[0]["taskUUID"]})

    _, body = await api.post(*({"taskType": "getResponse", "taskUUID": task["taskUUID"]} for task in tasks))

    assert [row["status"] for row in body["data"]] == ["processing", "success"]


async def test_rows_carry_what_breaks_parsers(api: Api) -> None:
    _, body = await _asked(api, "response", {"do": "poison", "kind": "huge_number"})

    assert body["data"][0]["seed"] == 10**99


async def test_errors_come_among_the_data(api: Api) -> None:
    api.stage({"on": "task", "do": "error"}, {"on": "response", "do": "errors_in_data"})
    task = api.task(deliveryMethod="async")
    await api.post(task)
    await api.settled()

    body = await api.rows(task["taskUUID"])

    [row] = body["data"]
    assert (row["status"], row["error"]["code"], row["taskUUID"]) == ("error", "inferenceError", task["taskUUID"])
    assert "errors" not in body


async def test_details_of_a_finished_task_are_not_known(api: Api) -> None:
    status, body = await _asked(api, "details", {"do": "unknown"})

    assert (status, body["errors"][0]["code"]) == (404, "taskNotFound")


async def test_the_rates_of_the_options_are_faults() -> None:
    async with simulated(error_rate=1.0) as api:
        assert (await api.post(api.task()))[1]["errors"][0]["code"] == "inferenceError"
    async with simulated(dispatch_error_rate=1.0) as api:
        assert (await api.post(api.task()))[0] == 503
        api.simulator.faults.clear()
        assert (await api.post(api.task()))[0] == 503
    async with simulated(webhook_drop_rate=1.0) as api:
        await api.post(api.hooked())
        await api.settled()
        assert api.simulator.ledger.totals.webhooks_dropped == 1
