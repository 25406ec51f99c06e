"""`watch` and `open`: what happens in a running service, and its pages in the browser."""

import json
import re
import signal
import stat
from pathlib import Path

import pytest

from tests.e2e.processes import COMMAND, Running, World, eventually
from tests.e2e.test_terminal import expect_to_fit, on_a_terminal, piped

UNKNOWN = "01a21336-19e1-75d0-a947-6b3240f125a5"


def watching(world: World, *options: str) -> Running:
    """A `watch` that has begun to listen."""
    process = world.start("watch", *options)
    eventually(lambda: "watching all generations" in process.err or process.ended)
    return process


def test_watch_tells_what_becomes_of_each_generation(world: World) -> None:
    """From being made to what it cost; Ctrl-C is how it ends, so it is exit code 0."""
    world.simulate("--latency", "0.2")
    service = world.serve()
    process = watching(world)

    id = service.create("a lighthouse", numberResults=2)["id"]
    process.wait_for("completed, 2 of 2, $")
    finished = process.stop(signal.SIGINT)

    assert finished.code == 0
    lines = [line for line in finished.out.splitlines() if id in line]
    assert "being made" in finished.out
    assert all("a lighthouse" in line for line in lines)
    assert len(lines) == len({line.partition(id)[2] for line in lines})


def test_watch_tells_failures_in_words_and_deletions(world: World) -> None:
    """What a person would have to do something about."""
    simulator = world.simulate()
    simulator.stage({"on": "task", "do": "error", "code": "inferenceError", "message": "the server [1] is on fire"})
    service = world.serve()
    process = watching(world)

    id = service.create()["id"]
    line = process.wait_for("failed, 0 of 1")
    service.ask("DELETE", f"/v1/generations/{id}")

    assert "Runware says: the server [1] is on fire" in line
    assert id in process.wait_for("deleted")


def test_watch_for_scripts_is_an_object_a_line(world: World) -> None:
    """And nothing else on stdout."""
    world.simulate()
    service = world.serve()
    process = watching(world, "--json")

    id = service.create()["id"]
    process.wait_for('"status": "completed"')
    finished = process.stop(signal.SIGINT)

    events = [json.loads(line) for line in finished.out.splitlines()]
    assert {event["id"] for event in events} == {id}
    assert [event["version"] for event in events] == sorted(event["version"] for event in events)
    assert events[-1]["counts"]["stored"] == 1


def test_watch_survives_its_service(world: World) -> None:
    """It is started again, and what happened meanwhile is told."""
    world.simulate("--latency", "0.5")
    service = world.serve()
    process = watching(world)
    id = service.create()["id"]
    process.wait_for("being made")

    service.process.kill()
    world.serve()

    assert id in process.wait_for("completed, 1 of 1")
    assert "the service does not answer" in process.err


def test_watch_ends_when_its_reader_has_left(world: World) -> None:
    """`watch | head -1` is a question, too."""
    world.simulate()
    service = world.serve()
    process = Running(["bash", "-c", f"{COMMAND} watch | head -1"], world.environ, world.folder)
    try:
        eventually(lambda: "watching all generations" in process.err or process.ended)
        for _ in range(3):
            service.settled(service.create()["id"])
        finished = process.wait()
    finally:
        process.end()

    assert finished.code == 0
    assert len(finished.out.splitlines()) == 1


@pytest.mark.parametrize("beside_a_service", [True, False])
def test_watch_with_ids_ends_when_all_are_settled(world: World, beside_a_service: bool) -> None:
    """Without a service it does the work itself; exit code 1 when any image is missing."""
    simulator = world.simulate("--latency", "0.3")
    simulator.stage({"on": "task", "do": "error", "code": "inferenceError", "message": "no", "prompt": "bad"})
    service = world.serve()
    good = [service.create(f"good {number}")["id"] for number in range(2)]
    bad = service.create("bad")["id"]
    if not beside_a_service:
        assert service.process.stop().code == 0

    watched, failed = world.run("watch", *good, good[0]), world.run("watch", bad, good[0])

    assert (watched.code, failed.code) == (0, 1)
    for id in good:
        assert any(id in line and "completed, 1 of 1" in line for line in watched.out.splitlines())
    assert f"{bad}  failed, 0 of 1, Runware says: no" in failed.out
    assert (watched.err, failed.err) == ("", "")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_watch_fits_any_terminal(world: World, columns: int) -> None:
    """A line each while it goes on, and how each ended."""
    world.simulate("--latency", "3")
    service = world.serve()
    ids = [service.create("a lighthouse at dusk, soft light, gentle waves and a boat")["id"] for _ in range(2)]

    code, seen = on_a_terminal(world, columns, ["watch", *ids], raw=True)

    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen))
    assert code == 0
    assert "being made" in seen
    for id in ids:
        assert any(id in line for line in lines[-5:])
    expect_to_fit("\n".join(lines), columns)


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("watch", 2, "no service runs on runware-data: start one with `runware-provider serve`"),
        ("open", 2, "no service runs on runware-data: start one with `runware-provider serve`"),
        (f"watch {UNKNOWN}", 1, "there is no generation"),
        ("watch nonsense", 2, "'nonsense' is not a generation's id"),
        ("open nonsense", 2, "'nonsense' is not a generation's id"),
        (f"watch {' '.join(UNKNOWN[:-3] + f'{number:03}' for number in range(101))}", 2, "at most 100 are followed"),
    ],
)
def test_what_cannot_be_watched_or_opened_is_said(world: World, line: str, code: int, words: str) -> None:
    """With the remedy, and without a word on stdout."""
    world.simulate()

    finished = world.run(*line.split())

    assert (finished.code, finished.out) == (code, "")
    assert words in finished.err


def browser(world: World) -> Path:
    """A browser that writes down what it was given."""
    script = world.folder / "browser"
    script.write_text(f'#!/bin/sh\necho "$1" >> {world.folder}/visited\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    world.environ["BROWSER"] = str(script)
    return world.folder / "visited"


def test_open_leads_to_the_gallery_and_to_the_page_of_a_generation(world: World) -> None:
    """The address that the service announced, whatever its port."""
    world.simulate()
    visited = browser(world)
    service = world.serve()
    id = service.create()["id"]

    gallery, page, printed = world.run("open"), world.run("open", id), world.run("open", "--print")
    unknown = world.run("open", UNKNOWN)

    assert (gallery.code, gallery.out) == (0, f"{service.url}/\n")
    assert (page.code, page.out) == (0, f"{service.url}/g/{id}\n")
    assert (printed.code, printed.out) == (0, f"{service.url}/\n")
    eventually(lambda: visited.exists() and len(visited.read_text().split()) == 2)
    assert visited.read_text().split() == [f"{service.url}/", f"{service.url}/g/{id}"]
    assert (unknown.code, unknown.out) == (1, "")


def test_open_where_there_is_no_browser_prints_the_address(world: World) -> None:
    """On a server, over ssh: the address, and what to do with it."""
    world.simulate()
    service = world.serve("--host", "0.0.0.0", RUNWARE_PROVIDER_CLIENT_TOKENS="a-token")
    port = service.url.rpartition(":")[2]
    world.environ["BROWSER"] = "/nowhere/browser"

    finished = world.run("open", SSH_CONNECTION="1 2 3 4", PATH="/nowhere")

    assert (finished.code, finished.out) == (0, f"http://127.0.0.1:{port}/\n")
    assert "no browser could be started here" in finished.err
    assert f"ssh -L {port}:127.0.0.1:{port}" in finished.err
    assert "a-token" not in finished.out + finished.err
    assert piped(world, "open --print", "cat") == (0, "")
