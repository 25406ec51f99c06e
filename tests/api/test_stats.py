"""`GET /v1/stats`: numbers for whoever looks after the service."""

from decimal import Decimal
from pathlib import Path

import pytest

from tests.service import Service, a_service, images


async def test_stats_say_what_was_made_spent_stored_and_missed(tmp_path: Path) -> None:
    """By day and model; failures by their code; money as Runware said it."""
    async with a_service(tmp_path, daily_budget=Decimal("2.50")) as service:
        made = await service.made(numberResults=2)
        refused = await service.create(width=100)
        await service.settled(refused.id)

        stats = (await service.get("/v1/stats")).json

        cost = sum(image.cost_micros or 0 for image in images(made))
        today = made.created_at.date().isoformat()
        assert stats["spend"] == [
            {"day": today, "model": "runware:101@1", "generations": 2, "images": 2, "cost_micros": cost}
        ]
        assert cost > 0
        assert stats["failures"] == {"api_rejected": 1}
        assert stats["stored"] == {"images": 2, "bytes": sum(image.size_bytes for image in images(made))}
        assert stats["daily_budget_micros"] == 2_500_000
        assert sum(stats["webhooks_per_minute"]) == 2
        assert len(stats["webhooks_per_minute"]) == 60
        assert (stats["running"], stats["parked"], stats["incomplete"]) == (0, 0, None)


async def test_sums_are_made_once_for_all_who_ask(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """They read many rows: a page that everybody has open must not read them for each; later they are made anew."""
    await service.made()
    first = (await service.get("/v1/stats")).json
    await service.made()
    assert (await service.get("/v1/stats")).json["spend"] == first["spend"]

    monkeypatch.setattr("runware_provider.stats.KEPT", -1)
    assert (await service.get("/v1/stats")).json["spend"][0]["generations"] == 2


async def test_stats_without_a_read_model_say_what_state_knows(service: Service, tmp_path: Path) -> None:
    """And why the rest is missing."""
    (tmp_path / "data" / "projection.db").unlink()

    stats = (await service.get("/v1/stats")).json

    assert stats["incomplete"]
    assert stats["spend"] == []
    assert stats["running"] == 0


async def test_a_span_that_is_too_long_is_refused(service: Service) -> None:
    """By name."""
    for query, field in (("days=0", "days"), ("days=93", "days"), ("dys=1", "dys")):
        assert (await service.get(f"/v1/stats?{query}")).fields == [field]
