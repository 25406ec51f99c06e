"""The webhook sender: one POST per result, confirmed by a 2xx in time, else tried again, within bounds."""

import asyncio

import pytest

from tests.simulator.simulator_harness import simulated


async def test_every_result_comes_in_a_post_of_its_own() -> None:
    async with simulated() as api:
        task = api.hooked(numberResults=4, includeCost=True)
        await api.post(task)

        bodies = await api.receiver.wait(4)
        await api.settled()

        items = [item for body in bodies for item in body["data"]]
        assert all(list(body) == ["data"] and len(body["data"]) == 1 for body in bodies)
        assert {item["taskUUID"] for item in items} == {task["taskUUID"]}
        assert len({item["imageUUID"] for item in items}) == 4
        polled = (await api.finished(task["taskUUID"]))["data"]
        assert sorted(items, key=str) == sorted(
            ({k: v for k, v in row.items() if k != "status"} for row in polled), key=str
        )
        assert len(api.receiver.bodies) == 4


async def test_the_order_of_results_is_not_kept() -> None:
    async with simulated(webhook_latency=(0.0, 0.08), seed=3) as api:
        await api.post(api.hooked(numberResults=12))

        bodies = await api.receiver.wait(12)

        order = [body["data"][0]["resultIndex"] for body in bodies]
        assert order != sorted(order)


async def test_what_is_not_confirmed_comes_again() -> None:
    async with simulated() as api:
        api.receiver.statuses = [500, 503, 404]
        task = api.hooked()
        await api.post(task)

        bodies = await api.receiver.wait(4)
        await api.settled()

        assert all(body == bodies[0] for body in bodies)
        entry = api.simulator.ledger.entry(task["taskUUID"])
        assert entry is not None
        [delivery] = entry.deliveries
        assert (delivery.outcome, delivery.attempts, delivery.status) == ("confirmed", 4, 200)


async def test_a_delivery_is_given_up_after_the_last_retry() -> None:
    async with simulated(webhook_retries=2) as api:
        api.receiver.statuses = [500] * 9
        await api.post(api.hooked())
        await api.settled()

        assert len(api.receiver.bodies) == 3
        totals = api.simulator.ledger.totals
        assert (totals.webhooks_failed, totals.webhooks_confirmed, totals.webhook_attempts) == (1, 0, 3)


async def test_a_receiver_that_does_not_answer_in_time_has_not_confirmed() -> None:
    async with simulated(webhook_timeout=0.05, webhook_retries=1) as api:
        api.receiver.silence = 0.5
        await api.post(api.hooked())
        await api.settled()

        assert api.simulator.ledger.totals.webhooks_failed == 1


async def test_a_redirect_is_not_followed_and_does_not_confirm() -> None:
    async with simulated(webhook_retries=1) as api:
        api.receiver.statuses = [302, 302]
        api.receiver.location = api.receiver.url
        await api.post(api.hooked())
        await api.settled()

        assert len(api.receiver.bodies) == 2
        assert api.simulator.ledger.totals.webhooks_failed == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/closed", "http://name.invalid/", "http://127.0.0.1:99999/"])
async def test_a_receiver_that_cannot_be_reached_is_tried_and_given_up(url: str) -> None:
    async with simulated(webhook_retries=1) as api:
        await api.post(api.task(webhookURL=url))
        await api.settled()

        assert api.simulator.ledger.totals.webhooks_failed == 1


async def test_pauses_double_up_to_the_cap() -> None:
    """250 ms, doubling to 8 s, each with jitter; seen here a hundred times faster."""
    async with simulated(webhook_retry_first=0.02, webhook_retry_cap=0.08, webhook_retries=4) as api:
        api.receiver.statuses = [500] * 9
        started = asyncio.get_running_loop().time()
        await api.post(api.hooked())
        await api.settled()

        # 0.02 + 0.04 + 0.08 + 0.08 and half of it for jitter.
        assert 0.11 <= asyncio.get_running_loop().time() - started < 1


async def test_deliveries_on_their_way_are_bounded() -> None:
    async with simulated(max_pending_webhooks=3) as api:
        api.receiver.silence = 0.3
        await api.post(api.hooked(numberResults=10))
        await api.receiver.wait(3)
        await api.settled()

        totals = api.simulator.ledger.totals
        assert (totals.webhooks_dropped, totals.webhooks_confirmed) == (7, 3)


async def test_connections_to_receivers_are_bounded() -> None:
    async with simulated(webhook_connections=2) as api:
        api.receiver.silence = 0.3
        await api.post(api.hooked(numberResults=6))
        await api.receiver.wait(2)
        await asyncio.sleep(0.01)

        assert len(api.receiver.bodies) == 2
        await api.receiver.wait(6)


async def test_a_task_without_webhook_url_sends_nothing() -> None:
    async with simulated() as api:
        await api.post(api.task(deliveryMethod="async"))
        await api.settled()

        assert api.simulator.ledger.totals.webhook_attempts == 0
