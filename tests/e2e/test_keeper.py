"""The process that keeps a service's images, seen from outside: killed, orphaned, stopped."""

import os
import signal
import time

from benchmarks.processes import family
from tests.e2e.processes import Service, World, alive, eventually, images_in


def keeper(service: Service) -> int:
    """Its pid, once there is one."""
    eventually(lambda: len(family(service.process.pid)) == 2)
    return family(service.process.pid)[1]


def test_images_are_kept_while_their_process_is_killed_again_and_again(world: World) -> None:
    """Every image is stored once, nothing is paid twice, and nothing is left over."""
    simulated = world.simulate("--latency", "0.05", "--image-bytes", "400000")
    service = world.serve_with_webhooks()
    ids: list[str] = []
    for _ in range(6):
        ids += [service.create(numberResults=4)["id"] for _ in range(3)]  # or nobody would need another one
        time.sleep(0.15)  # some images are kept in between, and some are on their way
        os.kill(keeper(service), signal.SIGKILL)

    states = [service.settled(each) for each in ids]
    assert [state["counts"]["stored"] for state in states] == [4] * 18
    assert all(entry["billed"] == 1 for entry in simulated.ledger)
    assert len(images_in(world.data / "artifacts")) == 72
    assert service.get("/readyz")["parked"] == 0
    assert list((world.data / "tmp").iterdir()) == []
    assert "keeper_died" in service.process.err


def test_a_killed_service_takes_it_along_and_the_next_one_begins_at_once(world: World) -> None:
    """Nobody is left who writes into the folder that another service owns by then."""
    world.simulate()
    service = world.serve_with_webhooks()
    pid = keeper(service)
    service.process.kill()
    began = time.monotonic()
    again = world.serve_with_webhooks()

    assert time.monotonic() - began < 5
    assert not alive(pid)
    assert again.settled(again.create()["id"])["counts"]["stored"] == 1


def test_an_orderly_stop_ends_it(world: World) -> None:
    """With Ctrl-C, which a terminal sends to both, and with SIGTERM, which systemd sends to both."""
    world.simulate()
    for number in (signal.SIGINT, signal.SIGTERM):
        service = world.serve_with_webhooks()
        service.settled(service.create()["id"])
        pid = keeper(service)
        os.kill(pid, number)
        assert service.process.stop(number).code == 0
        assert not alive(pid)
        assert "Traceback" not in service.process.err
