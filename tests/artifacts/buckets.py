"""An S3 on loopback: moto, and before it a door that writes down what is asked and can be told to misbehave."""

import asyncio
import io
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import aiohttp
from aiohttp import web
from pydantic import SecretStr
from yarl import URL

from runware_provider.artifacts import BucketAccess

KEY_ID = "a-key-id"
SECRET = "a-planted-secret"

_MOTO = """
import sys
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
_OWNER = {  # moto does not look at the signature, but an object is not for those who have none
    "Authorization": f"AWS4-HMAC-SHA256 Credential={KEY_ID}/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=00"
}
_KEY = re.compile(r"<Key>([^<]*)</Key>")
_names = count()

Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextmanager
def moto() -> Iterator[str]:
    """The address of a moto in a process of its own, which ends with this one."""
    process = subprocess.Popen(
        [sys.executable, "-c", _MOTO],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def answers(status: int, code: str = "", **headers: str) -> Reply:
    """S3's own way to refuse, with everything it tells in such a case."""

    async def reply(request: web.Request) -> web.StreamResponse:
        text = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>It is as it is.</Message>'
            f"<AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId><StringToSign>planted {request.path}</StringToSign></Error>"
        )
        return web.Response(status=status, text=text, content_type="application/xml", headers=headers)

    return reply


async def stalls(request: web.Request) -> web.StreamResponse:
    """Take the request and say nothing."""
    await asyncio.Event().wait()
    raise AssertionError


async def hangs_up(request: web.Request) -> web.StreamResponse:
    """Take the request and close the connection."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@dataclass
class _Fault:
    reply: Reply
    on: str
    times: float


class Bucket:
    """One bucket. `asked` has each request as `PUT /key`, `POST /key?uploads=` and so on, below the bucket."""

    def __init__(self, moto: str, name: str, session: aiohttp.ClientSession) -> None:
        self.name = name
        self.asked: list[str] = []
        self.headers: dict[str, str] = {}
        """Of the last request."""
        self.endpoint = ""
        self._moto = moto
        self._session = session
        self._faults: list[_Fault] = []
        self._transports: set[asyncio.BaseTransport] = set()

    @property
    def url(self) -> str:
        """For ARTIFACTS_URL; with a prefix, so that its absence would be seen."""
        return f"s3://{self.name}/a prefix/of=two"

    @property
    def access(self) -> BucketAccess:
        """Whoever holds this may do everything."""
        return BucketAccess(self.endpoint, "eu-test-1", KEY_ID, SecretStr(SECRET))

    def fails(self, reply: Reply, on: str = "", *, times: float = float("inf")) -> None:
        """Answer the next requests that match the expression `on` in this way, `times` of them."""
        self._faults.append(_Fault(reply, on, times))

    def recovers(self) -> None:
        """Answer as ever again."""
        self._faults.clear()

    async def hang_up(self) -> None:
        """Close the connections of those who wait for an answer."""
        for transport in self._transports:
            transport.close()
        self._transports.clear()

    async def door(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on, unless it is to fail."""
        await request.read()
        said = f"{request.method} {request.raw_path.removeprefix(f'/{self.name}')}"
        self.asked.append(said)
        self.headers = dict(request.headers)
        for fault in self._faults:
            if fault.times > 0 and re.search(fault.on, said):
                fault.times -= 1
                assert request.transport is not None
                self._transports.add(request.transport)
                return await fault.reply(request)
        return await self.passes(request)

    async def passes(self, request: web.Request) -> web.StreamResponse:
        """What moto answers."""
        method = request.method
        async with self._session.request(
            method,
            URL(self._moto + request.raw_path, encoded=True),
            data=io.BytesIO(await request.read()),
            headers=request.headers,
            skip_auto_headers=["Content-Type"],
        ) as response:
            found = {
                name: value
                for name, value in response.headers.items()
                if name.lower() not in ("transfer-encoding", "connection", "content-length", "server", "date")
            }
            if method == "HEAD":
                found["Content-Length"] = response.headers.get("Content-Length", "0")
            return web.Response(status=response.status, body=await response.read(), headers=found)

    async def ask(self, method: str, path: str = "", **options: Any) -> tuple[int, Mapping[str, str], bytes]:
        """Ask moto itself, as the bucket's owner, about what is below it; `path` is encoded."""
        url = URL(f"{self._moto}/{self.name}{path}", encoded=True)
        async with self._session.request(method, url, headers=_OWNER, **options) as response:
            return response.status, response.headers, await response.read()

    async def keys(self) -> list[str]:
        """All keys, prefix included."""
        keys: list[str] = []
        after = ""
        while True:
            _, _, body = await self.ask("GET", f"?list-type=2&start-after={after}")
            found = _KEY.findall(body.decode())
            keys += found
            if b"<IsTruncated>true" not in body:
                return keys
            after = found[-1]

    async def uploads(self) -> list[str]:
        """The keys of multipart uploads that nobody has ended."""
        _, _, body = await self.ask("GET", "?uploads")
        return _KEY.findall(body.decode())


@asynccontextmanager
async def a_bucket(moto: str) -> AsyncIterator[Bucket]:
    """A new, empty bucket."""
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        bucket = Bucket(moto, f"bucket-{next(_names)}-{id(session)}", session)
        await bucket.ask("PUT")
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", bucket.door)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        bucket.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield bucket
        finally:
            await runner.cleanup()
