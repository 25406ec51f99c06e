"""The threads in which this room waits for disks and computes digests."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from runware_provider.threads import Workers

T = TypeVar("T")


class Threads:
    """A pool whose work is never left running behind its caller's back.

    Work in a thread cannot be cancelled. A cancelled caller therefore waits for it to end before it goes, so that no
    descriptor is closed under a thread and nothing is put into the store by somebody who is no longer there.
    """

    def __init__(self, count: int) -> None:
        self._workers = Workers(count, "artifacts")

    async def run(self, work: Callable[[], T], *, stop: Callable[[], None] | None = None) -> T:
        """`work()` in a thread; its exceptions are the caller's. `stop` is called when it is no longer wanted."""
        running = self._workers.run(work)
        try:
            await _ended(running)
        except asyncio.CancelledError:
            if stop is not None:
                stop()
            while not running.done():
                try:
                    await _ended(running)
                except asyncio.CancelledError:  # asked twice: the answer is the same
                    continue
            running.exception()  # seen, so that asyncio does not complain of it
            raise
        return running.result()

    async def aclose(self) -> None:
        """Wait for what runs, then end the threads."""
        await asyncio.to_thread(self._workers.end)


def _ended(running: "asyncio.Future[T]") -> "asyncio.Future[None]":
    """Done when `running` is. Who waits for this and is cancelled does not cancel that."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    running.add_done_callback(lambda _: None if ended.done() else ended.set_result(None))
    return ended
