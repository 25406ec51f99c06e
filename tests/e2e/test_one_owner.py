"""One process owns a data directory; the others speak to it or are told who it is."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e.processes import World, eventually


def test_a_second_service_waits_and_then_says_who_holds_the_directory(world: World) -> None:
    """Pid and address of the owner, and the remedies; exit code 2."""
    world.simulate()
    service = world.serve()
    begun = time.monotonic()
    second = world.run("serve", "--port", "0", "--takeover-wait", "0.5")

    assert time.monotonic() - begun > 0.5
    assert (second.code, second.out) == (2, "")
    assert f"in use by process {service.process.pid} at {service.url}" in second.err
    assert "RUNWARE_PROVIDER_DATA_DIR" in second.err
    assert service.get("/healthz") == {"status": "ok"}


def test_a_second_service_takes_over_when_the_first_goes_in_time(world: World) -> None:
    """A deploy starts the new one before it stops the old one."""
    world.simulate()
    first = world.serve()
    id = first.create()["id"]
    second = world.start("serve", "--port", "0", "--takeover-wait", "20")
    first.settled(id)
    first.process.stop()

    second.wait_for("listens on")

    assert world.run("show", id).code == 0


def test_a_directory_with_a_very_long_path_works_the_same(world: World) -> None:
    """A Unix socket's path ends after some hundred characters; the socket then lies elsewhere, closed to others."""
    world.simulate()
    deep = world.folder / "/".join(["a-rather-long-name-for-a-folder"] * 6)
    world.environ["RUNWARE_PROVIDER_DATA_DIR"] = str(deep)
    service = world.serve()
    id = service.settled(service.create()["id"])["id"]

    with_service = world.run("show", id)
    service.process.stop()
    without = world.run("show", id)

    assert with_service.code == 0, with_service.err
    assert with_service == without
    assert not (deep / "api.sock").exists()


def test_commands_that_come_at_once_share_the_directory(world: World) -> None:
    """Without a service one of them owns it and the rest speak to that one, or wait for it to be done."""
    world.simulate()
    assert world.run("generate", "a lighthouse", "--size", "256x256").code == 0

    with ThreadPoolExecutor(5) as pool:
        finished = list(pool.map(lambda _: world.run("list", "--json"), range(5)))

    assert [each.code for each in finished] == [0] * 5, finished
    assert len({each.out for each in finished}) == 1


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_command_goes_on_when_the_one_that_it_spoke_to_leaves(world: World, how: signal.Signals) -> None:
    """It becomes the owner itself, and does what the other one would have done. Nothing is paid for twice."""
    simulator = world.simulate("--latency", "3")
    first = world.start("generate", "a lighthouse", "--size", "256x256")
    eventually(lambda: len(simulator.ledger) == 1)
    listed = world.run("list", "--json")
    second = world.start("watch", (id := listed.json["items"][0]["id"]))
    second.wait_for("being made")
    first.send(how)

    finished = second.wait()

    assert first.wait().code in {130, -signal.SIGKILL}
    assert (finished.code, finished.err) == (0, "")
    assert f"{id}  completed, 1 of 1" in finished.out
    assert len(simulator.ledger) == 1


def test_a_service_that_dies_is_not_taken_over_by_a_command(world: World) -> None:
    """Whoever runs services starts them again; a command that took its place would stand in the way."""
    world.simulate("--latency", "20")
    service = world.serve()
    id = service.create()["id"]
    command = world.start("watch", id)
    command.wait_for("being made")
    service.process.kill()
    eventually(lambda: "the service does not answer" in command.err)

    again = world.serve()

    assert again.state(id)["status"] == "running"
    assert not command.ended
