"""A service that is told to stop, or is killed: nothing is lost, nothing is paid twice."""

import json
import random
import socket
import sqlite3
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.e2e.conftest import over_both_engines
from tests.e2e.processes import JsonObject, Service, Simulated, World, eventually, free_port, images_in, is_settled


def all_settled(service: Service, ids: list[str]) -> list[JsonObject]:
    """The states of these generations once nothing more happens to them."""
    return [service.settled(each) for each in ids]


def expect_all_kept_once(world: World, simulator: Simulated, states: list[JsonObject], images: int) -> None:
    """Each image that was billed is in the bucket and in the database, once; nothing else is."""
    assert [state["status"] for state in states] == ["completed"] * len(states)
    assert [state["counts"]["stored"] for state in states] == [images] * len(states)
    ledger = {task["task_uuid"]: task for task in simulator.ledger}
    assert sorted(ledger) == sorted(state["task_uuid"] for state in states)
    assert {task["billed"] for task in ledger.values()} == {1}
    billed = sorted(result["image_uuid"] for task in ledger.values() for result in task["results"])
    assert billed == sorted(output["image_uuid"] for state in states for output in state["outputs"])
    artifacts = world.data / "artifacts"
    keys = sorted(output["key"] for state in states for output in state["outputs"])
    assert keys == [str(each.relative_to(artifacts)) for each in images_in(artifacts)]
    with sqlite3.connect(world.data / "projection.db") as database:
        assert keys == sorted(key for (key,) in database.execute("SELECT key FROM artifacts"))
        rows = database.execute("SELECT count(*), count(DISTINCT id) FROM generations").fetchone()
    database.close()
    assert rows == (len(states), len(states))
    assert [each for each in world.data.rglob("tmp/*") if each.is_file()] == []


@pytest.mark.slow_over_postgres
@over_both_engines
def test_a_service_that_is_told_to_stop_finishes_or_hands_over(world: World) -> None:
    """SIGTERM with dispatches, webhooks and slow images under way: gone within 10 s, done after the next start."""
    simulator = world.simulate("--latency", "0.1-0.6")
    simulator.stage({"on": "cdn", "do": "slow", "seconds": 30, "first": 4})
    service = world.serve_with_webhooks()
    port = int(service.url.rpartition(":")[2])
    ids = [service.create(numberResults=2)["id"] for _ in range(8)]
    eventually(lambda: simulator.stats["cdn_hits"] > 0)
    begun = time.monotonic()
    stopped = service.process.stop()

    assert stopped.code == 0
    assert time.monotonic() - begun < 10
    assert "stopping" in stopped.out
    again = world.serve(port=port, RUNWARE_PROVIDER_PUBLIC_URL=service.url)
    expect_all_kept_once(world, simulator, all_settled(again, ids), 2)


@pytest.mark.slow
def test_a_bucket_that_stalls_does_not_hold_a_stop_up(world: World) -> None:
    """A request that nobody answers cannot be interrupted: the process ends all the same, the image is kept later."""
    simulator = world.simulate()
    asked = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as silent, ExitStack() as held:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = silent.accept()
                    held.callback(connection.close)
                    if connection.recv(4096).startswith(b"PUT"):
                        asked.set()

        threading.Thread(target=accept, daemon=True).start()
        service = world.serve(
            RUNWARE_PROVIDER_ARTIFACTS_URL="s3://images",
            RUNWARE_PROVIDER_S3_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}",
            RUNWARE_PROVIDER_S3_ACCESS_KEY_ID="key",
            RUNWARE_PROVIDER_S3_SECRET_ACCESS_KEY="secret",
        )
        created = service.create()
        assert asked.wait(20)
        begun = time.monotonic()

        assert service.process.stop().code == 0
        assert time.monotonic() - begun < 10
    state = world.serve().settled(created["id"])
    assert state["counts"]["stored"] == 1
    assert [entry["billed"] for entry in simulator.ledger] == [1]


def test_an_idle_service_stops_at_once(world: World) -> None:
    """A deploy does not wait for open connections that say nothing."""
    world.simulate()
    service = world.serve()
    service.create()
    begun = time.monotonic()

    assert service.process.stop().code == 0
    assert time.monotonic() - begun < 3
    assert not (world.data / "api.sock").exists()


def test_whoever_follows_when_the_service_stops_is_told(world: World) -> None:
    """`generate` beside a service that goes away: no traceback, exit code 75, and the id to ask for later."""
    simulator = world.simulate()
    simulator.stage({"on": "task", "do": "stuck"})
    service = world.serve()
    command = world.start("generate", "a lighthouse", "--out", "pictures")
    eventually(lambda: simulator.stats["running"] == 1)
    eventually(lambda: service.state(service.get("/v1/generations")["items"][0]["id"])["dispatch"] == "accepted")

    service.process.kill()
    finished = command.wait(15)

    assert (finished.code, finished.out) == (75, ""), finished.err
    assert "runware-provider" in finished.err


