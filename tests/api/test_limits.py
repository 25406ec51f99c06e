"""Nobody can hold a place by being slow, or with a head that never ends."""

import asyncio
from importlib import import_module
from pathlib import Path

import pytest

from tests.service import a_service


async def _said(url: str, request: bytes) -> bytes:
    """All that is answered until the connection is closed, to a request that is never finished."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()


async def test_a_head_that_does_not_end_is_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hold one of the connections for ever."""
    monkeypatch.setattr(import_module("runware_provider.connections"), "HEAD_WAIT", 0.2)
    async with a_service(tmp_path) as service:
        assert await _said(service.url, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ") == b""
        assert (await service.get("/healthz")).status == 200


async def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is told, and nothing was kept."""
    monkeypatch.setattr(import_module("runware_provider.api.guard"), "BODY_WAIT", 0.2)
    async with a_service(tmp_path) as service:
        head = b"POST /v1/generations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        said = await _said(service.url, head + b'Connection: close\r\nContent-Length: 100\r\n\r\n{"input"')

        assert said.startswith(b"HTTP/1.1 408 ")
        assert (await service.ctx.runtime.stats()).running == 0


async def test_headers_over_the_limit_are_refused(tmp_path: Path) -> None:
    """All of them together."""
    async with a_service(tmp_path) as service:
        many = {f"X-{number}": "x" * 1_000 for number in range(40)}

        assert (await service.get("/v1/generations", headers=many)).problem["status"] == 431
