"""Questions to an owner that leaves: what was not heard, or may be heard twice, is put to the next one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from runware_provider.cli.client import MOVES, Api
from runware_provider.errors import StateUnavailable


class Owners:
    """A way through owners in a row, each of which leaves without an answer, up to the last."""

    passing = False

    def __init__(self, sessions: list[aiohttp.ClientSession]) -> None:
        self._sessions = sessions
        self.session = sessions.pop(0)

    async def moved(self, left: aiohttp.ClientSession) -> bool:
        """To the next one, if there is any."""
        assert left is self.session
        if self._sessions:
            self.session = self._sessions.pop(0)
            return True
        return False


@asynccontextmanager
async def owner(path: Path, heard: list[str], *, leaves: bool) -> AsyncIterator[aiohttp.ClientSession]:
    """An owner on a Unix socket that notes what it heard, and then answers or hangs up."""

    async def answer(request: web.Request) -> web.Response:
        heard.append(f"{request.method} {path.name}")
        if leaves:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"from": path.name})

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    try:
        async with aiohttp.ClientSession("http://localhost", connector=aiohttp.UnixConnector(str(path))) as session:
            yield session
    finally:
        await runner.cleanup()


async def test_what_changes_nothing_is_asked_of_the_next_owner(tmp_path: Path) -> None:
    """So is what carries a key, by which the next one knows it."""
    heard: list[str] = []
    async with owner(tmp_path / "1", heard, leaves=True) as first, owner(tmp_path / "2", heard, leaves=False) as second:
        read = await Api(Owners([first, second])).get("/v1/generations")
        sent = await Api(Owners([first, second])).send("POST", "/v1/generations", {}, key="a")
        await Api(Owners([first, second])).download("/v1/content", tmp_path / "image")

    assert read == sent == {"from": "2"}
    once = [said for said, _ in groupby(heard)]  # aiohttp asks a second time of what hung up, by itself
    assert once == ["GET 1", "GET 2", "POST 1", "POST 2", "GET 1", "GET 2"]
    assert (tmp_path / "image").read_bytes() == b'{"from": "2"}'


async def test_what_may_have_been_heard_is_not_said_twice(tmp_path: Path) -> None:
    """A request for images costs money: without a key the next owner is asked only when the first heard nothing."""
    heard: list[str] = []
    async with owner(tmp_path / "1", heard, leaves=True) as first, owner(tmp_path / "2", heard, leaves=False) as second:
        with pytest.raises(StateUnavailable, match="stopped answering"):
            await Api(Owners([first, second])).send("POST", "/v1/generations", {})
        (tmp_path / "1").unlink()
        await asyncio.sleep(0)  # the connection that was cut is taken out of its pool
        sent = await Api(Owners([first, second])).send("POST", "/v1/generations", {})

    assert sent == {"from": "2"}
    assert heard == ["POST 1", "POST 2"]


async def test_owners_that_leave_one_after_the_other_are_followed_so_far(tmp_path: Path) -> None:
    """And no further: something is wrong then."""
    heard: list[str] = []
    async with owner(tmp_path / "1", heard, leaves=True) as first:
        with pytest.raises(StateUnavailable, match="stopped answering"):
            await Api(Owners([first] * (MOVES + 5))).get("/v1/generations")

    assert MOVES <= len(heard) <= 2 * MOVES  # aiohttp's own second try among them
