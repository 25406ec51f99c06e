"""Threads for what blocks: how many, in which order, and what becomes of it."""

import asyncio
import threading
from collections.abc import Callable
from functools import partial

import pytest

from runware_provider.threads import Workers


async def test_one_thread_does_one_thing_after_the_other() -> None:
    """In order of arrival, on the same thread; results and exceptions come to who asked."""
    workers, seen = Workers(1, "one"), []

    def work(number: int) -> Callable[[], int]:
        def do() -> int:
            seen.append((number, threading.current_thread().name))
            if number == 3:
                raise ValueError("three")
            return number * number

        return do

    told = await asyncio.gather(*(workers.run(work(number)) for number in range(5)), return_exceptions=True)
    workers.end()

    assert seen == [(number, "one_0") for number in range(5)]
    assert [str(each) for each in told] == ["0", "1", "4", "three", "16"]


async def test_so_many_run_at_once_and_no_more() -> None:
    """Threads are begun as they are needed, and used again."""
    workers, gate, names = Workers(3, "few"), threading.Event(), set()
    running = most = 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        gate.wait(5)
        with lock:
            running -= 1
            names.add(threading.current_thread().name)

    await workers.run(lambda: None)
    before = {thread.name for thread in threading.enumerate() if thread.name.startswith("few")}
    given = [workers.run(work) for _ in range(12)]
    await asyncio.sleep(0.05)
    gate.set()
    await asyncio.gather(*given)
    workers.end()

    assert before == {"few_0"}
    assert most == 3
    assert names <= {"few_0", "few_1", "few_2"}


async def test_who_no_longer_waits_leaves_it_going() -> None:
    """And what comes after it is done too."""
    workers, gate, done = Workers(1, "going"), threading.Event(), threading.Event()

    def work() -> None:
        gate.wait(5)
        done.set()

    first = workers.run(work)
    first.cancel()
    second = workers.run(lambda: "next")
    gate.set()

    assert await second == "next"
    assert done.is_set()
    workers.end()


async def test_the_end_waits_for_what_was_given() -> None:
    """Nothing is taken after it, and a second end does nothing."""
    workers = Workers(2, "ending")
    done: list[int] = []
    given = [workers.run(partial(done.append, number)) for number in range(50)]

    workers.end()
    workers.end()

    assert sorted(done) == list(range(50))
    await asyncio.gather(*given)
    with pytest.raises(RuntimeError, match="ending have ended"):
        workers.run(lambda: None)
