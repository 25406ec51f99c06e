"""How a command reaches the state: through the process that owns the data directory, or by being it for a moment.

Either way it speaks the same HTTP API over the owner's Unix socket, so that the output is the same.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp

from runware_provider.cli.failures import Answered, Damaged
from runware_provider.durable.owner import node_folders, read_owner
from runware_provider.errors import ConfigurationError, DataDirInUse, StateUnavailable
from runware_provider.settings import Settings

OWNER_WAIT = 10.0
"""Seconds to wait for an owner that is starting."""

ANSWER_WAIT = 90.0
"""Seconds without a byte after which a service has stopped answering."""

LONG_WAIT = 3600.0
"""The same, for questions that take as long as there is state to read."""

_HEALTHY_WITHIN = aiohttp.ClientTimeout(total=5)


class Api:
    """The service's client API over one connection pool.

    `passing`: no service runs; what answers ends with the command.
    """

    def __init__(self, session: aiohttp.ClientSession, *, passing: bool) -> None:
        self._session = session
        self.passing = passing

    async def get(self, path: str, *, wait: float = ANSWER_WAIT, **params: Any) -> Any:
        """A JSON answer, for which `wait` seconds are given. Raises Answered."""
        given = {name: str(value) for name, value in params.items() if value is not None}
        with _reached():
            async with self._session.get(path, params=given, timeout=_within(wait)) as response:
                return await _content(response)

    async def send(
        self, method: str, path: str, body: Any = None, *, wait: float = ANSWER_WAIT, key: str | None = None
    ) -> Any:
        """The JSON answer to a request with a JSON body; None for an empty one. Raises Answered.

        `key`: the same one and the same body are the same request, however often it is sent.
        """
        headers = {} if key is None else {"Idempotency-Key": key}
        with _reached():
            async with self._session.request(
                method, path, json=body, headers=headers, timeout=_within(wait)
            ) as response:
                return await _content(response)

    async def download(self, path: str, to: Path, *, sha256: str | None = None) -> None:
        """Write what `path` serves to a file, whole or not at all. Raises Answered, and Damaged for other bytes."""
        part = to.with_name(f".{to.name}.part")
        try:
            await self.fetch(path, part, sha256=sha256)
            part.replace(to)
        finally:
            part.unlink(missing_ok=True)

    async def fetch(self, path: str, to: Path, *, sha256: str | None = None) -> None:
        """Write what `path` serves to a file that nobody else looks at. Raises as `download` does."""
        digest = hashlib.sha256()
        with _reached(), to.open("wb") as file:
            async with self._session.get(path) as response:
                if response.status != 200:
                    await _content(response)
                async for piece in response.content.iter_chunked(1 << 20):
                    digest.update(piece)
                    file.write(piece)
        if sha256 is not None and digest.hexdigest() != sha256:
            raise Damaged(f"what the service has of {to.name.strip('.').removesuffix('.part')} is not what was stored")

    async def follow(self, generation_id: str) -> AsyncGenerator[dict[str, Any], None]:
        """The states of one generation as they come, until it is settled. Raises Answered."""
        async with aclosing(self._events(f"/v1/generations/{generation_id}/events")) as events:
            async for kind, data in events:
                if kind == "state":
                    yield json.loads(data)

    async def changes(self) -> AsyncGenerator[str | None, None]:
        """The ids of generations as they change, from the first None on; a later None: read the list again.

        Ends with the service. Raises Answered.
        """
        async with aclosing(self._events("/v1/events")) as events:
            async for kind, data in events:
                if kind == "changed":
                    yield json.loads(data)["id"]
                elif kind in {"ready", "reload"}:
                    yield None

    async def _events(self, path: str) -> AsyncGenerator[tuple[str, bytes], None]:
        with _reached():
            async with self._session.get(path) as response:
                if response.status != 200:
                    await _content(response)
                kind = ""
                async for line in _lines(response.content):
                    if line.startswith(b"event: "):
                        kind = line[7:].decode()
                    elif line.startswith(b"data: ") and kind in {"deleted", "problem"}:
                        raise Answered(404 if kind == "deleted" else 503, json.loads(line[6:]))
                    elif line.startswith(b"data: "):
                        yield kind, line[6:]


def _within(wait: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=wait)


@contextmanager
def _reached() -> Iterator[None]:
    """A service that dies while a command speaks to it is no reason for a traceback."""
    try:
        yield
    except (aiohttp.ClientError, TimeoutError) as error:
        raise StateUnavailable(
            f"the service stopped answering ({type(error).__name__}); what was accepted goes on at its next start"
        ) from error


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length: a state may hold megabytes of the caller's input."""
    rest = b""
    async for chunk in content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line


