"""Two API and three worker processes over one PostgreSQL, killed at random, and the database itself restarted.

`python -m tests.faults.cluster [--kills 20] [--seed N]`; the seed replays the times, the load and the faults.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from tests.e2e.processes import Running, Service, World, free_port
from tests.faults.balancer import Balancer
from tests.faults.kills import FAULTS, Load, Rows, Verdict, count
from tests.postgres import PostgresServer, postgres_server

APIS, WORKERS = 2, 3
SETTLED_WITHIN = 60.0
"""Seconds from the last fault. A delivery that was lost is asked for after 30, whatever else goes well."""


class Cluster:
    """The nodes of one installation; each can be killed and started again."""

    def __init__(self, world: World, database: str, *, apis: int = APIS, workers: int = WORKERS) -> None:
        self._world = world
        self.port = free_port()
        self.api_ports = [free_port() for _ in range(apis)]
        world.environ |= {
            "RUNWARE_PROVIDER_STATE_URL": database,
            "RUNWARE_PROVIDER_PUBLIC_URL": f"http://127.0.0.1:{self.port}",
            "RUNWARE_PROVIDER_PATIENCE": "3s",
            "RUNWARE_PROVIDER_DEADLINE": "30m",
        }
        migrated = world.run("migrate")
        assert migrated.code == 0, migrated
        self._commands: list[tuple[str, ...]] = [("worker", "--port", "0")] * workers
        self._commands[:0] = [("serve", "--no-worker", "--port", str(port)) for port in self.api_ports]
        self.nodes: list[Running | None] = [self._start(number) for number in range(len(self._commands))]

    def _start(self, number: int) -> Running:
        return self._world.start(*self._commands[number])

    def await_all(self) -> None:
        """Wait until every node serves."""
        for node in self.nodes:
            assert node is not None
            node.wait_for("listens on")

    def kill(self, number: int) -> None:
        """`kill -9`."""
        node = self.nodes[number]
        if node is not None and not node.ended:
            node.kill()

    def restart(self, number: int) -> None:
        """Start it again, as a supervisor would."""
        self.nodes[number] = self._start(number)

    def revive(self) -> None:
        """Start again what has ended."""
        for number, node in enumerate(self.nodes):
            if node is None or node.ended:
                self.restart(number)

    def service(self) -> Service:
        """All of it, through the one address."""
        node = self.nodes[0]
        assert node is not None
        return Service(node, f"http://127.0.0.1:{self.port}")


def kill_cluster(world: World, server: PostgresServer, kills: int, seed: int) -> Verdict:
    """Kill nodes `kills` times while they work, restart the database in the middle, then count."""
    began = time.monotonic()
    plan = world.folder / "faults.json"
    plan.write_text(json.dumps({"seed": seed, "rules": FAULTS}))
    simulated = world.simulate(
        "--latency", "0.05-0.4", "--image-bytes", "50000", "--seed", str(seed), "--faults", str(plan)
    )
    name = server.create_database()
    cluster = Cluster(world, server.url(name))
    chance = random.Random(seed)
    with Balancer(cluster.port, cluster.api_ports):
        cluster.await_all()
        load = Load(f"http://127.0.0.1:{cluster.port}", seed)
        load.start()
        try:
            for number in range(kills):
                time.sleep(chance.uniform(0.3, 2.5))
                victim = chance.randrange(APIS + WORKERS)
                cluster.kill(victim)
                if number == kills // 2:
                    server.stop("immediate")
                    server.start()
                time.sleep(chance.uniform(0.0, 0.5))
                cluster.revive()
                print(f"\rkill {number + 1} of {kills}, {len(load.accepted)} accepted", end="", flush=True)
        finally:
            load.stop()
            print()

        def read() -> Rows:
            keys = server.run("SELECT key FROM artifacts", name).split()
            return keys, server.run("SELECT id FROM generations WHERE status = 'completed'", name).split()

        return count(world, simulated, cluster.service(), load.accepted, time.monotonic() - began, read)


def main() -> int:
    """Run it and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.randrange(2**31) if options.seed is None else options.seed
    print(f"seed {seed}")
    with (
        postgres_server(durable=True) as server,
        tempfile.TemporaryDirectory(prefix="cluster-") as folder,
        World(Path(folder)) as world,
    ):
        found = kill_cluster(world, server, options.kills, seed)
    print(
        f"{options.kills} kills and one restart of PostgreSQL in {found.seconds:.0f} s; {found.accepted} generations, "
        f"{found.images} images; lost {len(found.lost)}, doubled {len(found.doubled)}; complete {found.settled:.1f} s "
        "after the last fault"
    )
    for each in (*found.lost[:20], *found.doubled[:20]):
        print("  ", each)
    return 1 if found.lost or found.doubled or found.settled > SETTLED_WITHIN else 0


if __name__ == "__main__":
    raise SystemExit(main())
