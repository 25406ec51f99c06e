"""What people see: terminals of any width, pipes whose reader leaves, and Ctrl-C."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence

import pytest
from rich.cells import cell_len

from tests.e2e.processes import COMMAND, Running, World, eventually, images_in

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def on_a_terminal(
    world: World,
    columns: int,
    arguments: Sequence[str],
    environ: Mapping[str, str] | None = None,
    *,
    interrupt_at: str | None = None,
    raw: bool = False,
) -> tuple[int, str]:
    """Exit code and text of a command that thinks that a person reads it; Ctrl-C is typed when they see that text.

    `raw`: the text with all that a terminal would take for a command.
    """
    keyboard, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [str(COMMAND), *arguments],
        env={**(world.environ if environ is None else environ), "TERM": "xterm-256color"},
        cwd=world.folder,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    seen = b""
    try:
        while True:
            try:
                piece = os.read(keyboard, 65536)
            except OSError:  # EIO: nobody holds the terminal any more
                break
            seen += piece
            if interrupt_at is not None and interrupt_at.encode() in seen:
                os.write(keyboard, b"\x03")
                interrupt_at = None
        code = process.wait(20)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        os.close(keyboard)
    text = seen.decode()
    assert "Traceback" not in text
    if not raw:
        text = ESCAPES.sub("", text)
    return code, text


def expect_to_fit(text: str, columns: int) -> None:
    """No line is wider than the terminal, but for a single word: the terminal wraps that, and it copies whole."""
    for line in text.splitlines():
        assert cell_len(line) <= columns or len(line.split()) == 1, f"at {columns}: {line}"


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_ids_files_seeds_and_costs_are_whole_on_any_terminal(world: World, columns: int) -> None:
    """People copy them: a record goes on in a second line sooner than that one of them is cut."""
    world.simulate()
    folder = "pictures-of-lighthouses"
    prompt = "a lighthouse at dusk, soft light, gentle waves, and a boat that comes home late from the sea"

    code, made = on_a_terminal(
        world,
        columns,
        ["generate", prompt, "-n", "2", "--size", "256x256", "--out", folder, "--label", "sort=postcard"],
    )
    made = made.rpartition("image 2")[2].partition("\n")[2]  # what is left when the bars are gone
    listed = world.run("list", "--json").json["items"][0]
    seen = {line: on_a_terminal(world, columns, line.split())[1] for line in ("list", f"show {listed['id']}")}

    assert code == 0, made
    for artifact in listed["artifacts"]:
        for text in (made, seen[f"show {listed['id']}"]):
            assert str(artifact["seed"]) in text
            assert f"${artifact['cost_micros'] / 1e6:.6f}".rstrip("0") in text
        assert artifact["id"] in seen[f"show {listed['id']}"]
    for number in (1, 2):
        assert f"{folder}/{listed['id']}-{number}.jpg" in made
    for text in seen.values():
        assert listed["id"] in text
        assert listed["created_at"].replace("T", " ")[:19] in text
        assert "completed" in text
        assert "runware:101@1" in text
    assert prompt in " ".join(seen[f"show {listed['id']}"].split())
    assert "sort=postcard" in seen[f"show {listed['id']}"]
    for text in (made, *seen.values()):
        expect_to_fit(text, columns)


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_models_the_doctor_and_the_demo_fit_any_terminal(world: World, columns: int) -> None:
    """An AIR id is what `--model` is given, and a remedy that is cut is none."""
    world.simulate()
    found = world.run("models", "flux", "--json").json["results"]
    unset = {**world.environ, "RUNWARE_API_KEY": ""}

    _, models = on_a_terminal(world, columns, ["models", "flux"])
    code, examined = on_a_terminal(world, columns, ["doctor"], unset)
    _, shown = on_a_terminal(world, columns, ["demo"], interrupt_at="Ctrl-C ends the demo")

    assert len(found) == 20
    for model in found:
        assert re.search(rf"(?m)^{re.escape(model['air'])}( |$)", models)
        assert model["architecture"] in models
    assert code == 1
    assert "remedy: check RUNWARE_API_KEY, RUNWARE_PROVIDER_RUNWARE_URL and the way out to it" in " ".join(
        examined.split()
    )
    for picture in images_in(world.folder / "demo" / "pictures"):
        assert picture.name in shown
    for text in (models, examined, shown):
        expect_to_fit(text, columns)


def test_a_prompt_cannot_command_the_terminal(world: World) -> None:
    """It may be anybody's: an escape sequence in it would move the cursor, or write into the operator's clipboard."""
    world.simulate()
    hostile = "a \x1b]52;c;aGk=\x07 \x1b[2J\x9b31m lighthouse"
    _, made = on_a_terminal(world, 80, ["generate", hostile, "--size", "256x256", "--label", "by=\x1b[2Jme"])
    state = world.run("list", "--json").json["items"][0]

    seen = [on_a_terminal(world, 80, line.split(), raw=True)[1] for line in ("list", f"show {state['id']}")]

    assert "1.jpg" in made
    assert state["metadata"] == {"by": "\x1b[2Jme"}
    for text in seen:
        assert "lighthouse" in text
        assert not re.search(r"\x1b\]|\x1b\[2J|\x07|\x9b", text)


def test_ctrl_c_while_following_says_how_to_go_on(world: World) -> None:
    """Exit code 130, the terminal's cursor back, and the id of what was paid for; `reconcile` then brings it home."""
    simulator = world.simulate("--latency", "3")

    code, text = on_a_terminal(world, 80, ["generate", "a lighthouse", "--size", "256x256"], interrupt_at="being made")
    eventually(lambda: simulator.stats["results"] == 1)
    id = world.run("list", "--json").json["items"][0]["id"]

    assert code == 130
    assert f"runware-provider show {id}" in " ".join(text.split())
    assert f"runware-provider reconcile {id}" in " ".join(text.split())
    assert world.run("show", id, "--json").json["counts"]["stored"] == 0
    assert world.run("reconcile", id).code == 0
    assert world.run("show", id, "--json").json["counts"]["stored"] == 1
    assert [task["billed"] for task in simulator.ledger] == [1]


