"""`GET /v1/events`: what a gallery lives on."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import aiohttp
import pytest

from tests.service import PATIENCE, Service, a_service, eventually

IMAGE = 32_000_000
"""Bytes that are more than what lies between a server and a client who does not read."""


class Stream:
    """One open stream, read event by event."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def next(self) -> tuple[str, dict[str, object]]:
        """Kind and data of the next event."""
        kind, data = "", {}
        async with asyncio.timeout(PATIENCE):
            async for raw in self.answer.content:
                line = raw.decode().rstrip("\n")
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: "):
                    data = json.loads(line[6:])
                elif not line and kind:
                    return kind, data
        raise AssertionError("the stream has ended")

    async def until(self, id: UUID, version: int) -> None:
        """Read on until this version, or a later one, was told."""
        while True:
            kind, data = await self.next()
            assert kind == "changed"
            if data["id"] == str(id) and int(str(data["version"])) >= version:
                return


@asynccontextmanager
async def following(service: Service, **headers: str) -> AsyncIterator[Stream]:
    """A stream of all generations, after its first event."""
    async with service.session.get(f"{service.url}/v1/events", headers={**service.headers, **headers}) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        stream = Stream(answer)
        assert await stream.next() == ("ready", {})
        yield stream


async def test_every_change_of_every_generation_is_told(service: Service) -> None:
    """From its birth to its last version, to everybody who follows, and of a delete too."""
    async with following(service) as one, following(service) as other:
        first, second = await service.made(), await service.made()
        for stream in (one, other):
            await stream.until(first.id, first.version)
            await stream.until(second.id, second.version)

        assert (await service.delete(f"/v1/generations/{first.id}")).status == 204
        await one.until(first.id, first.version + 1)


async def test_a_reconnect_is_told_to_read_the_list_again(service: Service) -> None:
    """What happened in between is known to nobody; a browser says that it was here by `Last-Event-ID`."""
    async with following(service, **{"Last-Event-ID": "1"}) as stream:
        assert await stream.next() == ("reload", {})
        state = await service.made()
        await stream.until(state.id, state.version)


async def test_who_lags_behind_is_told_to_read_the_list_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept for one reader has a limit."""
    monkeypatch.setattr("runware_provider.durable.watchers.FEED_LIMIT", 0)
    async with following(service) as stream:
        await service.create()

        assert await stream.next() == ("reload", {})


async def test_silence_is_filled_and_a_stop_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies close what says nothing; who follows knows that it ends on purpose."""
    monkeypatch.setattr("runware_provider.api.events.HEARTBEAT", 0.02)
    async with a_service(tmp_path) as service, following(service) as stream:
        while not (await stream.answer.content.readline()).startswith(b":"):
            pass
        service.ctx.runtime.release()

        assert (await stream.next())[0] == "problem"
        assert not await stream.answer.content.read()


async def test_streams_have_a_limit(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kinds together; a place is free again when somebody leaves."""
    monkeypatch.setattr("runware_provider.api.events.MAX_STREAMS", 1)
    state = await service.made()
    async with following(service):
        refusals = [await service.get("/v1/events"), await service.get(f"/v1/generations/{state.id}/events")]

    assert [refusal.status for refusal in refusals] == [503, 503]
    assert all(int(refusal.headers["retry-after"]) > 0 for refusal in refusals)

    async def has_room() -> bool:
        return (await service.get(f"/v1/generations/{state.id}/events")).status == 200

    await eventually(has_room)


async def test_who_does_not_read_is_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little that takes from us: a connection is a place. What it was sent meanwhile has a limit, too."""
    monkeypatch.setattr("runware_provider.connections.READ_WAIT", 0.2)
    async with a_service(tmp_path, options={"image_bytes": IMAGE}) as service:
        state = await service.made()
        host, _, port = service.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as idle:
            path = f"/v1/generations/{state.id}/outputs/{state.outputs[0].id}/content"
            idle.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            idle.settimeout(PATIENCE)
            await asyncio.sleep(1)

            def rest() -> int:
                total = 0
                try:
                    while piece := idle.recv(1 << 20):
                        total += len(piece)
                except ConnectionResetError:
                    pass
                return total

            received = await asyncio.to_thread(rest)
            assert received < IMAGE
