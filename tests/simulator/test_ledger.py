"""The ledger: exact totals, bounded memory, and what `/_simulator` shows of both."""

import io
from typing import Any

import pytest

from runware_provider.simulator.ledger import MAX_DELIVERIES_KEPT
from tests.simulator.simulator_harness import Api, JsonObject, simulated


async def _admin(api: Api, method: str, path: str, **sent: Any) -> tuple[int, JsonObject]:
    async with api.session.request(method, f"{api.simulator.origin}/_simulator/{path}", **sent) as answer:
        return answer.status, await answer.json()


async def test_the_ledger_tells_what_was_billed_and_delivered(api: Api) -> None:
    task = api.hooked(numberResults=2)
    await api.post(task)
    await api.settled()

    status, body = await _admin(api, "GET", f"ledger?task_uuid={task['taskUUID']}")

    assert status == 200
    [entry] = body["entries"]
    assert (entry["task_uuid"], entry["dispatches"], entry["billed"]) == (task["taskUUID"], 1, 1)
    assert entry["running"] is False
    assert entry["cost"] == pytest.approx(sum(result["cost"] for result in entry["results"]))
    items = [item for body in await api.receiver.wait(2) for item in body["data"]]
    assert {result["image_uuid"] for result in entry["results"]} == {item["imageUUID"] for item in items}
    assert {result["url"] for result in entry["results"]} == {item["imageURL"] for item in items}
    assert [(webhook["outcome"], webhook["attempts"], webhook["status"]) for webhook in entry["webhooks"]] == [
        ("confirmed", 1, 200),
        ("confirmed", 1, 200),
    ]


async def test_the_ledger_is_paged(api: Api) -> None:
    tasks = [api.task() for _ in range(5)]
    await api.post(*tasks)

    _, body = await _admin(api, "GET", "ledger?offset=1&limit=3")

    assert [entry["task_uuid"] for entry in body["entries"]] == [task["taskUUID"] for task in tasks[1:4]]
    assert body["total"] == 5
    assert (await _admin(api, "GET", "ledger?task_uuid=none"))[1]["entries"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "offset=-1", "limit=x"])
async def test_a_wrong_page_is_a_400(api: Api, query: str) -> None:
    status, body = await _admin(api, "GET", f"ledger?{query}")

    assert status == 400
    assert body["error"]


async def test_the_stats_count_everything(api: Api) -> None:
    api.stage({"on": "webhook", "do": "drop", "nth": [1]})
    await api.post(api.hooked(numberResults=2))
    await api.settled()
    [item] = await api.made()
    await (await api.session.get(item["imageURL"])).read()
    await api.post(api.task(width=1))
    await api.rows(item["taskUUID"])

    _, stats = await _admin(api, "GET", "stats")

    assert (stats["dispatches"], stats["billed"], stats["refused"], stats["billed_again"]) == (3, 2, 1, 0)
    assert (stats["results"], stats["running"], stats["responses"]) == (3, 0, 1)
    assert (stats["webhooks_confirmed"], stats["webhooks_dropped"], stats["webhook_attempts"]) == (1, 1, 1)
    assert (stats["cdn_hits"], stats["cdn_errors"]) == (1, 0)
    assert stats["cdn_bytes"] > 0
    assert stats["cost"] == pytest.approx(3 * 0.000238)
    assert stats["peak_running"] == 1


async def test_the_peak_is_kept() -> None:
    async with simulated(latency=0.05) as api:
        await api.post(*(api.task(deliveryMethod="async") for _ in range(7)))
        await api.settled()

        assert (await _admin(api, "GET", "stats"))[1]["peak_running"] == 7


async def test_remembered_tasks_are_bounded_and_totals_stay_exact() -> None:
    async with simulated(remember=5) as api:
        tasks = [api.task(deliveryMethod="async") for _ in range(12)]
        for task in tasks:
            await api.post(task)
            await api.settled()

        ledger = api.simulator.ledger
        assert len(ledger) == 5
        assert (ledger.totals.billed, ledger.totals.results, ledger.totals.forgotten) == (12, 12, 7)
        assert ledger.entry(tasks[0]["taskUUID"]) is None
        assert len(ledger._images) == 5
        assert (await api.rows(tasks[0]["taskUUID"]))["data"][0]["status"] == "processing"
        assert (await api.rows(tasks[-1]["taskUUID"]))["data"][0]["status"] == "success"


async def test_a_running_task_is_not_forgotten() -> None:
    async with simulated(remember=2) as api:
        api.stage({"on": "task", "do": "slow", "seconds": 0.1, "nth": [1]})
        slow = api.task(deliveryMethod="async")
        await api.post(slow)
        for _ in range(5):
            await api.post(api.task())

        assert (await api.finished(slow["taskUUID"]))["data"][0]["status"] == "success"


async def test_deliveries_kept_of_a_task_are_bounded(api: Api) -> None:
    api.stage({"on": "webhook", "do": "duplicate", "times": 32})
    task = api.hooked(numberResults=5)
    await api.post(task)
    await api.receiver.wait(165)
    await api.settled()

    entry = api.simulator.ledger.entry(task["taskUUID"])
    assert entry is not None
    assert len(entry.deliveries) == MAX_DELIVERIES_KEPT
    assert entry.deliveries_not_kept == 165 - MAX_DELIVERIES_KEPT


async def test_a_reset_forgets_what_does_not_run() -> None:
    async with simulated() as api:
        await api.made()
        api.stage({"on": "task", "do": "stuck"})
        running = api.task(deliveryMethod="async")
        await api.post(running)

        assert await _admin(api, "DELETE", "ledger") == (200, {"total": 1})

        _, stats = await _admin(api, "GET", "stats")
        assert (stats["billed"], stats["running"], stats["tasks_known"]) == (0, 1, 1)
        assert (await api.post(running))[0] == 400


async def test_the_fault_plan_is_replaced_over_http(api: Api) -> None:
    plan = {"seed": 5, "rules": [{"on": "dispatch", "do": "status", "status": 429, "first": 1}]}

    status, shown = await _admin(api, "PUT", "faults", json=plan)
    assert (status, shown) == (200, {"plan": plan, "fired": [0]})

    assert (await api.post(api.task()))[0] == 429
    assert (await _admin(api, "GET", "faults"))[1]["fired"] == [1]
    assert await _admin(api, "DELETE", "faults") == (200, {"plan": {}, "fired": []})


@pytest.mark.parametrize("body", [b"{", b'{"rules":[{"on":"moon"}]}', b"[" * 100_000, b"\xff", b'{"sneed":1}'])
async def test_a_wrong_plan_is_refused_and_the_old_one_stays(api: Api, body: bytes) -> None:
    api.stage({"on": "dispatch", "do": "status", "status": 429})

    status, shown = await _admin(api, "PUT", "faults", data=body)

    assert status == 400
    assert shown["error"]
    assert (await api.post(api.task()))[0] == 429


async def test_too_large_a_plan_is_refused(api: Api) -> None:
    assert (await _admin(api, "PUT", "faults", data=io.BytesIO(b" " * (1024 * 1024 + 1))))[0] == 413
