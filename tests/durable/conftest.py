"""The SQLite runtime itself, with its file in reach, and its commits counted or held up."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from runware_provider.durable import handout
from runware_provider.durable.sqlite import SqliteRuntime
from runware_provider.schedule import Policy

OpenSqlite = Callable[[], AbstractAsyncContextManager[SqliteRuntime]]


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where the state file lies."""
    return tmp_path / "state.db"


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteRuntime]:
    """Open the file, and stop at the end."""
    runtime = SqliteRuntime(path, Policy())
    try:
        yield runtime
    finally:
        await runtime.stop(grace=0)


@pytest.fixture
def open_sqlite(state: Path) -> OpenSqlite:
    """Open the state of this test, as often as it wants."""
    return lambda: opened(state)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backoffs are long in production."""
    monkeypatch.setattr(handout, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(handout, "STORE_WAIT", 0.02)
    monkeypatch.setattr(handout, "LONGEST_WAIT", 0.04)


class Commits:
    """How many there were."""

    def __init__(self) -> None:
        self.count = 0


@contextmanager
def counted(runtime: SqliteRuntime) -> Iterator[Commits]:
    """Count the commits of the block."""
    commits, commit = Commits(), runtime._store.commit

    def count_and_commit() -> None:
        commits.count += 1
        commit()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime._store, "commit", count_and_commit)
        yield commits


class Gate:
    """A commit under way: `reached` when it has begun, durable only after `open`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.reached = asyncio.Event()
        self._open = threading.Event()

    def open(self) -> None:
        """Let it, and all that follow, through."""
        self._open.set()

    def wait(self) -> None:
        """In the committer's thread."""
        self._loop.call_soon_threadsafe(self.reached.set)
        assert self._open.wait(10)


@contextmanager
def held_up(runtime: SqliteRuntime) -> Iterator[Gate]:
    """Hold the commits of the block until the gate opens."""
    gate, commit = Gate(), runtime._store.commit

    def wait_and_commit() -> None:
        gate.wait()
        commit()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime._store, "commit", wait_and_commit)
        try:
            yield gate
        finally:
            gate.open()