def test_ctrl_c_beside_a_service_leaves_the_work_to_it(world: World) -> None:
    """The service never hears of it: the job goes on, and whoever pressed knows its id."""
    simulator = world.simulate("--latency", "2")
    service = world.serve()
    command = world.start("generate", "a lighthouse", "--size", "256x256", "--out", "pictures")
    eventually(lambda: simulator.stats["running"] == 1)

    finished = command.stop(signal.SIGINT)
    (task,) = simulator.ledger
    shown = re.search(r"runware-provider show (\S+)", finished.err)

    assert (finished.code, finished.out) == (130, "")
    assert shown is not None, finished.err
    state = service.settled(shown[1])
    assert (state["task_uuid"], state["counts"]["stored"]) == (task["task_uuid"], 1)


def test_ctrl_c_before_runware_has_answered_waits_for_the_id(world: World) -> None:
    """The request is out and may cost money: it must not be left without a name."""
    simulator = world.simulate()
    simulator.stage({"on": "dispatch", "do": "slow", "seconds": 1.5})
    command = world.start("generate", "a lighthouse", "--size", "256x256")
    eventually(lambda: len(simulator.ledger) == 1)

    finished = command.stop(signal.SIGINT)

    assert (finished.code, finished.out) == (130, "")
    id = world.run("list", "--json").json["items"][0]["id"]
    assert f"runware-provider show {id}" in finished.err


def test_a_second_ctrl_c_does_not_wait(world: World) -> None:
    """Whoever presses twice has waited long enough; what was begun is durable."""
    simulator = world.simulate()
    simulator.stage({"on": "dispatch", "do": "hang"})
    command = world.start("generate", "a lighthouse", "--size", "256x256")
    eventually(lambda: simulator.stats["dispatches"] == 1)
    command.send(signal.SIGINT)
    eventually(lambda: "once more" in command.err)
    begun = time.monotonic()

    assert command.stop(signal.SIGINT).code == 130
    assert time.monotonic() - begun < 1
    assert len(world.run("list", "--json").json["items"]) == 1


