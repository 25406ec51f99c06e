"""One GET for one image, with everything bounded: who is asked, for how long, and for how much."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.connector import SocketFactoryType
from yarl import URL

from runware_provider.artifacts.addresses import ImageHosts
from runware_provider.artifacts.refusal import NotKept, rejected, unreachable
from runware_provider.errors import fetch_failed

MAX_REDIRECTS = 5
MAX_RETRY_AFTER = timedelta(hours=1)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_EXCERPT_BYTES = 2_000
_EXCERPT_SECONDS = 1.0
_CONNECT_SECONDS = 10.0

Sink = Callable[[bytes], Awaitable[None]]


class Fetcher:
    """Fetches images over connections that are kept open.

    `total`: for one image, redirects included; `stall`: between two pieces of it. Proxies of the environment are not
    used: behind one the address check would check the proxy.
    """

    def __init__(
        self,
        hosts: ImageHosts,
        *,
        max_bytes: int,
        total: timedelta,
        stall: timedelta,
        ipv6: bool = False,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._hosts = hosts
        self._max_bytes = max_bytes
        self._total = total.total_seconds()
        self._stall = stall.total_seconds()
        self._resolver = resolver
        self._family = socket.AF_UNSPEC if ipv6 else socket.AF_INET
        # Two sessions, so that a public name never gets to an inner address, not even to one that is listed.
        self._public = self._session(hosts.public_socket)
        self._inner = self._session(hosts.inner_socket)

    def _session(self, socket_factory: SocketFactoryType) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=0,  # the caller bounds how many images are on their way
            family=self._family,
            resolver=self._resolver,
            socket_factory=socket_factory,
            keepalive_timeout=30,
        )
        return aiohttp.ClientSession(
            connector=connector,
            trust_env=False,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            # `Accept: */*`: a CDN that converts for browsers must give us what Runware made.
            headers={"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "runware-provider"},
            timeout=aiohttp.ClientTimeout(
                total=None, connect=_CONNECT_SECONDS, sock_connect=_CONNECT_SECONDS, sock_read=self._stall
            ),
        )

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        # Ours, because aiohttp makes its own at import, before SSL_CERT_FILE may be set. Reading it takes 20 ms.
        return ssl.create_default_context()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._public.close()
        await self._inner.close()

    async def fetch(self, url: str, sink: Sink, *, attempt: int) -> bool:
        """Give the body of the image at `url` to `sink`, piece by piece.

        True when HTTP itself said that the body is whole; False when it ended because the connection closed, so that
        only the image can tell. Raises NotKept: fetch_failed or content_rejected, and what `sink` raises.
        """
        target, inner = self._hosts.check(url)
        try:
            async with asyncio.timeout(self._total):
                for _ in range(MAX_REDIRECTS + 1):
                    session = self._inner if inner else self._public
                    tls = self._tls if target.scheme == "https" else True
                    async with session.get(target, ssl=tls, allow_redirects=False) as response:
                        if response.status == 200:
                            return await self._body(response, sink)
                        if response.status not in _REDIRECTS or "Location" not in response.headers:
                            raise await _refusal(response, url, attempt)
                        target, inner = self._next(response, url, attempt)
        except aiohttp.SocketTimeoutError:
            raise unreachable(url, f"nothing came for {self._stall:g} s", attempt) from None
        except aiohttp.ServerTimeoutError:
            raise unreachable(url, f"no connection within {_CONNECT_SECONDS:g} s", attempt) from None
        except TimeoutError:
            raise unreachable(url, f"not done within {self._total:g} s", attempt) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # ValueError: what yarl, idna and ssl make of addresses that no check of ours found fault with.
            raise unreachable(url, f"{type(error).__name__}: {error}", attempt) from error
        raise NotKept(fetch_failed(url, 302, f"more than {MAX_REDIRECTS} redirects", attempts=attempt))

    async def _body(self, response: aiohttp.ClientResponse, sink: Sink) -> bool:
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.strip().lower() not in ("", "identity"):
            raise rejected("not_an_image", f"the body is encoded ({encoding}), which was not asked for")
        announced = response.content_length
        if announced is not None and announced > self._max_bytes:
            raise rejected(
                "too_large", f"the image has {announced} bytes, more than {self._max_bytes} (MAX_IMAGE_BYTES)"
            )
        received = 0
        while chunk := await response.content.readany():
            received += len(chunk)
            if received > self._max_bytes:
                raise rejected("too_large", f"the image has more than {self._max_bytes} bytes (MAX_IMAGE_BYTES)")
            await sink(chunk)
        return announced is not None or "Transfer-Encoding" in response.headers

    def _next(self, response: aiohttp.ClientResponse, url: str, attempt: int) -> tuple[URL, bool]:
        location = response.headers["Location"]
        try:
            target = str(response.url.join(URL(location, encoded=location.isascii())))
        except ValueError:
            raise NotKept(
                fetch_failed(url, response.status, f"redirected to {location[:200]!r}", attempts=attempt)
            ) from None
        return self._hosts.check(target)


async def _refusal(response: aiohttp.ClientResponse, url: str, attempt: int) -> NotKept:
    """The CDN's answer that is no image, with the beginning of its body when that comes soon."""
    body = b""
    try:
        async with asyncio.timeout(_EXCERPT_SECONDS):
            while len(body) < _EXCERPT_BYTES and (chunk := await response.content.readany()):
                body += chunk
    except (aiohttp.ClientError, TimeoutError, OSError):
        pass  # the status is what matters
    text = body[:_EXCERPT_BYTES].decode("utf-8", "replace")
    error = fetch_failed(url, response.status, response.reason or "", text, attempts=attempt)
    return NotKept(error, _retry_after(response.headers.get("Retry-After"), datetime.now(UTC)))


def _retry_after(header: str | None, now: datetime) -> timedelta | None:
    """Seconds or an HTTP date, as a wait from `now` of at most `MAX_RETRY_AFTER`; None when it is neither."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(timedelta(seconds=int(text[:9])), MAX_RETRY_AFTER)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return max(min(at.replace(tzinfo=at.tzinfo or UTC) - now, MAX_RETRY_AFTER), timedelta(0))
