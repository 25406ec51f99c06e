"""What a delivery and a generation cost, counted and not timed: it must not grow unnoticed.

Each limit is a tenth above what was counted. Who makes it dearer on purpose raises the limit and says why; who makes it
cheaper lowers it. Times are measured by `make bench`.
"""

import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvloop

from benchmarks.images import a_jpeg
from benchmarks.stand_in import HELD, StandIn
from benchmarks.wire import Connection, request
from runware_provider.context import Context
from runware_provider.durable.sqlite import SqliteRuntime
from tests.service import a_service

GENERATIONS = 20


@dataclass
class Costs:
    """What was counted, for each of so many."""

    number: int
    counts: Counter[str]

    def __getitem__(self, name: str) -> float:
        return self.counts[name] / self.number


@contextmanager
def counting(ctx: Context, number: int) -> Iterator[Costs]:
    """Count Python's calls in this thread, statements and commits of state, and syncs of files."""
    costs = Costs(number, Counter())
    counts = costs.counts
    assert isinstance(ctx.runtime, SqliteRuntime)
    store, sync = ctx.runtime._store, os.fsync

    def called(_frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call":
            counts["calls"] += 1

    def said(statement: str) -> None:
        counts["commits" if statement == "COMMIT" else "statements"] += 1

    def synced(descriptor: int) -> None:
        counts["syncs"] += 1
        sync(descriptor)

    for connection in (store.writer, store.reader):
        connection.set_trace_callback(said)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", synced)
        sys.setprofile(called)
        try:
            yield costs
        finally:
            sys.setprofile(None)
            for connection in (store.writer, store.reader):
                connection.set_trace_callback(None)


@dataclass
class Loaded:
    """A service, what stands in for Runware, and one connection of a client."""

    ctx: Context
    stand_in: StandIn
    port: int
    connection: Connection

    async def create(self, prompt: str, images: int) -> None:
        """One generation, followed to its end unless it is held."""
        fields = {"positivePrompt": prompt, "model": "runware:101@1", "numberResults": images}
        prefer = {} if prompt == HELD else {"Prefer": "wait=30"}
        ask = request("POST", "/v1/generations", self.port, json.dumps({"input": fields}).encode(), **prefer)
        status, answer = await self.connection.ask(ask)
        assert status == 202, answer
        assert (b'"settled":true' in answer) == (prompt != HELD)


@asynccontextmanager
async def loaded(tmp_path: Path) -> AsyncIterator[Loaded]:
    """Warm: what is only done once has been done."""
    stand_in = StandIn(a_jpeg(50_000))
    await stand_in.start()
    try:
        async with a_service(tmp_path, runware_url=f"http://127.0.0.1:{stand_in.port}/v1") as service:
            port = urlsplit(service.url).port
            assert port is not None
            stand_in.deliver_to([port])
            it = Loaded(service.ctx, stand_in, port, await Connection.open(port))
            for _ in range(3):
                await it.create("a boat", 2)
            yield it
            it.connection.close()
    finally:
        await stand_in.stop()


async def _deliveries(tmp_path: Path) -> Costs:
    async with loaded(tmp_path) as it:
        for _ in range(GENERATIONS):
            await it.create(HELD, 4)
        deliveries = [it.stand_in.failure(task, number, it.port) for task in it.stand_in.held for number in (1, 2, 3)]
        with counting(it.ctx, len(deliveries)) as costs:
            for delivery in deliveries:
                status, _ = await it.connection.ask(delivery)
                assert status == 200
    return costs


async def _generations(tmp_path: Path, images: int) -> Costs:
    async with loaded(tmp_path) as it:
        with counting(it.ctx, GENERATIONS) as costs:
            for _ in range(GENERATIONS):
                await it.create("a boat", images)
    return costs


def test_a_delivery_costs_one_commit_and_no_more_calls_than_it_did(tmp_path: Path) -> None:
    """From the socket to the acknowledgement, when there is nothing to fetch."""
    costs = uvloop.run(_deliveries(tmp_path))

    assert costs["commits"] <= 1.1
    assert costs["statements"] <= 3.3
    assert costs["calls"] <= 1.1 * 133


@pytest.mark.parametrize(
    ("images", "calls", "statements", "commits", "syncs"),
    [(1, 1_520, 23, 5.9, 3.0), (4, 2_800, 34, 7.6, 10.8)],
    ids=["one image", "four images"],
)
def test_a_generation_costs_no_more_than_it_did(
    tmp_path: Path, images: int, calls: float, statements: float, commits: float, syncs: float
) -> None:
    """From the request to the answer that it is settled, one after the other; what stands in for Runware included."""
    costs = uvloop.run(_generations(tmp_path, images))

    assert costs["calls"] <= 1.1 * calls
    assert costs["statements"] <= 1.1 * statements
    assert costs["commits"] <= 1.1 * commits
    assert costs["syncs"] <= 1.1 * syncs
