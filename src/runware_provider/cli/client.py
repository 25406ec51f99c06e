"""The service's client API, as commands use it: over whoever owns the data directory, and who owns it next."""

import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol, TypeVar

import aiohttp

from runware_provider.cli.failures import Answered, Damaged
from runware_provider.errors import StateUnavailable

ANSWER_WAIT = 90.0
"""Seconds without a byte after which a service has stopped answering."""

LONG_WAIT = 3600.0
"""The same, for questions that take as long as there is state to read."""

MOVES = 8
"""Owners that may leave one after the other while one question is asked."""

T = TypeVar("T")

_CUT_OFF = (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError)


class Way(Protocol):
    """To whoever owns the data directory at present."""

    @property
    def session(self) -> aiohttp.ClientSession: ...

    @property
    def passing(self) -> bool:
        """Whether this process is the owner itself."""

    async def moved(self, left: aiohttp.ClientSession) -> bool:
        """Find the next owner after the one of the session `left`. False when that was a service that was to stay."""


class Api:
    """The service's client API. A command that owned the data directory and is done is followed to the next owner."""

    def __init__(self, way: Way) -> None:
        self._way = way

    @property
    def passing(self) -> bool:
        """No service runs; what answers ends with this command."""
        return self._way.passing

    async def get(self, path: str, *, wait: float = ANSWER_WAIT, **params: Any) -> Any:
        """A JSON answer, for which `wait` seconds are given. Raises Answered."""
        given = {name: str(value) for name, value in params.items() if value is not None}

        async def ask(session: aiohttp.ClientSession) -> Any:
            async with session.get(path, params=given, timeout=within(wait)) as response:
                return await _content(response)

        return await self._asked(ask, repeatable=True)

    async def send(
        self, method: str, path: str, body: Any = None, *, wait: float = ANSWER_WAIT, key: str | None = None
    ) -> Any:
        """The JSON answer to a request with a JSON body; None for an empty one. Raises Answered.

        `key`: the same one and the same body are the same request, however often it is sent.
        """
        headers = {} if key is None else {"Idempotency-Key": key}

        async def ask(session: aiohttp.ClientSession) -> Any:
            async with session.request(method, path, json=body, headers=headers, timeout=within(wait)) as response:
                return await _content(response)

        return await self._asked(ask, repeatable=key is not None)

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

        async def ask(session: aiohttp.ClientSession) -> str:
            digest = hashlib.sha256()
            with to.open("wb") as file:
                async with session.get(path) as response:
                    if response.status != 200:
                        await _content(response)
                    async for piece in response.content.iter_chunked(1 << 20):
                        digest.update(piece)
                        file.write(piece)
            return digest.hexdigest()

        found = await self._asked(ask, repeatable=True)
        if sha256 is not None and found != sha256:
            raise Damaged(f"what the service has of {to.name.strip('.').removesuffix('.part')} is not what was stored")

    async def follow(self, generation_id: str) -> AsyncGenerator[dict[str, Any], None]:
        """The states of one generation as they come, until it is settled. Raises Answered."""
        async with aclosing(self._events(f"/v1/generations/{generation_id}/events")) as events:
            async for kind, data in events:
                if kind == "state":
                    state = json.loads(data)
                    yield state
                    if state["settled"]:
                        return

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

    async def _asked(self, ask: Callable[[aiohttp.ClientSession], Awaitable[T]], *, repeatable: bool) -> T:
        """What `ask` comes to. `repeatable`: it may be asked again when nobody knows whether it was heard."""
        for _ in range(MOVES):
            session = self._way.session
            try:
                return await ask(session)
            except (aiohttp.ClientError, TimeoutError) as error:
                unheard = isinstance(error, aiohttp.ClientConnectorError)
                if unheard or (repeatable and isinstance(error, _CUT_OFF)):
                    lost = error
                    if await self._way.moved(session):
                        continue
                raise _stopped(error) from error
        raise _stopped(lost) from lost

    async def _events(self, path: str) -> AsyncGenerator[tuple[str, bytes], None]:
        """The events of a stream, and of the next owner's when one leaves: from the start, for each stream says all."""
        while True:
            session = self._way.session
            try:
                async with aclosing(_stream(session, path)) as events:
                    async for event in events:
                        yield event
            except Answered as error:
                if error.status != 503 or not await self._way.moved(session):
                    raise
            except (aiohttp.ClientError, TimeoutError) as error:
                if not isinstance(error, _CUT_OFF) or not await self._way.moved(session):
                    raise _stopped(error) from error
            else:
                if not await self._way.moved(session):
                    return


async def _stream(session: aiohttp.ClientSession, path: str) -> AsyncGenerator[tuple[str, bytes], None]:
    async with session.get(path) as response:
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


def within(wait: float) -> aiohttp.ClientTimeout:
    """Time limits of a question that may leave us without a byte for `wait` seconds."""
    return aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=wait)


def _stopped(error: Exception) -> StateUnavailable:
    return StateUnavailable(
        f"the service stopped answering ({type(error).__name__}); what was accepted goes on at its next start"
    )


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
