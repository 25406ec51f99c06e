"""Webhook acknowledgements a second, committed, over 64 connections, while images are being stored.

`python -m benchmarks.acks [--seconds 8] [--idle]`. Starts a simulator and a service as processes of their own, on
loopback. Prints what the harness itself costs first: the same requests against a server that only says 200.
"""

import argparse
import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from runware_provider.tokens import WebhookTokens
from tests.e2e.processes import Service, World, fetch

SECRET = "of-the-benchmark"
CONNECTIONS = 64
GENERATIONS = 200
RESULTS = 20
STORED_AT_ONCE = 16
IMAGE_BYTES = 1_000_000


@dataclass(frozen=True)
class Measured:
    """Acknowledgements a second and their times in milliseconds."""

    rate: float
    p50: float
    p99: float

    def __str__(self) -> str:
        return f"{self.rate:8,.0f}/s   p50 {self.p50:6.2f} ms   p99 {self.p99:6.2f} ms"


async def post_all(address: str, requests: Iterable[bytes]) -> Measured:
    """Post each of `requests`, over `CONNECTIONS` connections."""
    host, port = urlsplit(address).netloc.split(":")
    waiting = iter(requests)
    times: list[float] = []

    async def connection() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            for request in waiting:
                began = time.perf_counter()
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(f"not acknowledged: {head[:200]!r}")
                await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
                times.append(time.perf_counter() - began)
        finally:
            writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(connection() for _ in range(CONNECTIONS)))
    passed = time.perf_counter() - began
    times.sort()
    return Measured(len(times) / passed, 1000 * times[len(times) // 2], 1000 * times[int(len(times) * 0.99)])


def again_and_again(requests: Sequence[bytes], seconds: float) -> Iterator[bytes]:
    """The requests in turn, for so long."""
    until = time.perf_counter() + seconds
    return itertools.takewhile(lambda _: time.perf_counter() < until, itertools.cycle(requests))


async def own_cost(seconds: float) -> Measured:
    """What the harness reaches when nothing is done: its limit, in this one process."""
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        body = json.dumps({"data": [{"taskUUID": str(uuid4()), "imageUUID": str(uuid4())}]}).encode()
        request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        return await post_all(f"http://127.0.0.1:{port}", again_and_again([request], seconds))


def held_generations(service: Service) -> list[dict[str, Any]]:
    """Generations that Runware never finishes, so that deliveries for them are news."""
    return [service.create("held", numberResults=RESULTS) for _ in range(GENERATIONS)]


def deliveries(service: Service, states: list[dict[str, Any]], *, distinct: bool) -> list[bytes]:
    """Requests with one error each for one image: committed, and nothing to fetch. Distinct ones are news each."""
    tokens = WebhookTokens([SECRET])
    host = urlsplit(service.url).netloc
    made: list[bytes] = []
    for number in range(RESULTS if distinct else 1):
        for state in states:
            item = {
                "taskType": "imageInference",
                "taskUUID": state["task_uuid"],
                "imageUUID": f"{number:08d}-0000-4000-8000-000000000000",
                "code": "benchmark",
                "message": "an error of one image, so that there is nothing to fetch",
            }
            body = json.dumps({"errors": [item]}).encode()
            path = tokens.webhook_url("", UUID(state["id"]))
            made.append(
                f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
    return made


async def keep_storing(service: Service, stop: asyncio.Event) -> int:
    """Ask for sixteen images at a time until told to stop; returns how many were stored."""
    stored = 0
    while not stop.is_set():
        state = await asyncio.to_thread(service.create, "stored", numberResults=STORED_AT_ONCE)
        while not stop.is_set():
            status, body = await asyncio.to_thread(fetch, f"{service.url}/v1/generations/{state['id']}")
            now = json.loads(body)
            if status == 200 and now["completed_at"]:
                stored += now["counts"]["stored"]
                break
            await asyncio.sleep(0.05)
    return stored


async def measure(service: Service, seconds: float, *, idle: bool) -> None:
    """Print the figures."""
    print(f"harness alone             {await own_cost(2)}")
    stop = asyncio.Event()
    storing = None if idle else asyncio.create_task(keep_storing(service, stop))
    states = await asyncio.to_thread(held_generations, service)
    news = deliveries(service, states, distinct=True)
    # Each once: a second time they would be repeats.
    print(f"news (state changes)      {await post_all(service.url, news)}")
    repeats = deliveries(service, states, distinct=False)
    print(f"repeats (nothing to keep) {await post_all(service.url, again_and_again(repeats, seconds))}")
    if storing is not None:
        stop.set()
        print(f"{await storing} images of {IMAGE_BYTES // 1000} KB were stored meanwhile")


def main() -> None:
    """Start everything, measure, stop everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--idle", action="store_true", help="nothing is stored meanwhile")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="acks-") as folder, World(Path(folder)) as world:
        plan = Path(folder) / "faults.json"
        plan.write_text(json.dumps({"rules": [{"on": "task", "do": "stuck", "prompt": "held"}]}))
        world.simulate("--image-bytes", str(IMAGE_BYTES), "--faults", str(plan))
        service = world.serve_with_webhooks(RUNWARE_PROVIDER_WEBHOOK_SECRET=SECRET)
        asyncio.run(measure(service, options.seconds, idle=options.idle))


if __name__ == "__main__":
    main()
