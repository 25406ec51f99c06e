"""The service under measurement: a process of its own, as anybody starts it, and what it uses of the machine."""

import asyncio
import atexit
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import perf_counter, process_time

from benchmarks.images import a_jpeg
from benchmarks.processes import family, most_of_its_own, of_all, processor
from benchmarks.stand_in import StandIn
from benchmarks.wire import Connection, Json, request
from tests.e2e.processes import World, free_port

IMAGE_BYTES = 200_000
CLIENTS = 32

UNBOUND = {"RUNWARE_PROVIDER_MAX_IN_FLIGHT": "1000000"}
"""The one limit that the load would run into; all other settings are the defaults."""


@dataclass(frozen=True)
class Used:
    """Seconds of processor: of the service's processes, of this one, and of the whole machine."""

    service: float
    harness: float
    machine: float

    def __sub__(self, other: "Used") -> "Used":
        return Used(self.service - other.service, self.harness - other.harness, self.machine - other.machine)

    def others(self, seconds: float) -> float:
        """The percentage of the machine's cores that neither the service nor the harness had busy."""
        return 100 * max(0.0, self.machine - self.service - self.harness) / seconds / (os.cpu_count() or 1)


@dataclass
class Bench:
    """A service with what stands in for Runware, and its processes."""

    folder: Path
    world: World
    stand_in: StandIn
    ports: Sequence[int]
    pids: Sequence[int]

    @property
    def port(self) -> int:
        """Where the (first) API listens."""
        return self.ports[0]

    def used(self) -> Used:
        """What the service's processes and this one have used so far."""
        members = (each for pid in self.pids for each in family(pid))
        return Used(sum(map(processor, members)), process_time(), of_all())

    def memory(self) -> int:
        """The most bytes that one service has had, with the process that keeps its images."""
        return max(sum(map(most_of_its_own, family(pid))) for pid in self.pids)

    async def create(self, number: int, *, prompt: str, images: int = 1, clients: int = CLIENTS) -> list[float]:
        """Ask for generations, `clients` at a time; seconds until each was settled, or accepted when it is held."""
        waits: list[float] = []
        numbers = count()
        held = prompt == "held"
        fields = {"positivePrompt": prompt, "model": "runware:101@1", "width": 512, "height": 512}
        body = json.dumps({"input": {**fields, "numberResults": images}}).encode()

        async def client(port: int) -> None:
            ask = request("POST", "/v1/generations", port, body, **({} if held else {"Prefer": "wait=60"}))
            connection = await Connection.open(port)
            while next(numbers) < number:
                began = perf_counter()
                status, answer = await connection.ask(ask)
                waits.append(perf_counter() - began)
                if status != 202 or (b'"settled":true' in answer) == held:
                    raise RuntimeError(f"{status}: {answer[:2000]!r}")
            connection.close()

        await asyncio.gather(*(client(self.ports[each % len(self.ports)]) for each in range(clients)))
        return waits

    async def ready(self) -> Json:
        """What `/readyz` says."""
        connection = await Connection.open(self.port)
        status, body = await connection.ask(request("GET", "/readyz", self.port))
        connection.close()
        if status != 200:
            raise RuntimeError(f"not ready: {status} {body!r}")
        state: Json = json.loads(body)
        return state

    async def idle(self, *, running: int | None = None) -> None:
        """Wait until nothing is left to do, and so many generations are running."""
        async with asyncio.timeout(60):
            while True:
                now = await self.ready()
                if not any(now["tasks"].values()) and running in (None, now["running"]):
                    return
                await asyncio.sleep(0.02)


@asynccontextmanager
async def a_service(image: bytes | None = None, **settings: str) -> AsyncIterator[Bench]:
    """A service on an empty folder, with defaults, that is delivered to by webhook."""
    port = free_port()
    stand_in = StandIn(a_jpeg(IMAGE_BYTES) if image is None else image, [port])
    await stand_in.start()
    with a_folder() as folder, World(folder) as world:
        world.environ |= stand_in.settings() | UNBOUND | settings
        service = await asyncio.to_thread(
            world.serve, port=port, RUNWARE_PROVIDER_PUBLIC_URL=f"http://127.0.0.1:{port}"
        )
        try:
            yield Bench(folder, world, stand_in, [port], [service.process.pid])
        finally:
            await stand_in.stop()


@contextmanager
def a_folder() -> Iterator[Path]:
    """A folder on the disk that is measured: below `BENCH_DIR` or the temporary files.

    It is removed when this process ends. ext4 does not give out the inodes of files that were removed in the last
    minutes, and walks past all of them for each new file: who removes 10,000 images measures that with the next figure.
    """
    path = Path(tempfile.mkdtemp(prefix="bench-", dir=os.environ.get("BENCH_DIR")))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    yield path
