"""Who may ask, and how much: tokens, sessions and limits, as pure ASGI in front of the client API and the gallery."""

import asyncio
import re
from collections.abc import Callable
from itertools import chain
from typing import overload
from urllib.parse import urlsplit

from starlette.requests import cookie_parser
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runware_provider.api.problems import problem
from runware_provider.sessions import COOKIE, ClientTokens, Sessions
from runware_provider.settings import is_loopback
from runware_provider.tokens import WEBHOOK_PATH
from runware_provider.tracing import incoming, listening
from runware_provider.web.paths import SIGN_IN, STATIC, is_page, sign_in_first, signed_out

OPEN_PATHS = frozenset({WEBHOOK_PATH, "/healthz", "/readyz"})
"""Asked by Runware, which has its own token, and by those who only want to know whether this lives."""

MAX_QUERY = 8_192
MAX_HEADERS = 32_768
"""Bytes of a request's query and of all its headers."""

OPEN_BODY = 8_192
"""Bytes of a body that needs no token: somebody who signs in."""

BODY_WAIT = 60.0
"""Seconds that a client may let us wait for the next piece of its body."""

_HARMLESS = {"GET", "HEAD", "OPTIONS"}

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:]*)(?::\d+)?", re.IGNORECASE)


class Guard:
    """Lets through who carries one of `tokens`, or the cookie of a session that began with one. Without any tokens,
    only requests that name this machine in `Host`.

    A web page could otherwise reach a service on loopback through a name of its own that resolves to 127.0.0.1. Nor may
    another site's page change anything here, with what its visitor's browser adds by itself: a cookie, or being on this
    machine. `trusted` stands for a socket that only the owner of the data directory can open. `count` is told the
    status of each refusal.
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: ClientTokens,
        sessions: Sessions,
        max_body: int,
        *,
        count: Callable[[int], None],
        trusted: bool = False,
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._sessions = sessions
        self._count = count
        self._max_body = max_body
        self._trusted = trusted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        headers = _Head(scope)
        if len(scope["query_string"]) > MAX_QUERY or _size(scope) > MAX_HEADERS:
            refusal = problem(431, f"a query of at most {MAX_QUERY} and headers of at most {MAX_HEADERS} bytes, please")
            await self._refuse(refusal, scope, receive, send)
            return
        if not self._trusted:
            refused = self._may_not(scope, headers)
            if refused is not None:
                await self._refuse(refused, scope, receive, send)
                return
        length = headers.get("content-length", "0")
        most = min(OPEN_BODY, self._max_body) if _needs_no_token(scope) else self._max_body
        if not length.isdecimal() or int(length[:19]) > most:
            await self._refuse(_too_large(most), scope, receive, send)
            return
        if not listening():
            await self._limited(scope, receive, send, most)
            return
        with incoming(headers.get("traceparent")):
            await self._limited(scope, receive, send, most)

    async def _refuse(self, refusal: Response, scope: Scope, receive: Receive, send: Send) -> None:
        if refusal.status_code >= 400:  # to be led to the form is no refusal
            self._count(refusal.status_code)
        await refusal(scope, receive, send)

    def _may_not(self, scope: Scope, headers: "_Head") -> Response | None:
        """What to answer to who may not ask this; None for who may."""
        if self._tokens:
            scheme, _, token = headers.get("authorization", "").partition(" ")
            if scheme.lower() == "bearer" and self._tokens.accepts(token) is not None:
                return None
            if not (self._signed_in(headers) or _needs_no_token(scope)):
                if is_page(scope["path"]):
                    return sign_in_first(scope) if scope["method"] in _HARMLESS else signed_out(scope)
                return problem(
                    401,
                    "send `Authorization: Bearer TOKEN` with one of the service's client tokens",
                    headers={"WWW-Authenticate": "Bearer"},
                )
        else:
            match = _HOST.fullmatch(headers.get("host", ""))
            if match is None or not is_loopback(match[1].strip("[]")):
                return problem(
                    403, "this service has no RUNWARE_PROVIDER_CLIENT_TOKENS, so it answers on loopback names only"
                )
        if scope["method"] not in _HARMLESS and _from_elsewhere(headers):
            return problem(403, "a page of another site may not change anything here")
        return None

    def _signed_in(self, headers: "_Head") -> bool:
        return self._sessions.holds(cookie_parser(headers.get("cookie", "")).get(COOKIE, ""))

    async def _limited(self, scope: Scope, receive: Receive, send: Send, most: int) -> None:
        """Count a body whose length nobody announced, and wait no longer than `BODY_WAIT` for a piece of it."""
        received = 0
        started = whole = False
        refusal: Response | None = None

        async def counted() -> Message:
            nonlocal received, whole, refusal
            try:
                async with asyncio.timeout(None if whole else BODY_WAIT):
                    message = await receive()
            except TimeoutError:
                refusal = problem(408, f"nothing of the body came for {BODY_WAIT:.0f} s")
                return {"type": "http.disconnect"}
            if message["type"] == "http.request":
                whole = not message.get("more_body", False)
                received += len(message.get("body", b""))
                if received > most:
                    refusal = _too_large(most)
            return message if refusal is None else {"type": "http.disconnect"}

        async def noted(message: Message) -> None:
            nonlocal started
            if started or refusal is None:  # what the application says of a body cut off is not what happened
                started = True
                await send(message)

        try:
            await self._app(scope, counted, noted)
        except Exception:
            if refusal is None:
                raise
        if refusal is not None and not started:
            await self._refuse(refusal, scope, receive, send)


def _needs_no_token(scope: Scope) -> bool:
    """Whether it is for those who have not signed in yet."""
    path: str = scope["path"]
    return path == SIGN_IN or path.startswith(STATIC)


def _too_large(most: int) -> Response:
    setting = "" if most <= OPEN_BODY else " (RUNWARE_PROVIDER_MAX_REQUEST_BYTES)"
    return problem(413, f"the body is over {most} bytes{setting}", issues=[("body", "is too large")])


def _from_elsewhere(headers: "_Head") -> bool:
    """Whether a browser says that a page of another origin asks. What is no browser says nothing."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site not in {"same-origin", "none"}
    origin = headers.get("origin")  # browsers leave the other out where they trust the connection least
    return origin is not None and urlsplit(origin).netloc != headers.get("host")


def _size(scope: Scope) -> int:
    return sum(map(len, chain.from_iterable(scope["headers"])))


class _Head:
    """The headers of a request, of each the first; looked through once and not for each question."""

    __slots__ = ("_values",)

    def __init__(self, scope: Scope) -> None:
        self._values: dict[bytes, bytes] = dict(reversed(scope["headers"]))

    @overload
    def get(self, name: str) -> str | None: ...
    @overload
    def get(self, name: str, default: str) -> str: ...
    def get(self, name: str, default: str | None = None) -> str | None:
        """The header `name`, in lower case."""
        value = self._values.get(name.encode())
        return default if value is None else value.decode("latin-1")
