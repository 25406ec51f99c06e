"""`make faults`: the staged faults, at least fifty times `kill -9` under load, the overload; and the table of it all.

`python -m tests.faults [--kills 50] [--seed N]`; the seed replays the times, the load and the faults.
"""

import argparse
import json
import random
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.processes import World, fetch
from tests.faults.cluster import APIS, SETTLED_WITHIN, WORKERS, kill_cluster
from tests.faults.kills import FAULTS, kill_and_look
from tests.faults.overload import overload
from tests.faults.staged import TABLE, Row
from tests.postgres import postgres_server

FOLDER = Path(__file__).parent


def main() -> int:
    """Run all of it; 0 when nothing was lost, doubled or missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = random.randrange(2**31) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    misses = [*_staged(), *_killed(options.kills, seed), *_clustered(options.kills // 2, seed), *_overloaded(seed)]
    print_table(TABLE)
    print(
        "\nA test that failed before it had counted has no row; it is named above. `meanwhile` shares the kills' books."
    )
    print(f"{time.monotonic() - began:.0f} s, seed {seed}")
    for miss in misses:
        print("  ", miss)
    return 1 if misses or any(row.lost or row.doubled for row in TABLE) else 0


def print_table(table: list[Row]) -> None:
    """As Markdown, to be copied into `docs/reliability.md`; a fault that was tried in many ways is one row."""
    print("\n| fault | times tried | lost | doubled |\n| --- | ---: | ---: | ---: |")
    merged: dict[str, Row] = {}
    for row in table:
        known = merged.get(row.fault, Row(row.fault, 0, 0, 0))
        merged[row.fault] = Row(row.fault, known.tried + row.tried, known.lost + row.lost, known.doubled + row.doubled)
    for row in merged.values():
        print(f"| {row.fault} | {row.tried:,} | {row.lost} | {row.doubled} |")


class Moments:
    """A pytest plugin that reads how many deaths `test_death_at_any_moment` has tried."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """It prints their number when all of them ended well."""
        said = re.search(r"^(\d+) moments", report.capstdout, re.MULTILINE)
        if report.when == "call" and report.passed and said:
            TABLE.append(Row("death before or after any call of a port", int(said[1]), 0, 0))


def _staged() -> list[str]:
    """The tests of this folder in this process: they fill the table."""
    # We import what plugins would like to rewrite before they can.
    imported = "ignore::pytest.PytestAssertRewriteWarning"
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", imported]
    code = pytest.main([str(FOLDER), *options], plugins=[Moments()])
    return [] if code == 0 else [f"the tests of staged faults ended with {code!r}"]


def _killed(kills: int, seed: int) -> list[str]:
    with _world("kills-") as world:
        found = kill_and_look(world, kills, seed)
        fired = _fired(world)
    lost, doubled = len(found.lost), len(found.doubled)
    print(f"{kills} kills in {found.seconds:.0f} s; {found.accepted} generations, {found.images} images")
    TABLE.append(
        Row(f"kill -9 under load ({found.accepted:,} generations, {found.images:,} images)", kills, lost, doubled)
    )
    for rule, times in zip(FAULTS, fired, strict=True):
        TABLE.append(Row(f"meanwhile: {_said(rule)}", times, lost, doubled))
    return [*found.lost[:20], *found.doubled[:20]]


def _clustered(kills: int, seed: int) -> list[str]:
    with postgres_server(durable=True) as server, _world("cluster-") as world:
        found = kill_cluster(world, server, kills, seed)
    lost, doubled = len(found.lost), len(found.doubled)
    print(f"{kills} kills of nodes in {found.seconds:.0f} s; complete {found.settled:.1f} s after the last of them")
    nodes = f"{APIS} API and {WORKERS} worker nodes, one restart of PostgreSQL"
    made = f"{found.accepted:,} generations, {found.images:,} images"
    TABLE.append(Row(f"kill -9 of any of {nodes} ({made})", kills, lost, doubled))
    late = [f"complete only after {found.settled:.0f} s"] if found.settled > SETTLED_WITHIN else []
    return [*found.lost[:20], *found.doubled[:20], *late]


def _overloaded(seed: int) -> list[str]:
    with _world("overload-") as world:
        figures = overload(world, 2_000, seed)
    print(figures)
    found = figures.verdict
    name = f"overload: {found.accepted:,} generations at once, {figures.answers.get('429', 0):,} times 429"
    TABLE.append(Row(name, 1, len(found.lost), len(found.doubled)))
    return figures.misses()


@contextmanager
def _world(prefix: str) -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix=prefix) as folder, World(Path(folder)) as world:
        yield world


def _fired(world: World) -> list[int]:
    """How often each rule of the plan fired."""
    origin = world.environ["RUNWARE_PROVIDER_RUNWARE_URL"].removesuffix("/v1")
    _, body = fetch(f"{origin}/_simulator/faults")
    fired: list[int] = json.loads(body)["fired"]
    return fired


def _said(rule: dict[str, object]) -> str:
    """A rule in a few words."""
    words = [str(rule["on"]), str(rule["do"])]
    if "status" in rule:
        words[1] = str(rule["status"])
    if "accept" in rule:
        words.append("though accepted")
    return " ".join(words)


if __name__ == "__main__":
    raise SystemExit(main())
