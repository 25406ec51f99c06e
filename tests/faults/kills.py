"""`kill -9` at random times, at least fifty, under load and faults: what is lost, what is doubled.

`python -m tests.faults.kills [--kills 50] [--seed N]`; the seed replays the times, the load and the faults.
"""

import argparse
import json
import random
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tests.e2e.processes import Service, Simulated, World, free_port, is_settled

FAULTS = [
    {"on": "webhook", "do": "drop", "probability": 0.1},
    {"on": "webhook", "do": "duplicate", "probability": 0.2},
    {"on": "webhook", "do": "delay", "probability": 0.1, "seconds": 0.5},
    {"on": "dispatch", "do": "status", "status": 503, "probability": 0.05},
    {"on": "dispatch", "do": "status", "status": 500, "probability": 0.03, "accept": True},
    {"on": "dispatch", "do": "break", "probability": 0.03, "accept": True},
    {"on": "cdn", "do": "status", "status": 503, "probability": 0.05},
    {"on": "cdn", "do": "truncate", "probability": 0.03},
]
CLIENTS = 8
SETTLING = 120.0
"""Seconds that everything gets to complete after the last kill."""


@dataclass
class Load:
    """Clients that submit, and submit again with the same key until they are answered."""

    url: str
    seed: int
    accepted: dict[str, int] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self._threads = [threading.Thread(target=self._client, args=(number,)) for number in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _client(self, client: int) -> None:
        chance = random.Random(f"{self.seed}/{client}")
        turn = 0
        while not self._stop.is_set():
            turn += 1
            images = chance.choice([1, 1, 2, 4])
            body = {
                "input": {
                    "positivePrompt": f"picture {client}/{turn}",
                    "model": "runware:101@1",
                    "width": 256,
                    "height": 256,
                    "numberResults": images,
                }
            }
            while not self._submit(body, f"{client}/{turn}", images):
                time.sleep(0.05)
            time.sleep(chance.uniform(0.0, 0.3))

    def _submit(self, body: Any, key: str, images: int) -> bool:
        from tests.e2e.processes import fetch

        try:
            status, answer = fetch(f"{self.url}/v1/generations", "POST", body, {"Idempotency-Key": key})
        except (OSError, HTTPException) as error:
            with self._lock:
                self.errors[type(error).__name__] += 1
            return False
        if status != 202:
            with self._lock:
                self.errors[f"HTTP {status}"] += 1
            return False
        with self._lock:
            self.accepted[json.loads(answer)["id"]] = images
        return True


@dataclass(frozen=True)
class Verdict:
    """What was found afterwards. `settled`: seconds from the last fault until everything was complete."""

    accepted: int
    images: int
    lost: list[str]
    doubled: list[str]
    seconds: float
    settled: float


Rows = tuple[list[str], list[str]]
"""What a read model has: the keys of its artifacts, the ids of its completed generations."""


def kill_and_look(world: World, kills: int, seed: int) -> Verdict:
    """Kill the service `kills` times while it works, then count."""
    began = time.monotonic()
    plan = world.folder / "faults.json"
    plan.write_text(json.dumps({"seed": seed, "rules": FAULTS}))
    simulated = world.simulate(
        "--latency", "0.05-0.4", "--image-bytes", "50000", "--seed", str(seed), "--faults", str(plan)
    )
    port = free_port()
    settings = {
        "RUNWARE_PROVIDER_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "RUNWARE_PROVIDER_PATIENCE": "3s",
        "RUNWARE_PROVIDER_DEADLINE": "30m",
    }
    chance = random.Random(seed)
    load = Load(f"http://127.0.0.1:{port}", seed)
    load.start()
    try:
        for number in range(kills):
            service = world.serve(port=port, **settings)
            time.sleep(chance.uniform(0.05, 1.5))
            service.process.kill()
            print(f"\rkill {number + 1} of {kills}, {len(load.accepted)} accepted", end="", flush=True)
        service = world.serve(port=port, **settings)
        time.sleep(1)
    finally:
        load.stop()
        print()
    return count(world, simulated, service, load.accepted, time.monotonic() - began, lambda: read_file(world))


def read_file(world: World) -> Rows:
    """The rows of a read model in its default file."""
    with closing(sqlite3.connect(world.data / "projection.db")) as database:
        keys = [row[0] for row in database.execute("SELECT key FROM artifacts")]
        completed = [row[0] for row in database.execute("SELECT id FROM generations WHERE status = 'completed'")]
    return keys, completed


def count(
    world: World,
    simulated: Simulated,
    service: Service,
    accepted: dict[str, int],
    seconds: float,
    read: Callable[[], Rows],
) -> Verdict:
    """Wait until everything is complete, then look into state, store, read model and the simulator's ledger."""
    began = time.monotonic()
    until = began + SETTLING
    unsettled = set(accepted)
    while unsettled and time.monotonic() < until:
        unsettled -= {each for each in unsettled if is_settled(service.state(each))}
        time.sleep(0.2)
    settled = time.monotonic() - began
    time.sleep(1)
    lost, doubled = [f"{each} is not complete" for each in unsettled], []
    keys: Counter[str] = Counter()
    for each, images in accepted.items():
        state = service.state(each)
        stored = [output for output in state["outputs"] if output["type"] == "success"]
        keys.update(output["key"] for output in stored)
        if len(stored) < images:
            lost.append(f"{each} has {len(stored)} of {images} images: {state['error']}")
        if len(stored) > images:
            doubled.append(f"{each} has {len(stored)} of {images} images")
    files = Counter(str(path.relative_to(world.data / "artifacts")) for path in (world.data / "artifacts").rglob("*.*"))
    lost += [f"{key} is in state and not in the store" for key in keys if key not in files]
    doubled += [f"{key} is in the store and not in state" for key in files if key not in keys]
    kept, completed = read()
    rows, generations = Counter(kept), set(completed)
    lost += [f"{key} has no row" for key in keys if rows[key] == 0]
    doubled += [f"{key} has {rows[key]} rows" for key in rows if rows[key] > 1 or key not in keys]
    lost += [f"{each} has no completed row" for each in accepted if each not in generations]
    ledger = {entry["task_uuid"]: entry for entry in all_entries(simulated)}
    for each in accepted:
        entry = ledger.get(service.state(each)["task_uuid"])
        if entry is None or entry["billed"] < 1:
            lost.append(f"{each} was never made")
        elif entry["billed"] > 1:
            doubled.append(f"{each} was billed {entry['billed']} times")
    doubled += [f"task {uuid} was billed and belongs to nobody" for uuid in ledger if len(ledger) > len(accepted)][:5]
    return Verdict(len(accepted), sum(accepted.values()), lost, doubled, seconds, settled)


def all_entries(simulated: Simulated) -> list[dict[str, Any]]:
    """The whole ledger, page by page."""
    entries: list[dict[str, Any]] = []
    while True:
        page = simulated._get(f"/_simulator/ledger?offset={len(entries)}&limit=1000")["entries"]
        if not page:
            return entries
        entries += page


def main() -> int:
    """Run it and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.randrange(2**31) if options.seed is None else options.seed
    print(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="kills-") as folder, World(Path(folder)) as world:
        found = kill_and_look(world, options.kills, seed)
    print(
        f"{options.kills} kills in {found.seconds:.0f} s; {found.accepted} generations accepted, "
        f"{found.images} images paid for; lost {len(found.lost)}, doubled {len(found.doubled)}"
    )
    for each in (*found.lost[:20], *found.doubled[:20]):
        print("  ", each)
    return 1 if found.lost or found.doubled else 0


if __name__ == "__main__":
    raise SystemExit(main())
