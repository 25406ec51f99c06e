"""`demo`: what a newcomer runs first."""

import json
import re
import signal
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.processes import World, fetch, images_in
from tests.e2e.test_terminal import on_a_terminal


def test_the_demo_makes_four_pictures_and_says_where(world: World) -> None:
    """No key, no server, nothing to set; the files are images, and the row is shown. The second one starts in 5 s."""
    first = world.run("demo")
    again = world.start("demo")
    again.wait_for("request", patience=5)
    second = again.wait()

    for finished in (first, second):
        assert finished.code == 0, finished.err
        assert finished.err == ""
        for word in ("created", "accepted", "delivered", "stored", "completed", "projected", "4 of 4", "demo/pictures"):
            assert word in finished.out
    pictures = images_in(world.folder / "demo" / "pictures")
    assert len(pictures) == 8
    assert all(each.read_bytes().startswith(b"\xff\xd8\xff") for each in pictures)
    assert {each.name for each in pictures} == {word for word in (first.out + second.out).split() if ".jpg" in word}


def test_on_a_terminal_the_last_three_lines_lead_to_the_browser(world: World) -> None:
    """A newcomer reads nothing else: where the pictures are, where to look at them, how it ends. Ctrl-C is its end."""
    code, text = on_a_terminal(world, 80, ["demo"], interrupt_at="Ctrl-C ends the demo")

    *_, where, look, end = text.replace("^C", "").strip().splitlines()
    assert code == 0
    assert where == "the pictures are in demo/pictures"
    assert re.fullmatch(r"look at them, and make more: http://127\.0\.0\.1:\d+/", look)
    assert end == "Ctrl-C ends the demo"


def test_the_gallery_of_the_demo_stays_when_told_to(world: World) -> None:
    """`make gallery` is the same without a terminal; it serves what was made, and makes more."""
    process = world.start("demo", "--serve")
    url = process.wait_for("look at them").rpartition(" ")[2]
    process.wait_for("Ctrl-C ends the demo")

    status, body = fetch(f"{url}v1/generations")
    more, _ = fetch(
        f"{url}v1/generations",
        "POST",
        {"input": {"positivePrompt": "more", "model": "runware:101@1", "width": 128, "height": 128}},
        {"Prefer": "wait=20"},
    )
    finished = process.stop(signal.SIGINT)

    [item] = json.loads(body)["items"]
    assert status == 200
    assert item["counts"]["stored"] == 4
    assert more == 202
    assert (finished.code, finished.err) == (0, "")


def test_the_demo_takes_another_port_when_its_own_is_taken(world: World) -> None:
    """8080 is everybody's."""
    with suppress(OSError), socket.create_server(("127.0.0.1", 8080)):  # else somebody has it anyway
        process = world.start("demo", "--serve")
        url = process.wait_for("look at them").rpartition(" ")[2]

        assert fetch(f"{url}healthz")[0] == 200
        assert process.stop(signal.SIGINT).code == 0


def test_without_a_terminal_the_demo_says_how_to_see_them(world: World) -> None:
    """In CI it must end, and so it does; the last lines say what to do, and where it will be."""
    finished = world.run("demo")

    *_, where, how, address = finished.out.splitlines()
    assert finished.code == 0
    assert where == "the pictures are in demo/pictures"
    assert "make gallery" in how
    assert address == "they will be at http://127.0.0.1:8080/"


def test_the_demo_takes_nothing_from_the_environment(world: World) -> None:
    """A real key, bucket and database that happen to be set are not for play."""
    finished = world.run(
        "demo",
        RUNWARE_API_KEY="a-real-key",
        RUNWARE_PROVIDER_PUBLIC_URL="https://images.example.com",
        RUNWARE_PROVIDER_ARTIFACTS_URL=f"file://{world.folder}/bucket",
        RUNWARE_PROVIDER_PROJECTION_URL=f"sqlite:///{world.folder}/real.db",
        RUNWARE_PROVIDER_CLIENT_TOKENS="a-token",
        RUNWARE_PROVIDER_DATA_DIR=str(world.folder / "real"),
    )

    assert finished.code == 0, finished.err
    assert [each.name for each in world.folder.iterdir()] == ["demo"]
    assert "a-real-key" not in finished.out


def test_two_demos_at_once_need_two_folders(world: World) -> None:
    """The second is told so by the option's name; the first is not disturbed."""
    first = world.start("demo")
    first.wait_for("request")
    first.send(signal.SIGSTOP)  # or it could be done before the second one looks

    second = world.run("demo")
    first.send(signal.SIGCONT)

    assert second.code == 2
    assert "another --folder" in second.err
    assert first.wait().code == 0


@pytest.mark.parametrize("word", ["simulator", "accepted", "delivered"])
def test_ctrl_c_ends_the_demo_and_all_that_it_started(world: World, word: str) -> None:
    """At whatever point: exit code 130 within seconds, no process left, and the next run works."""
    process = world.start("demo")
    process.wait_for(word)
    process.send(signal.SIGINT)

    finished = process.wait(10)

    assert finished.code == 130
    assert others_in_session(process.pid) == []
    assert world.run("demo").code == 0


def others_in_session(session: int) -> list[int]:
    """Processes that were started by the one that led this session."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found
