"""2,000 generations at once: what is refused says when to come again, Runware is answered at once, and all drains.

`python -m tests.faults.overload [--generations 2000] [--seed N]`. One in eight is delivered by the prober here instead
of by the simulator, so that the time to the acknowledgement is measured where Runware would measure it.
"""

import argparse
import asyncio
import itertools
import json
import random
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import aiohttp

from runware_provider.tokens import WebhookTokens
from tests.e2e.processes import Simulated, World, eventually, fetch, free_port
from tests.faults.kills import Verdict, count, read_file

CONNECTIONS = 32
SECRET = "the-overload-secret"
PROBED = "delivered by the prober"
EVERY = 8
IMAGE_BYTES = 100_000
DRAINING = 180.0
"""Seconds that everything gets to be accepted."""

LONGEST_ACKNOWLEDGEMENT = 1.0
MOST_MEMORY = 300 * 1024**2


@dataclass
class Load:
    """Clients that submit all at once, and come again when a 429 says so. `accepted`: images by generation."""

    url: str
    generations: int
    accepted: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, str] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    without_retry_after: int = 0

    async def run(self) -> None:
        """Submit until every one is accepted."""
        todo = asyncio.Queue[int]()
        for number in range(self.generations):
            todo.put_nowait(number)
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.timeout(DRAINING):
            clients = [asyncio.create_task(self._client(session, todo)) for _ in range(CONNECTIONS)]
            # The first to end has either failed or seen the last one accepted: then the others wait in vain.
            ended, others = await asyncio.wait(clients, return_when=asyncio.FIRST_COMPLETED)
            for client in others:
                client.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await asyncio.gather(*ended)

    async def _client(self, session: aiohttp.ClientSession, todo: asyncio.Queue[int]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            number = await todo.get()
            wait = await self._submit(session, number)
            if wait is not None:
                loop.call_later(wait, todo.put_nowait, number)
            elif len(self.accepted) >= self.generations:
                return

    async def _submit(self, session: aiohttp.ClientSession, number: int) -> float | None:
        """None when it was accepted, else after how many seconds to come again."""
        probed = number % EVERY == 0
        images = 1 if number % 5 else 2
        body = {
            "input": {
                "positivePrompt": f"picture {number}, {PROBED}" if probed else f"picture {number}",
                "model": "runware:101@1",
                "width": 256,
                "height": 256,
                "numberResults": images,
            }
        }
        headers = {"Idempotency-Key": str(number)}
        async with session.post(f"{self.url}/v1/generations", json=body, headers=headers) as answer:
            content = await answer.json()
            self.answers[str(answer.status)] += 1
            if answer.status == 202:
                self.accepted[content["id"]] = images
                if probed:
                    self.tasks[content["id"]] = content["task_uuid"]
                return None
            if answer.status != 429:
                raise AssertionError(f"HTTP {answer.status}: {content}")
            after = answer.headers.get("Retry-After", "")
            if not after.isdigit():
                self.without_retry_after += 1
            return float(after) if after.isdigit() else 1.0


class Prober(threading.Thread):
    """What Runware's webhook sender sees: how long the service takes to answer a valid delivery.

    Real results of the tasks whose webhooks the plan drops, and, all the time, deliveries for an id that is unknown:
    these are committed each time too.
    """

    def __init__(self, url: str, simulated: Simulated, load: Load) -> None:
        super().__init__(name="prober")
        self.seconds: list[float] = []
        self.wrong: Counter[str] = Counter()
        self.delivered = 0
        self._netloc = urlsplit(url).netloc
        self._simulated = simulated
        self._load = load
        self._tokens = WebhookTokens([SECRET])
        self._over = threading.Event()

    def finish(self) -> None:
        """Deliver what is left, then end."""
        self._over.set()
        self.join()

    def run(self) -> None:
        """Until `finish` and until nothing is left to deliver."""
        connection = HTTPConnection(self._netloc, timeout=30)
        missing: dict[str, set[str]] = {}
        stranger = uuid4()
        for number in itertools.count():
            over = self._over.is_set()
            if number % 10 == 0:
                for generation_id, task_uuid, row in self._results(missing):
                    connection = self._deliver(connection, UUID(generation_id), {"data": [row]})
                    missing[task_uuid].add(row["imageUUID"])
                    self.delivered += 1
            connection = self._deliver(connection, stranger, {"data": [{"taskUUID": str(stranger), "number": number}]})
            if over and not self._open(missing):
                break
            self._over.wait(0.02)
        connection.close()

    def _open(self, known: dict[str, set[str]]) -> dict[str, str]:
        tasks = dict(self._load.tasks)
        return {
            task: each for each, task in tasks.items() if len(known.get(task, ())) < self._load.accepted.get(each, 1)
        }

    def _results(self, known: dict[str, set[str]]) -> list[tuple[str, str, dict[str, Any]]]:
        """The next finished results, as `getResponse` shows them."""
        wanted = dict(list(self._open(known).items())[:50])
        if not wanted:
            return []
        question = [{"taskType": "getResponse", "taskUUID": task} for task in wanted]
        _, answer = fetch(self._simulated.url, "POST", question, {"Authorization": "Bearer simulated"})
        found = []
        for row in json.loads(answer).get("data", []):
            task = row["taskUUID"]
            if row.get("imageURL") and row["imageUUID"] not in known.setdefault(task, set()):
                found.append((wanted[task], task, row))
        return found

    def _deliver(self, connection: HTTPConnection, generation_id: UUID, body: Any) -> HTTPConnection:
        path = self._tokens.webhook_url("", generation_id)
        began = time.monotonic()
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
        except (OSError, HTTPException) as error:
            self.wrong[type(error).__name__] += 1
            connection.close()
            return HTTPConnection(self._netloc, timeout=30)
        self.seconds.append(time.monotonic() - began)
        if answer.status != 200:
            self.wrong[f"HTTP {answer.status}"] += 1
        return connection


@dataclass(frozen=True)
class Figures:
    """What was measured, and what was lost or doubled."""

    verdict: Verdict
    submitting: float
    answers: dict[str, int]
    without_retry_after: int
    acknowledgements: list[float]
    wrong_acknowledgements: dict[str, int]
    webhooks_again: int
    peak_bytes: int

    def __str__(self) -> str:
        """One paragraph."""
        times = sorted(self.acknowledgements)
        p99 = times[int(0.99 * (len(times) - 1))]
        return (
            f"{self.verdict.accepted} generations ({self.verdict.images} images) accepted in {self.submitting:.1f} s, "
            f"all complete after {self.verdict.seconds:.1f} s; answers {self.answers}, "
            f"{self.without_retry_after} of the 429 without Retry-After; {len(times)} webhooks acknowledged in "
            f"{times[len(times) // 2] * 1000:.0f} ms (median), {p99 * 1000:.0f} ms (p99), "
            f"{times[-1] * 1000:.0f} ms (most); peak memory {self.peak_bytes / 1024**2:.0f} MiB; "
            f"lost {len(self.verdict.lost)}, doubled {len(self.verdict.doubled)}"
        )

    def misses(self) -> list[str]:
        """What is not as it should be."""
        misses = [*self.verdict.lost[:20], *self.verdict.doubled[:20]]
        if max(self.acknowledgements) >= LONGEST_ACKNOWLEDGEMENT:
            misses.append(f"a webhook was acknowledged after {max(self.acknowledgements):.2f} s")
        if self.wrong_acknowledgements:
            misses.append(f"webhooks were answered otherwise: {self.wrong_acknowledgements}")
        if self.webhooks_again:
            misses.append(f"{self.webhooks_again} webhooks of the simulator had to be sent again")
        if self.peak_bytes >= MOST_MEMORY:
            misses.append(f"it took {self.peak_bytes / 1024**2:.0f} MiB")
        if self.answers.get("429", 0) == 0:
            misses.append("MAX_IN_FLIGHT was never reached, so nothing was tried")
        if self.without_retry_after:
            misses.append(f"{self.without_retry_after} answers 429 did not say when to come again")
        return misses


def overload(world: World, generations: int, seed: int) -> Figures:
    """Submit all at once, look while it drains, then count."""
    began = time.monotonic()
    plan = world.folder / "faults.json"
    plan.write_text(json.dumps({"seed": seed, "rules": [{"on": "webhook", "do": "drop", "prompt": PROBED}]}))
    options = ("--latency", "4-8", "--image-bytes", str(IMAGE_BYTES), "--seed", str(seed), "--faults", str(plan))
    simulated = world.simulate(*options)
    port = free_port()
    settings = {
        "RUNWARE_PROVIDER_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "RUNWARE_PROVIDER_WEBHOOK_SECRET": SECRET,
        # Longer than all this takes: whatever completes was delivered, not asked for.
        "RUNWARE_PROVIDER_DEADLINE": "1h",
    }
    service = world.serve(port=port, **settings)
    load = Load(service.url, generations)
    prober = Prober(service.url, simulated, load)
    prober.start()
    try:
        asyncio.run(load.run())
        submitting = time.monotonic() - began
    finally:
        prober.finish()
    eventually(lambda: not service.get("/readyz")["running"], DRAINING)
    service.idle()
    verdict = count(world, simulated, service, load.accepted, time.monotonic() - began, lambda: read_file(world))
    return Figures(
        verdict,
        submitting,
        dict(load.answers),
        load.without_retry_after,
        prober.seconds,
        dict(prober.wrong),
        int(simulated.stats["webhook_attempts"]) - int(simulated.stats["webhooks_confirmed"]),
        peak_bytes(service.process.pid),
    )


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had so far."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("this system does not say how much memory a process took")


def main() -> int:
    """Run it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generations", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.randrange(2**31) if options.seed is None else options.seed
    print(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="overload-") as folder, World(Path(folder)) as world:
        figures = overload(world, options.generations, seed)
    print(figures)
    for each in figures.misses():
        print("  ", each)
    return 1 if figures.misses() else 0


if __name__ == "__main__":
    raise SystemExit(main())
