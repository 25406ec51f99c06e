"""Several processes over one PostgreSQL: who creates, who is told, who works and who is asked need not be the same."""

import json
import time
import urllib.request
from collections.abc import Iterator

import pytest

from tests.e2e.processes import Running, Service, World, eventually, free_port, images_in
from tests.faults.cluster import SETTLED_WITHIN, kill_cluster
from tests.postgres import PostgresServer, postgres_server

TAKEN_OVER_WITHIN = 15.0
BACK_WITHIN = 10.0


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One that may be crashed."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def nodes(world: World, server: PostgresServer) -> Iterator[World]:
    """A world whose processes share a migrated state."""
    with server.database() as url:
        world.environ |= {"RUNWARE_PROVIDER_STATE_URL": url, "RUNWARE_PROVIDER_PATIENCE": "2s"}
        migrated = world.run("migrate")
        assert (migrated.code, migrated.err) == (0, ""), migrated
        yield world
        for _, process in world._running:
            process.end()


def an_api(world: World, port: int = 0) -> Service:
    """A node that only speaks."""
    return world.serve("--no-worker", port=port)


def a_worker(world: World) -> Running:
    """A node that only works."""
    process = world.start("worker", "--port", "0")
    process.wait_for("listens on")
    return process


def test_one_creates_another_is_told_a_third_works_and_any_is_asked(nodes: World) -> None:
    """And whoever follows at one node hears of what was committed by the others."""
    nodes.simulate()
    port = free_port()
    nodes.environ["RUNWARE_PROVIDER_PUBLIC_URL"] = f"http://127.0.0.1:{port}"
    first, told = an_api(nodes), an_api(nodes, port)
    worker = a_worker(nodes)
    created = first.create(numberResults=2)
    with urllib.request.urlopen(f"{first.url}/v1/generations/{created['id']}/events", timeout=20) as stream:  # noqa: S310
        events = [json.loads(line[6:]) for line in stream.read().decode().splitlines() if line.startswith("data: ")]

    assert events[-1]["settled"]
    assert [first.state(created["id"]), told.state(created["id"])] == [events[-1], events[-1]]
    assert first.get("/v1/generations")["items"] == told.get("/v1/generations")["items"]
    assert len(images_in(nodes.data / "artifacts")) == 2
    assert not list((nodes.data / "nodes").glob("*/tmp/*"))
    assert [node.process.stop().code for node in (first, told)] == [0, 0]
    assert worker.stop().code == 0


@pytest.mark.slow
def test_a_task_of_a_dead_worker_is_taken_over(nodes: World) -> None:
    """Nobody tells the others: they notice that it has fallen silent."""
    simulator = nodes.simulate()
    simulator.stage({"on": "cdn", "do": "slow", "seconds": 60, "first": 1})
    api, dying = an_api(nodes), a_worker(nodes)
    created = api.create()
    eventually(lambda: simulator.stats["cdn_hits"] > 0)
    dying.kill()
    began = time.monotonic()
    a_worker(nodes)
    state = api.settled(created["id"])

    assert (state["status"], state["counts"]["stored"]) == ("completed", 1)
    assert time.monotonic() - began < TAKEN_OVER_WITHIN


@pytest.mark.slow
def test_a_worker_that_is_told_to_stop_hands_over_at_once(nodes: World) -> None:
    """SIGTERM gives what it could not finish back to the others, who need not wait for its silence."""
    simulator = nodes.simulate()
    simulator.stage({"on": "cdn", "do": "slow", "seconds": 60, "first": 1})
    api, leaving = an_api(nodes), a_worker(nodes)
    created = api.create()
    eventually(lambda: simulator.stats["cdn_hits"] > 0)
    a_worker(nodes)
    began = time.monotonic()
    assert leaving.stop().code == 0
    assert time.monotonic() - began < 10
    stopped = time.monotonic()
    state = api.settled(created["id"])

    assert state["counts"]["stored"] == 1
    assert time.monotonic() - stopped < 5


def test_a_database_that_crashes_is_in_use_again_soon(nodes: World, server: PostgresServer) -> None:
    """Nodes live through it, hear and work again, and nothing is lost or paid twice."""
    simulator = nodes.simulate("--latency", "0.5-1.5")
    port = free_port()
    nodes.environ["RUNWARE_PROVIDER_PUBLIC_URL"] = f"http://127.0.0.1:{port}"
    api = an_api(nodes, port)
    a_worker(nodes)
    before = [api.create(numberResults=2)["id"] for _ in range(5)]
    server.stop("immediate")
    assert api.ask("GET", "/readyz")[0] == 503
    server.start()
    began = time.monotonic()
    eventually(lambda: api.ask("GET", "/readyz")[0] == 200)
    states = [api.settled(each) for each in (*before, api.create()["id"])]

    assert time.monotonic() - began < BACK_WITHIN
    assert [state["counts"]["stored"] for state in states] == [2] * 5 + [1]
    assert {entry["billed"] for entry in simulator.ledger} == {1}


@pytest.mark.slow
def test_nodes_killed_at_random_and_a_database_that_crashes_lose_and_double_nothing(
    world: World, server: PostgresServer
) -> None:
    """Two API and three worker processes under load and faults; `make faults` does more of it."""
    found = kill_cluster(world, server, kills=4, seed=7)

    assert (found.lost, found.doubled) == ([], [])
    assert found.accepted > 10
    assert found.settled < SETTLED_WITHIN


def test_what_cannot_be_shared_is_refused(world: World, server: PostgresServer) -> None:
    """State in a file belongs to one process; a database must have been migrated."""
    world.simulate()
    for command in (("worker",), ("serve", "--no-worker")):
        refused = world.run(*command, "--port", "0")
        assert (refused.code, refused.out) == (2, ""), refused
        assert "RUNWARE_PROVIDER_STATE_URL=postgresql://" in refused.err
    with server.database() as url:
        refused = world.run("serve", "--port", "0", RUNWARE_PROVIDER_STATE_URL=url)
    assert refused.code == 2
    assert "run `runware-provider migrate`" in refused.err


def test_a_command_works_beside_the_nodes(nodes: World) -> None:
    """It is one more node for a moment, also without any other."""
    nodes.simulate()
    made = nodes.run("generate", "a lighthouse", "--json")
    assert made.code == 0, made
    api = an_api(nodes)
    listed = nodes.run("list", "--json")

    assert [item["id"] for item in json.loads(listed.out)["items"]] == [json.loads(made.out)["id"]]
    assert api.get("/v1/generations")["items"][0]["status"] == "completed"
