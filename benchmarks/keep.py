"""How many images a second one process keeps: fetched over loopback, checked, written and synced.

    PYTHONPATH=src python -m benchmarks.keep [--images 3000] [--bytes 200000] [--concurrency 16] [--store file|memory]

The images come from a process of its own, which shares the machine's cores. Four images make a generation.
"""

import argparse
import asyncio
import multiprocessing
import os
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from uuid import UUID

import uvloop

from benchmarks import wire
from benchmarks.images import a_jpeg
from benchmarks.processes import most_memory
from benchmarks.wire import answer
from runware_provider.artifacts import Artifacts


def serve(size: int, told: Connection) -> None:
    """Answer every request on a free port, which `told` is sent, with the same image."""

    async def run() -> None:
        parts = answer(a_jpeg(size), "image/jpeg")
        server, port = await wire.serve(lambda head, body: parts)  # noqa: ARG005
        told.send(port)
        await server.serve_forever()

    uvloop.run(run())


async def measure(port: int, folder: Path, args: argparse.Namespace) -> None:
    """Keep the images and print what it took."""
    where = "memory://" if args.store == "memory" else f"file://{folder / 'objects'}"
    artifacts = await Artifacts.open(
        where,
        data_dir=folder,
        image_hosts=["127.0.0.1"],
        max_image_bytes=64 << 20,
        concurrency=args.concurrency,
    )
    waits: list[float] = []
    numbers = iter(range(args.images))

    async def work() -> None:
        for number in numbers:
            begun = time.perf_counter()
            url = f"http://127.0.0.1:{port}/{number}.jpg"
            await artifacts.keep(UUID(int=number // 4), UUID(int=number), url, attempt=1)
            waits.append(time.perf_counter() - begun)

    before, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(args.concurrency)))
    took, cpu = time.perf_counter() - before, time.process_time() - cpu
    await artifacts.aclose()
    waits.sort()
    print(
        f"{args.images} images of {args.bytes:,} bytes, {args.concurrency} at once, {args.store}: "
        f"{args.images / took:,.0f} images/s, {args.images * args.bytes / took / 1e6:,.0f} MB/s, "
        f"CPU {cpu / args.images * 1e3:.2f} ms/image, "
        f"p50 {waits[len(waits) // 2] * 1e3:.1f} ms, p99 {waits[len(waits) * 99 // 100] * 1e3:.1f} ms, "
        f"RSS at most {most_memory() / 1e6:,.0f} MB"
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--bytes", type=int, default=200_000)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--store", choices=["file", "memory"], default="file")
    parser.add_argument("--folder", default=None, help="where to write; a temporary folder by default")
    args = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(args.bytes, theirs), daemon=True)
    server.start()
    try:
        port = ours.recv()
        with tempfile.TemporaryDirectory(dir=args.folder or os.environ.get("TMPDIR")) as folder:
            uvloop.run(measure(port, Path(folder), args))
    finally:
        server.terminate()
        server.join()


if __name__ == "__main__":
    main()
