"""All benchmarks as one table, with the bar beside each figure: `make bench`, or `python -m benchmarks [PART ...]`.

Everything runs on this machine, over loopback: the service as its own process, with its defaults, and one harness
process that is the clients, Runware and the image server. What it measures is explained in docs/benchmarks.md.
"""

import argparse
import platform
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from os import cpu_count

import uvloop

from benchmarks import acks, generations, large, nodes, starts
from benchmarks.figures import Report, table

PARTS: Mapping[str, Callable[[int], Awaitable[Report]]] = {
    "acks": acks.measure,
    "generations": generations.measure,
    "starts": starts.measure,
    "large": large.measure,
    "nodes": nodes.measure,
}


async def run(parts: list[str], rounds: int) -> Report:
    """One after the other."""
    report = Report()
    for part in parts:
        began = time.perf_counter()
        found = await PARTS[part](rounds)
        print(f"\n{part}, {time.perf_counter() - began:.0f} s\n\n{table(found.figures)}", flush=True)
        for note in found.notes:
            print(note)
        report += found
    return report


def machine() -> str:
    """What the figures are of."""
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in open("/proc/cpuinfo", encoding="utf-8")  # noqa: SIM115, PTH123
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    packages = " ".join(f"{name} {version(name)}" for name in ("runware-provider", "uvloop", "pydantic", "aiohttp"))
    return (
        f"{cpu_count()} × {processor}, Linux {platform.release()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}, {packages}"
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    parts = args.parts or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        parser.error(f"there is no {', '.join(unknown)}; choose from {', '.join(PARTS)}")
    print(machine())
    began = time.perf_counter()
    report = uvloop.run(run(parts, args.rounds))
    print(f"\nAll, {time.perf_counter() - began:.0f} s\n\n{table(report.figures)}")
    for note in report.notes:
        print(note)


if __name__ == "__main__":
    main()
