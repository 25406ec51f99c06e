"""The threads in which this room waits for disks and computes digests."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """A pool whose work is never left running behind its caller's back.

    Work in a thread cannot be cancelled. A cancelled caller therefore waits for it to end before it goes, so that no
    descriptor is closed under a thread and nothing is put into the store by somebody who is no longer there.
    """

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="artifacts")

    async def run(self, work: Callable[[], T], *, stop: Callable[[], None] | None = None) -> T:
        """`work()` in a thread; its exceptions are the caller's. `stop` is called when it is no longer wanted."""
        running = asyncio.get_running_loop().run_in_executor(self._pool, work)
        try:
            await asyncio.wait((running,))
        except asyncio.CancelledError:
            if stop is not None:
                stop()
            while not running.done():
                try:
                    await asyncio.wait((running,))
                except asyncio.CancelledError:  # asked twice: the answer is the same
                    continue
            running.exception()  # seen, so that asyncio does not complain of it
            raise
        return running.result()

    async def aclose(self) -> None:
        """Wait for what runs, then end the threads."""
        await asyncio.to_thread(self._pool.shutdown)
