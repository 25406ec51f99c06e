"""A batch between real processes: killed, interrupted, without its service; and what the simulator was paid."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import Running, Simulated, World, eventually, images_in
from tests.e2e.test_terminal import expect_to_fit, on_a_terminal

LINES = 60
COMMAND = ["batch", "prompts.jsonl", "--out", "shots", "--size", "128x128", "--in-flight", "8"]


def write_prompts(world: World, count: int = LINES) -> None:
    """A file with as many prompts."""
    lines = (json.dumps({"prompt": f"lighthouse number {number}"}) for number in range(count))
    (world.folder / "prompts.jsonl").write_text("\n".join(lines))


def expect_each_billed_once(simulator: Simulated, count: int = LINES) -> None:
    """No more and no less."""
    ledger = simulator.ledger
    assert len(ledger) == count
    assert [task["billed"] for task in ledger] == [1] * count


def expect_all_there(world: World, count: int = LINES) -> None:
    """Every line has its image and its recipe, and each recipe is that of its image."""
    report: dict[str, Any] = json.loads((world.folder / "shots" / "report.json").read_text())
    assert (report["done"], report["failed"], report["open"]) == (count, 0, 0)
    images = images_in(world.folder / "shots")
    assert [each.name for each in images] == [f"{number:04}-1.jpg" for number in range(1, count + 1)]
    for number, image in enumerate(images):
        recipe = json.loads(image.with_suffix(".json").read_text())
        assert recipe["input"]["positivePrompt"] == f"lighthouse number {number}"
        assert recipe["size_bytes"] == image.stat().st_size
    assert [each.name for each in hidden(world)] == [".batch-journal"]


def until_there(world: World, count: int, process: Running) -> None:
    """Wait until so many images lie in the folder; the batch must still be at work then."""
    eventually(lambda: process.ended or len(images_in(world.folder / "shots")) >= count)
    assert not process.ended, process.err


def hidden(world: World) -> list[Path]:
    """What is not shown by `ls`."""
    return sorted(each for each in (world.folder / "shots").iterdir() if each.name.startswith("."))


@pytest.mark.parametrize("beside_a_service", [True, False])
def test_a_batch_that_is_killed_again_and_again_pays_for_each_line_once(world: World, beside_a_service: bool) -> None:
    """kill -9 at several points of its life; the same command goes on, until everything is there."""
    simulator = world.simulate("--latency", "0.02-0.2")
    write_prompts(world)
    if beside_a_service:
        world.serve()

    world.environ["RUNWARE_PROVIDER_PATIENCE"] = "1s"  # after which what was being sent when it died is sent again
    for wanted in (1, 15, 30, 45):
        process = world.start(*COMMAND)
        until_there(world, wanted, process)
        process.kill()
    finished = world.run(*COMMAND)

    assert finished.code == 0, finished.err
    assert "going on: " in finished.err
    expect_all_there(world)
    expect_each_billed_once(simulator)


def test_a_service_that_is_killed_under_a_batch_is_waited_for(world: World) -> None:
    """It is started again by whoever looks after it; the batch goes on by itself, and says that it waited."""
    simulator = world.simulate("--latency", "0.02-0.2")
    write_prompts(world)
    world.environ["RUNWARE_PROVIDER_PATIENCE"] = "1s"
    service = world.serve()
    process = world.start(*COMMAND)

    for wanted in (10, 30):
        until_there(world, wanted, process)
        service.process.kill()
        service = world.serve()
    finished = process.wait()

    assert finished.code == 0, finished.err
    assert "the service does not answer" in finished.err
    expect_all_there(world)
    expect_each_billed_once(simulator)


def test_a_batch_and_its_service_may_die_together(world: World) -> None:
    """A loss of power: what lies in the folder and what lies in the state agree on what was paid for."""
    simulator = world.simulate("--latency", "0.02-0.2")
    write_prompts(world)
    world.environ["RUNWARE_PROVIDER_PATIENCE"] = "1s"
    service = world.serve()
    process = world.start(*COMMAND)
    until_there(world, 20, process)

    os.kill(process.pid, signal.SIGKILL)
    service.process.kill()
    finished = world.run(*COMMAND)

    assert finished.code == 0, finished.err
    expect_all_there(world)
    expect_each_billed_once(simulator)


def test_ctrl_c_stops_a_batch_and_says_how_to_go_on(world: World) -> None:
    """Exit code 130, a report of what is there, and one sentence that is all one has to know."""
    simulator = world.simulate("--latency", "0.1-0.3")
    write_prompts(world)
    world.serve()
    process = world.start(*COMMAND)
    until_there(world, 10, process)

    stopped = process.stop(signal.SIGINT)
    sent = len(simulator.ledger)
    finished = world.run(*COMMAND)

    assert stopped.code == 130
    assert f" of {LINES} done, " in stopped.out
    assert "stopped: interrupted; " in stopped.err
    assert "the same command goes on from here, and pays for nothing twice" in stopped.err
    assert sent < LINES
    assert finished.code == 0
    expect_all_there(world)
    expect_each_billed_once(simulator)


def test_what_is_deleted_meanwhile_does_not_end_the_batch(world: World) -> None:
    """Somebody else may clean up in the gallery; that line is told, and the others come."""
    simulator = world.simulate("--latency", "2")
    write_prompts(world, 4)
    service = world.serve()
    process = world.start(*COMMAND)
    eventually(lambda: simulator.stats["running"] == 4)
    id = next(item["id"] for item in service.get("/v1/generations")["items"] if item["prompt"] == "lighthouse number 2")

    assert service.ask("DELETE", f"/v1/generations/{id}")[0] == 204
    finished = process.wait()

    assert finished.code == 1, finished.err
    assert "line 3  was deleted from the service" in finished.out
    assert len(images_in(world.folder / "shots")) == 3


@pytest.mark.parametrize("in_flight", [1, 5])
def test_no_more_are_under_way_than_is_allowed(world: World, in_flight: int) -> None:
    """A thousand at once would be a thousand that everybody else waits behind."""
    simulator = world.simulate("--latency", "0.1")
    write_prompts(world, 15)

    assert world.run(*COMMAND[:-1], str(in_flight)).code == 0
    assert simulator.stats["peak_running"] == in_flight


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_one_bar_shows_how_far_how_fast_and_what_it_costs(world: World, columns: int) -> None:
    """In the width of any terminal, and gone when it is done."""
    world.simulate("--latency", "0.2")
    write_prompts(world, 30)

    code, seen = on_a_terminal(world, columns, COMMAND, raw=True)
    _, text = on_a_terminal(world, columns, COMMAND)

    assert code == 0
    assert "/30  " in seen
    assert ("images/s" if columns >= 80 else "/s  $0.") in seen
    assert " left" in seen
    report = text.partition("requests  ")[2]
    assert report.startswith("30 of 30 done")
    expect_to_fit("requests  " + report, columns)


@pytest.mark.slow
def test_thousands_of_lines_are_held_in_bounded_memory(world: World) -> None:
    """The batch beside its service stays small, however long the file: it holds what is in flight, and an index."""
    world.simulate("--latency", "0", "--image-bytes", "32768")
    count = 3_000
    write_prompts(world, count)
    world.serve()
    process = world.start(*COMMAND[:-1], "50", "--json")
    peak = 0

    def holds() -> bool:
        nonlocal peak
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            return True
        peak = max([peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))])
        return process.ended

    eventually(holds, 110)
    finished = process.wait()

    assert finished.code == 0, finished.err
    assert finished.json["images"] == count
    assert peak < 110 * 1024, f"{peak // 1024} MiB"
