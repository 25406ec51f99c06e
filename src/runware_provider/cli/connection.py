"""How a command reaches the state: through the process that owns the data directory, or by being it for a moment.

Either way it speaks the same HTTP API over the owner's Unix socket, so that the output is the same. An owner that is a
command itself leaves when that is done; who still needs one finds the next, or becomes it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp

from runware_provider.cli.client import ANSWER_WAIT, Api, within
from runware_provider.durable.owner import node_folders, read_owner
from runware_provider.errors import ConfigurationError, DataDirInUse
from runware_provider.settings import Settings

OWNER_WAIT = 10.0
"""Seconds to wait for an owner that is starting."""

_HEALTHY_WITHIN = aiohttp.ClientTimeout(total=5)


@asynccontextmanager
async def connected(settings: Settings, *, work: bool) -> AsyncIterator[Api]:
    """Speak to the owner of the data directory, or to a node on this machine; or be one until the block ends.

    `work`: perform tasks while we own it. Raises ConfigurationError and what opening raises.
    """
    async with AsyncExitStack() as stack:
        way = _Way(settings, stack, work=work)
        await way.find()
        yield Api(way)


class _Way:
    """See `client.Way`. What it opens, `stack` closes."""

    session: aiohttp.ClientSession

    def __init__(self, settings: Settings, stack: AsyncExitStack, *, work: bool) -> None:
        self._settings = settings
        self._stack = stack
        self._work = work
        self._leaves = False
        self._finding = asyncio.Lock()
        self.passing = False

    async def moved(self, left: aiohttp.ClientSession) -> bool:
        """See `client.Way`."""
        async with self._finding:
            if left is not self.session:  # another question found it before us
                return True
            if not self._leaves:
                return False
            await self.find()
            return True

    async def find(self) -> None:
        """Find an owner, or become it."""
        until = asyncio.get_running_loop().time() + OWNER_WAIT
        while True:
            for owner in _owners(self._settings):
                async with AsyncExitStack() as opened:
                    session = await opened.enter_async_context(_session(owner["socket"]))
                    if await _answers(session):
                        self.session, self.passing = session, False
                        self._leaves = "url" not in owner  # only a command listens nowhere else
                        self._stack.push_async_exit(opened.pop_all())
                        return
            try:
                await self._own()
            except DataDirInUse:
                if asyncio.get_running_loop().time() > until:
                    raise
                await asyncio.sleep(0.1)
            else:
                return

    async def _own(self) -> None:
        # The whole service is needed here now, and no sooner, for importing it takes time.
        from runware_provider.context import Context
        from runware_provider.serving import serving

        async with AsyncExitStack() as opened:
            ctx = await opened.enter_async_context(Context.open(self._settings, work=self._work))
            await opened.enter_async_context(serving(ctx, None))
            ours = (read_owner(ctx.owner.data_dir) or {})["socket"]
            self.session = await opened.enter_async_context(_session(ours))
            self.passing, self._leaves = True, False
            self._stack.push_async_exit(opened.pop_all())


@asynccontextmanager
async def of_service(settings: Settings) -> AsyncIterator[tuple[Api, str]]:
    """Speak to a service that is there to stay, and the address of its pages. Raises ConfigurationError for none."""
    folders = node_folders(settings.data_dir) if settings.many_nodes else [settings.data_dir]
    for owner in [read_owner(folder) or {} for folder in folders]:
        if "socket" in owner and "url" in owner:
            async with _session(owner["socket"]) as session:
                if await _answers(session) and await _has_pages(owner["url"]):
                    yield Api(_Stays(session)), _reachable(owner["url"])
                    return
    raise ConfigurationError(f"no service runs on {settings.data_dir}: start one with `runware-provider serve`")


class _Stays:
    """The way to a service: see `client.Way`."""

    passing = False

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def moved(self, left: aiohttp.ClientSession) -> bool:  # noqa: ARG002  as the protocol has it
        """Nowhere."""
        return False


async def _has_pages(url: str) -> bool:
    """Whether that is the address of the API, and not of the health of a `worker`."""
    try:
        async with aiohttp.ClientSession(timeout=_HEALTHY_WITHIN) as session, session.get(f"{url}/openapi.json") as it:
            return it.status != 404
    except (aiohttp.ClientError, TimeoutError):
        return False


def _reachable(url: str) -> str:
    """An address that a browser on this machine reaches: a service that listens everywhere listens on loopback."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def _owners(settings: Settings) -> list[dict[str, Any]]:
    """Who may listen; of nodes that share their state, those on this machine that are there to stay."""
    if not settings.many_nodes:
        owner = read_owner(settings.data_dir) or {}
        return [owner] if "socket" in owner else []
    owners = [read_owner(folder) or {} for folder in node_folders(settings.data_dir)]
    return [owner for owner in owners if "socket" in owner and "url" in owner]


def _session(path: str) -> aiohttp.ClientSession:
    connector = aiohttp.UnixConnector(path, limit=0)  # whoever asks bounds how much is asked for at once
    return aiohttp.ClientSession("http://localhost", connector=connector, timeout=within(ANSWER_WAIT))


async def _answers(session: aiohttp.ClientSession) -> bool:
    """Whether an owner listens there; a socket may be left of one that was killed, and one may be too busy."""
    try:
        async with session.get("/healthz", timeout=_HEALTHY_WITHIN) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
