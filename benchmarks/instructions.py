"""What a delivery or a generation costs in instructions, counted by valgrind: nearly the same on every run and machine.

    python -m benchmarks.instructions [deliveries | one | four] [--number 300] [--calls 40]

For who makes something cheaper: wall clock and processor time of a shared machine differ by half from minute to minute,
this by a hundredth. Counted is all that one process does outside of the kernel, the keeping of images and what stands
in for clients, Runware and the image server among it, over 32 connections. `--calls` counts Python's calls instead, by
function, without valgrind, which has to be installed (`apt-get install valgrind`).
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import uvloop

from benchmarks.stand_in import HELD
from benchmarks.wire import Connection, request
from tests.test_costs import Loaded, loaded

CONNECTIONS = 32
WHAT = {"deliveries": 0, "one": 1, "four": 4}
"""And images of each generation."""

_INSIDE = "RUNWARE_PROVIDER_INSIDE_VALGRIND"

Count = Callable[[bool], Awaitable[None]]
"""Begin to count, or end it."""


async def _measure(what: str, number: int, count: Count) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with loaded(Path(folder)) as service:
            connections = [await Connection.open(service.port) for _ in range(CONNECTIONS)]
            images = WHAT[what]
            jobs = await _deliveries(service, number) if not images else [_creation(service, images)] * number
            await count(True)
            await _all(connections, jobs)
            await count(False)
            for connection in connections:
                connection.close()


async def _deliveries(service: Loaded, number: int) -> list[bytes]:
    for _ in range(-(-number // 3)):
        await service.create(HELD, 4)
    held, port = service.stand_in.held, service.port
    return [service.stand_in.failure(task, which, port) for which in (1, 2, 3) for task in held][:number]


def _creation(service: Loaded, images: int) -> bytes:
    fields = {"positivePrompt": "a boat", "model": "runware:101@1", "numberResults": images}
    body = json.dumps({"input": fields}).encode()
    return request("POST", "/v1/generations", service.port, body, Prefer="wait=60")


async def _all(connections: Iterable[Connection], jobs: Iterable[bytes]) -> None:
    left = iter(jobs)

    async def use(connection: Connection) -> None:
        for job in left:
            status, answer = await connection.ask(job)
            if status not in {200, 202}:
                raise RuntimeError(f"{status}: {answer!r}")

    await asyncio.gather(*(use(connection) for connection in connections))


async def _by_valgrind(on: bool) -> None:
    command = ["callgrind_control", "-i", "on" if on else "off", str(os.getpid())]
    await asyncio.to_thread(subprocess.run, command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _instructions(what: str, number: int) -> None:
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not installed: apt-get install valgrind")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [
            *("valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}"),
            *(sys.executable, "-m", "benchmarks.instructions", what, "--number", str(number)),
        ]
        # One order in every set and mapping, so that two runs do the same.
        subprocess.run(command, check=True, env={**os.environ, _INSIDE: "1", "PYTHONHASHSEED": "0"})
        counted = _by_library(out.read_text())
    total = sum(counted.values())
    print(f"{total / number / 1e3:,.0f} thousand instructions each, of {number}")
    for library, instructions in counted.most_common(8):
        print(f"{instructions / number / 1e3:10,.0f} {instructions / total:4.0%}  {library}")


def _by_library(profile: str) -> Counter[str]:
    """Instructions by the library that they are in; see the Callgrind format: a line after `calls=` is not its own."""
    counted: Counter[str] = Counter()
    names: dict[str, str] = {}
    library, of_callee = "", False
    for line in profile.splitlines():
        if match := re.fullmatch(r"c?ob=\((\d+)\)(?: (.*))?", line):
            if match[2]:
                names[match[1]] = Path(match[2]).name.partition(".")[0]
            if line.startswith("ob="):
                library = names[match[1]]
        elif line.startswith("calls="):
            of_callee = True
        elif match := re.fullmatch(r"[-+*\d]\S* (\d+)", line):
            if not of_callee:
                counted[library] += int(match[1])
            of_callee = False
    return counted


def _calls(what: str, number: int, shown: int) -> None:
    counted: Counter[str] = Counter()

    def called(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            code = frame.f_code
            counted[f"{code.co_qualname} ({'/'.join(Path(code.co_filename).parts[-2:])})"] += 1

    async def count(on: bool) -> None:
        sys.setprofile(called if on else None)

    uvloop.run(_measure(what, number, count))
    print(f"{counted.total() / number:,.0f} calls each, of {number}")
    for function, calls in counted.most_common(shown):
        print(f"{calls / number:8.2f}  {function}")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", nargs="?", choices=WHAT, default="deliveries")
    parser.add_argument("--number", type=int, default=300)
    parser.add_argument("--calls", type=int, metavar="SHOWN")
    given = parser.parse_args()
    if os.environ.get(_INSIDE):
        uvloop.run(_measure(given.what, given.number, _by_valgrind))
    elif given.calls:
        _calls(given.what, given.number, given.calls)
    else:
        _instructions(given.what, given.number)


if __name__ == "__main__":
    main()
