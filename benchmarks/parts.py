"""On what the interpreter spends its time while generations pass through, by part of the way.

    python -m benchmarks.parts [--images 1] [--seconds 10]

Needs py-spy, which is no dependency: `pip install py-spy`, and the right to look at another process. Counted is who
holds the interpreter's lock, at 500 moments a second; hashing, writing and syncing are done without it, as is waiting.
"""

import argparse
import asyncio
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from time import perf_counter

import uvloop

from benchmarks.service import Bench, a_service

_PARTS = (
    # The innermost frame of a stack that is named here decides.
    ("webhook", ("webhook.py", "record_webhook", "parse_delivery")),
    ("dispatch", ("processing.py:_dispatch", "record_dispatch", "runware.py", "inference_task")),
    ("fetch", ("fetch.py", "artifacts/__init__.py:keep", "spool.py:write")),
    ("store: hash, check, write", ("_check_and_put", "file_store.py", "inspect.py", "formats.py")),
    ("confirm", ("confirm_outputs",)),
    ("project", ("projection/", "record_projection", "processing.py:_project")),
    ("create, and the answer", ("create.py", "api/", "Generation.init", "sqlite.py:create")),
    ("commit, shared by all", ("group_commit.py", "sqlite_batch.py", "sqlite_store.py", "sqlite.py", "register.py")),
    ("hand-out of tasks", ("handout.py", "processing.py", "alarms.py")),
    ("HTTP server", ("uvicorn", "serving.py", "connections.py")),
)


async def measure(images: int, seconds: float, spy: str) -> None:
    """Print the table."""
    async with a_service() as bench:
        await bench.create(100, prompt="warm", images=images)
        raw = bench.folder / "samples"
        command = [
            spy,
            "record",
            "--gil",
            "-r",
            "500",
            "-d",
            "600",
            "-f",
            "raw",
            "-o",
            str(raw),
            "-p",
            str(bench.pids[0]),
        ]
        recorder = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        await asyncio.sleep(1)
        number, used = await _load(bench, images, seconds)
        recorder.send_signal(2)
        await recorder.wait()
        shares = Counter[str]()
        for line in raw.read_text().splitlines():
            stack, _, samples = line.rpartition(" ")
            shares[_part(stack)] += int(samples)
    total = shares.total()
    print(f"{number} generations of {images} images, {1e3 * used / number:.2f} ms of processor each, under py-spy\n")
    print("| part | share of the interpreter's time |\n| --- | --: |")
    for part, count in shares.most_common():
        print(f"| {part} | {count / total:.0%} |")


async def _load(bench: Bench, images: int, seconds: float) -> tuple[int, float]:
    before, began, number = bench.used(), perf_counter(), 0
    while perf_counter() - began < seconds:
        await bench.create(100, prompt="a boat", images=images)
        number += 100
    return number, (bench.used() - before).service


def _part(stack: str) -> str:
    for frame in reversed(stack.split(";")):
        function, _, where = frame.partition(" (")
        path = where.partition(":")[0]
        names = (f"{path}:{function.rpartition('.')[2]}", function)
        for part, marks in _PARTS:
            if any(mark in name for mark in marks for name in names):
                return part
    return "the rest"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    spy = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if spy is None:
        raise SystemExit("py-spy is not installed: pip install py-spy")
    uvloop.run(measure(options.images, options.seconds, spy))


if __name__ == "__main__":
    main()
