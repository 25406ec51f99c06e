"""Cloudflare's HTTP API for D1: one statement a request, patient with what passes, bounded in everything.

A token gets 1,200 requests in five minutes, and whoever needs more is shut out for the next five. So writing slows down
as the quota that each answer tells of runs out, and a shut door is not knocked at.
"""

import asyncio
import json
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import aiohttp

from runware_provider.errors import ProjectionUnavailable
from runware_provider.projection.target import D1Access, Rejected

PATIENCE = 5.0
"""Seconds that one call goes on trying. Beyond that it is the caller's to try again."""
FIRST_PAUSE = 0.25
ANSWER_SECONDS = 15.0
"""What one request may take; D1 itself stops after 30 s."""
SHUT_SECONDS = 300.0
"""The longest that a `Retry-After` keeps us away: Cloudflare's own longest."""
SCARCE = 200
"""With fewer requests than this left, writes are spread over the time until there are new ones."""
LONGEST_SPACING = 5.0

ANSWER_BYTES = 64 * 1024 * 1024
"""D1's own limit is 50 MB a result."""
_ERROR_BYTES = 64 * 1024
_LARGE_BYTES = 128 * 1024

_QUOTA = re.compile(r"r=(\d{1,9});\s*t=(\d{1,9})")
_TOKEN_CODES = {6003, 6111, 9106, 9109, 10000}
"""Malformed or unknown; some of them come with 400."""
_PASSING_WORDS = re.compile(
    r"connection lost|object to be reset|code was updated|transient issue|overloaded|client disconnected"
    r"|memory limit and was reset",
    re.IGNORECASE,
)
"""What D1 says of its own restarts and queues, with any status: what Cloudflare's list of errors advises to retry."""


class _Passing(Exception):
    """The same request may succeed in a while; `after`: in how many seconds, when Cloudflare says so."""

    def __init__(self, words: str, after: float | None = None) -> None:
        self.after = after
        super().__init__(words)


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class D1Api:
    """One database. Statements may be repeated, so whatever may have failed is sent again."""

    def __init__(self, account: str, database: str, access: D1Access) -> None:
        self._url = f"{access.base_url.rstrip('/')}/accounts/{account}/d1/database/{database}/raw"
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {access.token}", "Content-Type": "application/json"},
            connector=aiohttp.TCPConnector(limit=16),
        )
        self._shut_until = 0.0
        self._spacing = 0.0

    async def query(self, sql: str, parameters: Sequence[str] = (), *, seconds: float | None = None) -> list[list[Any]]:
        """The rows of `sql`; `seconds` for each request (`ANSWER_SECONDS`). Raises ProjectionUnavailable, Rejected."""
        request = await asyncio.to_thread(_encoded, sql, parameters)
        until = time.monotonic() + PATIENCE
        pause = FIRST_PAUSE
        while True:
            shut = self._shut_until - time.monotonic()
            if shut > 0:
                raise ProjectionUnavailable(f"Cloudflare asks for no requests for another {shut:.0f} s")
            try:
                answer = await self._post(request, seconds or ANSWER_SECONDS)
                if len(answer.body) > _LARGE_BYTES:
                    return await asyncio.to_thread(_rows, answer)
                return _rows(answer)
            except _Passing as passing:
                wait = pause * random.uniform(0.5, 1) if passing.after is None else passing.after  # noqa: S311
                if time.monotonic() + wait > until:
                    if passing.after is not None:
                        self._shut_until = time.monotonic() + min(wait, SHUT_SECONDS)
                    raise ProjectionUnavailable(str(passing)) from passing
            await asyncio.sleep(wait)
            pause = min(2 * pause, 2.0)

    async def spaced(self) -> None:
        """Wait as long as what is left of the quota asks for."""
        await asyncio.sleep(self._spacing)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def _post(self, request: bytes, seconds: float) -> _Answer:
        timeout = aiohttp.ClientTimeout(total=seconds, connect=5)
        # A redirect would take the token elsewhere.
        post = self._session.post(self._url, data=BytesIO(request), timeout=timeout, allow_redirects=False)
        try:
            async with post as response:
                self._spacing = _spacing(response.headers.get("Ratelimit", ""))
                return _Answer(response.status, response.headers, await _body(response))
        except TimeoutError as error:
            raise _Passing("D1 did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _Passing(f"D1 cannot be reached: {error}") from error


def _encoded(sql: str, parameters: Sequence[str]) -> bytes:
    return json.dumps({"sql": sql, "params": list(parameters)}, ensure_ascii=False).encode()


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """At most `ANSWER_BYTES`; of an error its beginning."""
    most = ANSWER_BYTES if response.status == 200 else _ERROR_BYTES
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > most:
            if response.status == 200:
                raise Rejected(f"D1 answered with more than {most} bytes")
            break
    return bytes(body[:most])


def _spacing(ratelimit: str) -> float:
    """Seconds between writes that use up what is left just when there is more; of several quotas the scarcest."""
    spacings = [
        int(time_left) / max(int(left), 1) for left, time_left in _QUOTA.findall(ratelimit) if int(left) < SCARCE
    ]
    return min(max(spacings, default=0.0), LONGEST_SPACING)


def _rows(answer: _Answer) -> list[list[Any]]:
    """Raises _Passing, Rejected."""
    content = _parsed(answer.body)
    if answer.status == 200 and content.get("success") is True:
        try:
            rows: list[list[Any]] = content["result"][-1]["results"]["rows"]
        except (KeyError, IndexError, TypeError):
            pass
        else:
            return rows
    raise _complaint(answer, content)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _complaint(answer: _Answer, content: Mapping[str, Any]) -> _Passing | Rejected:
    """What to raise for an answer without rows."""
    code, words = _first_error(content)
    said = f"HTTP {answer.status}" + (f": {words}" if words else "")
    if answer.status in {408, 425, 429} or answer.status >= 500 or _PASSING_WORDS.search(words):
        return _Passing(f"D1 is not available ({said})", _retry_after(answer))
    if answer.status in {401, 403} or code in _TOKEN_CODES:
        return Rejected(
            f"Cloudflare does not accept the token ({said}): set RUNWARE_PROVIDER_D1_TOKEN to one that may edit D1 in "
            "this account",
            whatever=True,
        )
    if answer.status == 404:
        return Rejected(f"D1 has no such database ({said}): PROJECTION_URL is d1://ACCOUNT/DATABASE", whatever=True)
    if not content:
        return Rejected(f"this is not D1 that answers ({said}): check RUNWARE_PROVIDER_D1_URL", whatever=True)
    return Rejected(words or f"D1 refused ({said})")


def _first_error(content: Mapping[str, Any]) -> tuple[int | None, str]:
    match content.get("errors"):
        case [{"message": str(words), **more}, *_]:
            code = more.get("code")
            return code if isinstance(code, int) else None, words.removeprefix("D1_ERROR: ")[:2_000]
        case _:
            return None, ""


def _retry_after(answer: _Answer) -> float | None:
    value = answer.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 9 else None