@over_both_engines
def test_event_streams_and_waits_end_with_the_service(world: World) -> None:
    """Whoever follows is told so at once and does not hold the stop up; nothing is logged as an error."""
    simulator = world.simulate()
    simulator.stage({"on": "task", "do": "stuck"})
    service = world.serve()
    created = service.create()
    eventually(lambda: service.state(created["id"])["dispatch"] == "accepted")
    with (
        urllib.request.urlopen(f"{service.url}/v1/generations/{created['id']}/events", timeout=10) as events,  # noqa: S310  our own
        ThreadPoolExecutor(1) as beside,
    ):
        assert events.readline().startswith(b"id: ")
        waiting = beside.submit(service.ask, "POST", "/v1/generations", {"input": an_input()}, Prefer="wait=60")
        eventually(lambda: service.get("/readyz")["running"] == 2)
        begun = time.monotonic()
        finished = service.process.stop()

        assert time.monotonic() - begun < 3
        assert b"event: problem" in events.read()
        assert waiting.result()[0] == 202
    assert finished.code == 0
    assert "error" not in finished.err.lower()


@over_both_engines
def test_the_log_says_what_went_wrong_outside(world: World) -> None:
    """A refused key, an outcome that is unknown, an image that could not be fetched: each a line with the id."""
    simulator = world.simulate()
    simulator.stage(
        {"on": "dispatch", "do": "status", "status": 401, "first": 1},
        {"on": "dispatch", "do": "status", "status": 504, "accept": True, "nth": [2]},
        {"on": "cdn", "do": "status", "status": 404},
    )
    service = world.serve()
    status, body = service.ask("POST", "/v1/generations", {"input": an_input()})
    assert status == 502, body
    unknown = service.create()["id"]
    eventually(lambda: "image_not_stored" in service.process.err)

    lines = [json.loads(line) for line in service.process.err.splitlines()]
    [refused] = [line for line in lines if line["event"] == "dispatch_refused"]
    assert (refused["level"], refused["id"] in body.decode()) == ("error", True)
    assert [line["id"] for line in lines if line["event"] == "dispatch_unknown"] == [unknown]
    assert {line["id"] for line in lines if line["event"] == "image_not_stored"} == {unknown}


def an_input() -> JsonObject:
    """The fields of a small image."""
    return {"positivePrompt": "a lighthouse", "model": "runware:101@1", "width": 256, "height": 256}


@pytest.mark.slow_over_postgres
@over_both_engines
def test_killed_at_random_under_load_it_loses_nothing_and_pays_once(world: World) -> None:
    """`kill -9`, five times, at times drawn from a seed, while 20 generations of two images go through."""
    seed = 7
    chance = random.Random(seed)
    simulator = world.simulate("--latency", "0.2-2.5", "--seed", str(seed))
    port = free_port()
    settings = {"RUNWARE_PROVIDER_PUBLIC_URL": f"http://127.0.0.1:{port}", "RUNWARE_PROVIDER_PATIENCE": "2s"}
    service = world.serve(port=port, **settings)
    ids: list[str] = []
    for _ in range(5):
        for _ in range(4):
            ids.append(service.create(f"a boat, {len(ids)}", numberResults=2)["id"])
        time.sleep(chance.uniform(0, 0.6))
        service.process.kill()
        service = world.serve(port=port, **settings)

    states = all_settled(service, ids)

    assert len(set(ids)) == 20
    assert all(is_settled(state) for state in states)
    expect_all_kept_once(world, simulator, states, 2)


def test_what_a_killed_process_left_is_no_hindrance(world: World) -> None:
    """Its lock file, its socket and its temporary files are still there; a service and a command both start."""
    world.simulate()
    service = world.serve()
    service.create()
    service.process.kill()
    left = {each.name for each in world.data.iterdir()}
    (world.data / "tmp" / "half-written").write_bytes(b"x" * 100)

    listed = world.run("list")
    again = world.serve()

    assert {"lock", "api.sock"} <= left
    assert listed.code == 0, listed.err
    assert again.get("/healthz") == {"status": "ok"}
    assert not (world.data / "tmp" / "half-written").exists()


def test_a_second_signal_ends_it_at_once(world: World, tmp_path: Path) -> None:
    """Whoever presses Ctrl-C twice does not want to wait."""
    import signal

    simulator = world.simulate()
    simulator.stage({"on": "cdn", "do": "hang"})
    service = world.serve()
    service.create()
    eventually(lambda: simulator.stats["cdn_hits"] > 0)
    service.process.send(signal.SIGINT)
    eventually(lambda: "stopping" in service.process.out)
    begun = time.monotonic()

    assert service.process.stop(signal.SIGINT).code == 130
    assert time.monotonic() - begun < 2
