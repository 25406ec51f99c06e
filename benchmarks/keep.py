"""How many images a second one process keeps: fetched over loopback, checked, written and synced.

    PYTHONPATH=src python -m benchmarks.keep [--images 3000] [--bytes 200000] [--concurrency 16] [--store file|memory]

The images come from a process of its own, which shares the machine's cores. Four images make a generation.
"""

import argparse
import asyncio
import io
import multiprocessing
import os
import random
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast
from uuid import UUID

import uvloop
from PIL import Image

from runware_provider.artifacts import Artifacts


def a_jpeg(size: int) -> bytes:
    """A JPEG of exactly `size` bytes, as a decoder of headers sees it: its picture is noise."""
    small = io.BytesIO()
    Image.effect_noise((256, 256), 80).save(small, "JPEG", quality=85)
    start, rest = small.getvalue()[:2], small.getvalue()[2:]
    # A scan as long as the image is what a real one has: noise without FF bytes, right before the end mark.
    filling = random.Random(1).randbytes(max(0, size - len(start) - len(rest))).replace(b"\xff", b"\x00")
    return start + rest[:-2] + filling + rest[-2:]


class _Answer(asyncio.Protocol):
    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._got += data
        while b"\r\n\r\n" in self._got:
            self._got = self._got.partition(b"\r\n\r\n")[2]
            self._transport.write(self._answer)


def serve(size: int, told: Connection) -> None:
    """Answer every request on a free port, which `told` is sent, with the same image."""

    async def run() -> None:
        body = a_jpeg(size)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        server = await asyncio.get_running_loop().create_server(lambda: _Answer(head + body), "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


def most_memory() -> int:
    """The most bytes of memory this process has had. (`ru_maxrss` would begin with what its parent had.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


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
