"""Deliveries as bytes on a connection: what a peer sees is what HTTP says, whichever way a delivery takes inside."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from runware_provider import tracing
from runware_provider.types import GenerationState
from tests.service import Service, a_context, a_service, born, locked

ENOUGH = 5.0
"""Seconds in which all of this has happened."""


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """A service that records, and does nothing about it."""
    async with a_service(tmp_path, runware_url="http://127.0.0.1:9/v1", work=False, max_body_bytes=262_144) as running:
        yield running


@asynccontextmanager
async def a_peer(service: Service) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """One connection to the service."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(service.url.rpartition(":")[2]))
    try:
        async with asyncio.timeout(ENOUGH):
            yield reader, writer
    finally:
        writer.close()


def post(service: Service, state: GenerationState, image: str, *headers: str, version: str = "1.1") -> bytes:
    """A delivery of one failed image."""
    body = a_body(state, image)
    path = service.ctx.tokens.webhook_url("", state.id)
    lines = [f"POST {path} HTTP/{version}", "Host: x", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def a_body(state: GenerationState, image: str, **more: Any) -> bytes:
    """What Runware says of one image that it could not make."""
    error = {"code": "inferenceError", "message": "no", "taskUUID": str(state.task_uuid), "imageUUID": image} | more
    return json.dumps({"errors": [error]}).encode()


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of the next one."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return head, await reader.readexactly(length)


async def failed(service: Service, state: GenerationState) -> int:
    """How many images of it are known to have failed."""
    return (await service.ctx.runtime.get_state(state.id)).counts.failed


async def test_both_doors_say_the_same_to_the_byte(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Good, forged and too large; on a connection that stays and on one that does not."""
    state = await born(service.ctx, expected=20)
    good, closing = post(service, state, "a"), post(service, state, "b", "Connection: close")
    forged = good.replace(b"&token=", b"&token=x")
    large = post(service, state, "c").replace(b"Content-Length: ", b"Content-Length: 999999")
    said: dict[bool, list[bytes]] = {}

    for traced in (False, True):
        monkeypatch.setattr(tracing, "listening", lambda traced=traced: traced)
        said[traced] = []
        for request in (good, forged, closing, large, post(service, state, "d", version="1.0")):
            async with a_peer(service) as (reader, writer):
                writer.write(request)
                said[traced] += await answer(reader)

    assert said[False] == said[True]
    assert [head.split(b" ")[1] for head in said[False][::2]] == [b"200", b"401", b"200", b"413", b"200"]


async def test_deliveries_that_come_in_one_packet_are_answered_in_order(service: Service) -> None:
    """With other requests among them: all of a connection's answers come in the order of its questions."""
    state = await born(service.ctx, expected=20)
    other = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    forged = post(service, state, "c").replace(b"&token=", b"&token=x")

    async with a_peer(service) as (reader, writer):
        writer.write(post(service, state, "a") + other + post(service, state, "b") + forged + other)
        said = [await answer(reader) for _ in range(5)]
        writer.write(post(service, state, "d"))
        said.append(await answer(reader))

    assert [head.split(b" ")[1] for head, _ in said] == [b"200", b"200", b"200", b"401", b"200", b"200"]
    assert [len(body) for _, body in said] == [3, 15, 3, 23, 15, 3]
    assert await failed(service, state) == 3


@pytest.mark.parametrize("how", ["Connection: close", "1.0"])
async def test_a_connection_that_is_not_to_stay_is_closed(service: Service, how: str) -> None:
    """After its answer."""
    state = await born(service.ctx)
    one = post(service, state, "a", version="1.0") if how == "1.0" else post(service, state, "a", how)

    async with a_peer(service) as (reader, writer):
        writer.write(one)
        said = await reader.read()

    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nconnection: close\r\n" in said


async def test_a_body_that_waits_to_be_asked_for_is_asked_for(service: Service) -> None:
    """`Expect: 100-continue`, as curl sends it with larger bodies."""
    state = await born(service.ctx)
    head, _, body = post(service, state, "a", "Expect: 100-continue").partition(b"\r\n\r\n")

    async with a_peer(service) as (reader, writer):
        writer.write(head + b"\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await answer(reader))[1] == b"ok\n"


async def test_a_large_body_that_comes_in_pieces_is_read_to_its_end(service: Service) -> None:
    """Larger than what uvicorn reads ahead of anybody who asks for it, byte by byte at its beginning."""
    state = await born(service.ctx)
    body = a_body(state, "a", message="x" * 200_000)
    path = service.ctx.tokens.webhook_url("", state.id)
    request = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    begin = len(request) - len(body) + 40

    async with a_peer(service) as (reader, writer):
        for byte in request[:begin]:
            writer.write(bytes([byte]))
            await writer.drain()
        for at in range(begin, len(request), 20_000):
            writer.write(request[at : at + 20_000])
            await asyncio.sleep(0.01)
        head, _ = await answer(reader)

    assert head.startswith(b"HTTP/1.1 200 ")
    assert await failed(service, state) == 1


async def test_who_leaves_before_the_answer_has_delivered(service: Service, tmp_path: Path) -> None:
    """It is committed, counted, and its connection is gone."""
    state = await born(service.ctx)

    async with a_peer(service) as (_, writer):
        writer.write(post(service, state, "a"))
        await writer.drain()
    async with asyncio.timeout(ENOUGH):
        while not await failed(service, state):  # noqa: ASYNC110  nothing tells
            await asyncio.sleep(0.01)
    async with a_peer(service) as (reader, writer):  # and the next one is served
        writer.write(post(service, state, "a"))
        assert (await answer(reader))[1] == b"ok\n"

    assert b'webhook_answers_total{status="200"} 2.0' in (await service.get("/metrics")).body
    with locked(tmp_path / "data" / "state.db"):
        async with a_peer(service) as (reader, writer):
            writer.write(post(service, state, "b"))
            head, _ = await answer(reader)
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")


async def test_what_was_delivered_when_the_service_was_told_to_stop_is_answered(tmp_path: Path) -> None:
    """And kept: 200 is never said of what is not."""
    async with a_service(tmp_path, runware_url="http://127.0.0.1:9/v1", work=False) as service:
        state = await born(service.ctx, expected=20)
        reader, writer = await asyncio.open_connection("127.0.0.1", int(service.url.rpartition(":")[2]))
        writer.write(post(service, state, "0"))
        assert (await answer(reader))[0].startswith(b"HTTP/1.1 200 ")
        for number in range(1, 10):
            writer.write(post(service, state, str(number)))
        await asyncio.sleep(0)
    said = (await reader.read()).count(b"HTTP/1.1 200 ")
    writer.close()

    async with a_context(tmp_path, work=False) as ctx:
        assert (await ctx.runtime.get_state(state.id)).counts.failed >= 1 + said


async def test_a_connection_that_delivers_stays_until_it_has_been_quiet_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each delivery, and each piece of one, begins the wait anew; then it is closed, whatever was asked last."""
    monkeypatch.setattr("runware_provider.serving.KEEP_ALIVE", 0.3)
    async with a_service(tmp_path, runware_url="http://127.0.0.1:9/v1", work=False) as service:
        state = await born(service.ctx, expected=20)
        health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        for last in (post(service, state, "c"), health):
            async with a_peer(service) as (reader, writer):
                for request in (post(service, state, "a"), health, post(service, state, "b"), last):
                    writer.write(request[:20])
                    await asyncio.sleep(0.2)
                    writer.write(request[20:])
                    assert (await answer(reader))[0].startswith(b"HTTP/1.1 200")
                    await asyncio.sleep(0.2)
                began = asyncio.get_running_loop().time()
                assert await reader.read() == b""
                assert asyncio.get_running_loop().time() - began < 1.0
