"""Server-sent events: the state at every version, until nothing more will happen."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.service import Service, a_service, an_input, eventually

Event = tuple[str, int | None, Any]


async def events(service: Service, generation_id: UUID, **headers: str) -> AsyncIterator[Event]:
    """Kind, id and data of each event, until the stream ends."""
    async with service.session.get(f"{service.url}/v1/generations/{generation_id}/events", headers=headers) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert answer.headers["Cache-Control"] == "no-store"
        fields: dict[str, str] = {}
        async for raw in answer.content:
            line = raw.decode().rstrip("\n")
            if line.startswith(":"):
                continue
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                number = int(fields["id"]) if "id" in fields else None
                yield fields["event"], number, json.loads(fields["data"])
                fields = {}


async def test_every_event_is_the_whole_state_and_its_id_the_version(service: Service) -> None:
    """So a client needs no memory; the last one is settled, and with it the stream ends."""
    created = (await service.post("/v1/generations", json={"input": an_input(numberResults=3)})).json

    seen = [event async for event in events(service, UUID(created["id"]))]

    assert {kind for kind, _, _ in seen} == {"state"}
    versions = [number for _, number, _ in seen]
    assert versions == sorted(set(versions), key=lambda number: number or 0)
    assert all(data["version"] == number for _, number, data in seen)
    assert [data["settled"] for _, _, data in seen] == [False] * (len(seen) - 1) + [True]
    last = (await service.get(f"/v1/generations/{created['id']}")).json
    assert seen[-1][2] == last


async def test_a_settled_generation_is_one_event(service: Service) -> None:
    """A reconnect after the end, with or without `Last-Event-ID`, gets the latest state and is done."""
    state = await service.made()

    for headers in ({}, {"Last-Event-ID": "1"}, {"Last-Event-ID": "nonsense"}):
        seen = [event async for event in events(service, state.id, **headers)]
        assert [(kind, number) for kind, number, _ in seen] == [("state", state.version)]


async def test_the_stream_tells_what_failed_too(service: Service) -> None:
    """It ends for a generation that Runware refused as for any other."""
    state = await service.create(width=100)

    seen = [event async for event in events(service, state.id)]

    assert seen[-1][2]["error"]["code"] == "api_rejected"


async def test_the_stream_ends_when_the_read_model_lacks_it(service: Service, tmp_path: Path) -> None:
    """`projection_failed` is an end: nothing more will happen by itself."""
    with closing(sqlite3.connect(tmp_path / "data" / "projection.db", isolation_level=None)) as database:
        database.execute("ALTER TABLE generations DROP COLUMN negative_prompt")
    state = await service.create()

    seen = [event async for event in events(service, state.id)]

    assert seen[-1][2]["settled"]
    assert seen[-1][2]["projection_error"]["code"] == "projection_failed"


async def test_a_delete_ends_the_stream(tmp_path: Path) -> None:
    """Who follows it learns that it is gone."""
    async with a_service(tmp_path, {"on": "task", "do": "stuck"}) as service:
        state = await service.create()
        stream = events(service, state.id)
        first = await anext(stream)
        await service.delete(f"/v1/generations/{state.id}")
        rest = [event async for event in stream]

        assert first[0] == "state"
        assert rest[-1][0] == "deleted"


async def test_silence_is_filled_with_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies close what says nothing."""
    monkeypatch.setattr("runware_provider.api.events.HEARTBEAT", 0.02)
    async with a_service(tmp_path, {"on": "task", "do": "stuck"}) as service:
        state = await service.create()
        async with service.session.get(f"{service.url}/v1/generations/{state.id}/events") as answer:
            while not (await answer.content.readline()).startswith(b":"):
                pass


async def test_many_can_follow_one_generation(tmp_path: Path) -> None:
    """And one that leaves disturbs nobody; nothing is kept of who has gone."""
    async with a_service(tmp_path, {"on": "task", "do": "slow", "seconds": 0.3}) as service:
        state = await service.create()

        async def follow() -> Event:
            return [event async for event in events(service, state.id)][-1]

        leaving = [asyncio.create_task(follow()) for _ in range(5)]
        staying = [asyncio.create_task(follow()) for _ in range(5)]
        await asyncio.sleep(0.05)
        for each in leaving:
            each.cancel()
        ends = await asyncio.gather(*staying)

        assert {data["status"] for _, _, data in ends} == {"completed"}
        await eventually(lambda: not service.ctx.runtime._watchers)  # type: ignore[attr-defined]  # the embedded one's


async def test_following_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    """Streams without end are cut when the service stops."""
    async with a_service(tmp_path, {"on": "task", "do": "stuck"}) as service:
        state = await service.create()
        stream = events(service, state.id)
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]  # an async generator
        following = await service.session.get(f"{service.url}/v1/generations/{state.id}/events")
        await following.content.readline()
        began = asyncio.get_running_loop().time()

    following.close()
    assert asyncio.get_running_loop().time() - began < 8
