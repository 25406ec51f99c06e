"""The main job between real processes: submit, deliver, fetch, store, list."""

from pathlib import Path

import pytest

from tests.e2e.conftest import over_both_engines
from tests.e2e.processes import World, images_in


def stored(world: World) -> list[bytes]:
    """The bytes of every image in the bucket."""
    return sorted(each.read_bytes() for each in images_in(world.data / "artifacts"))


def written(folder: Path) -> list[bytes]:
    """The bytes of every image that a command wrote."""
    return sorted(each.read_bytes() for each in images_in(folder))


@over_both_engines
@pytest.mark.parametrize("delivery", ["webhook", "poll"])
def test_a_service_makes_images_and_the_command_writes_the_stored_bytes(world: World, delivery: str) -> None:
    """The whole way, results delivered by webhook, and asked for where no public URL is."""
    simulator = world.simulate()
    service = world.serve_with_webhooks() if delivery == "webhook" else world.serve()

    made = world.run("generate", "a lighthouse at dusk", "-n", "4", "--size", "256x256", "--out", "pictures")

    assert made.code == 0, made.err
    assert len(written(world.folder / "pictures")) == 4
    assert stored(world) == written(world.folder / "pictures")
    (task,) = simulator.ledger
    assert task["billed"] == 1
    assert (delivery == "webhook") == (len(task["webhooks"]) > 0)
    (row,) = service.get("/v1/generations")["items"]
    assert (row["status"], row["counts"]["stored"], row["prompt"]) == ("completed", 4, "a lighthouse at dusk")


@over_both_engines
def test_without_a_service_the_command_does_the_job_itself(world: World) -> None:
    """A laptop needs a key and nothing else: the command owns the directory for a moment."""
    simulator = world.simulate()

    made = world.run("generate", "a lighthouse", "-n", "2", "--size", "256x256", "--out", "pictures", "--json")

    assert made.code == 0, made.err
    assert stored(world) == written(world.folder / "pictures")
    files = [str(each.relative_to(world.folder)) for each in images_in(world.folder / "pictures")]
    assert files == sorted(made.json["files"])
    assert [task["billed"] for task in simulator.ledger] == [1]
    assert made.json["status"] == "completed"
    assert made.json["projected_at"] is not None