async def _content(response: aiohttp.ClientResponse) -> Any:
    body = await response.read()
    content = json.loads(body) if body else None
    if response.status >= 400:
        after = response.headers.get("Retry-After", "")
        raise Answered(
            response.status,
            content if isinstance(content, dict) else {},
            retry_after=float(after) if after.isdecimal() else None,
        )
    return content


@asynccontextmanager
async def connected(settings: Settings, *, work: bool) -> AsyncIterator[Api]:
    """Speak to the owner of the data directory, or to a node on this machine; or be one until the block ends.

    `work`: perform tasks while we own it. Raises ConfigurationError and what opening raises.
    """
    until = asyncio.get_running_loop().time() + OWNER_WAIT
    while True:
        for path in _sockets(settings):
            async with _session(path) as session:
                if await _answers(session):
                    yield Api(session, passing=False)
                    return
        # Nobody answers: now the whole service is needed here, and no sooner, for importing it takes time.
        from runware_provider.context import Context
        from runware_provider.serving import serving

        try:
            async with (
                Context.open(settings, work=work) as ctx,
                serving(ctx, None),
                _session((read_owner(ctx.owner.data_dir) or {})["socket"]) as session,
            ):
                yield Api(session, passing=True)
                return
        except DataDirInUse:
            if asyncio.get_running_loop().time() > until:
                raise
            await asyncio.sleep(0.1)


@asynccontextmanager
async def of_service(settings: Settings) -> AsyncIterator[tuple[Api, str]]:
    """Speak to a service that is there to stay, and the address of its pages. Raises ConfigurationError for none."""
    folders = node_folders(settings.data_dir) if settings.many_nodes else [settings.data_dir]
    for owner in [read_owner(folder) or {} for folder in folders]:
        if "socket" in owner and "url" in owner:
            async with _session(owner["socket"]) as session:
                if await _answers(session) and await _has_pages(owner["url"]):
                    yield Api(session, passing=False), _reachable(owner["url"])
                    return
    raise ConfigurationError(f"no service runs on {settings.data_dir}: start one with `runware-provider serve`")


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


def _sockets(settings: Settings) -> list[str]:
    """Where an owner may listen; of nodes that share their state, any on this machine that is there to stay."""
    if not settings.many_nodes:
        owner = read_owner(settings.data_dir) or {}
        return [owner["socket"]] if "socket" in owner else []
    owners = [read_owner(folder) or {} for folder in node_folders(settings.data_dir)]
    return [owner["socket"] for owner in owners if "socket" in owner and "url" in owner]


def _session(path: str) -> aiohttp.ClientSession:
    connector = aiohttp.UnixConnector(path, limit=0)  # whoever asks bounds how much is asked for at once
    return aiohttp.ClientSession("http://localhost", connector=connector, timeout=_within(ANSWER_WAIT))


async def _answers(session: aiohttp.ClientSession) -> bool:
    """Whether an owner listens there; a socket may be left of one that was killed, and one may be too busy."""
    try:
        async with session.get("/healthz", timeout=_HEALTHY_WITHIN) as response:
            return response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False
