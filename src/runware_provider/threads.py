"""Threads that do what blocks, one thing after the other, and tell the event loop when it is done."""

import asyncio
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


class Workers:
    """Up to `count` threads, begun as they are needed; what comes while all are busy waits in order of arrival.

    For one event loop. (An executor makes two futures, a work item and six locked conditions of each thing to do.) The
    threads are daemons: whoever must not be cut off is waited for, with `end`.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._threads: list[Thread] = []
        self._given: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]] | None] = SimpleQueue()
        self._unsettled = 0
        self._ended = False

    def run(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """`work()` in a thread. A future that is cancelled leaves it going. Raises RuntimeError after `end`."""
        if self._ended:
            raise RuntimeError(f"the threads {self._name} have ended")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        if self._unsettled >= len(self._threads) < self._count:
            thread = Thread(target=self._work, name=f"{self._name}_{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._unsettled += 1
        self._given.put((work, future))
        return future

    def end(self) -> None:
        """Take no more, and wait until all that was given is done. Blocking. A second time does nothing."""
        if self._ended:
            return
        self._ended = True
        for _ in self._threads:
            self._given.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while (given := self._given.get()) is not None:
            work, future = given
            result, error = None, None
            try:
                result = work()
            except BaseException as raised:  # noqa: BLE001  whoever waits must hear of it
                error = raised
            try:
                future.get_loop().call_soon_threadsafe(self._settle, future, result, error)
            except RuntimeError:  # the loop was closed: nobody waits any more
                return
            del given, work, future, result, error  # or they would live as long as this thread has nothing to do

    def _settle(self, future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
        self._unsettled -= 1
        if future.done():  # cancelled
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