def piped(world: World, line: str, reader: str) -> tuple[int, str]:
    """Exit code and stderr of a command whose stdout is piped."""
    shell = subprocess.run(
        ["bash", "-c", f"{COMMAND} {line} | {reader} >/dev/null; exit ${{PIPESTATUS[0]}}"],
        env=world.environ,
        cwd=world.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return shell.returncode, shell.stderr


@pytest.mark.parametrize("reader", ["head -c 1", "true"])
def test_a_reader_that_leaves_early_is_no_error(world: World, reader: str) -> None:
    """`runware-provider models | head -1`: no traceback, no complaint, and the exit code is that of the job."""
    world.simulate()

    for line in ("models --json --limit 100", "models", "--help"):
        assert piped(world, line, reader) == (0, ""), line
    world.environ["RUNWARE_API_KEY"] = ""
    for line in ("doctor --json", "doctor"):
        assert piped(world, line, reader) == (1, ""), line


def test_a_disk_that_is_full_and_a_closed_stdout_are_no_reason_for_a_traceback(world: World) -> None:
    """`> /dev/full` is said in one line; `>&-` is what was wished."""
    world.simulate()

    assert piped(world, "list > /dev/full", "cat") == (1, "error: No space left on device\n")
    assert piped(world, "list --json > /dev/full", "cat") == (1, "error: No space left on device\n")
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        assert piped(world, f"list --json {closed}", "cat") == (0, ""), closed


def test_ctrl_c_is_how_the_service_and_the_simulator_end(world: World) -> None:
    """At once, and with exit code 0: it is how they are meant to end."""
    simulator = world.simulate("--latency", "20")
    service = world.serve()
    service.create()
    begun = time.monotonic()

    assert service.process.stop(signal.SIGINT).code == 0
    assert simulator.process.stop(signal.SIGINT).code == 0
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("line", "module"),
    [
        ("list", "typer"),
        ("list", "aiohttp"),
        ("list", "fastapi"),
        ("serve --port 0", "uvicorn"),
        ("demo", "runware_provider.simulator"),
    ],
)
def test_ctrl_c_while_imports_run_is_quiet(world: World, line: str, module: str) -> None:
    """Imports are most of what a short command does: exit code 130, no word, and soon."""
    world.simulate()
    process = Running(
        [sys.executable, "-X", "importtime", str(COMMAND), *line.split()],
        {**world.environ, "PYTHONUNBUFFERED": "1"},
        world.folder,
    )
    try:
        eventually(lambda: re.search(rf"\| +{re.escape(module)}\.", process.err) is not None or process.ended)
        process.send(signal.SIGINT)
        begun = time.monotonic()
        finished = process.wait(10)
    finally:
        process.end()

    assert time.monotonic() - begun < 3
    assert (finished.code, finished.out) == (130, "")
    assert [each for each in finished.err.splitlines() if not each.startswith("import time:")] == []


def test_ctrl_c_at_any_moment_is_quiet(world: World) -> None:
    """From the start to the end of a command: no traceback, no word, and soon over."""
    world.simulate()
    for delay in (0.1, 0.3, 0.5, 0.7, 0.9):
        process = world.start("list")
        time.sleep(delay)
        if not process.ended:
            process.send(signal.SIGINT)
        finished = process.wait(10)
        # The signal itself ends it when Python has already taken its handlers away: a shell says 130, too.
        assert finished.code in {0, 130, -signal.SIGINT}
        assert finished.err == ""


def test_without_a_terminal_there_are_no_colours_and_no_bars(world: World) -> None:
    """What goes to a file is text; a width of 80 would be nobody's wish there."""
    world.simulate()
    prompt = "a lighthouse " * 50 + "at dusk"

    made = world.run("generate", prompt, "--size", "256x256")
    listed = world.run("list")
    shown = world.run("show", world.run("list", "--json").json["items"][0]["id"])

    assert "\x1b" not in made.out + made.err + listed.out + listed.err
    assert made.err == ""
    assert len(made.out.splitlines()) == len(listed.out.splitlines()) == 2
    assert prompt in listed.out
    assert prompt in shown.out
    assert all(line == line.rstrip() for line in listed.out.splitlines())
