"""How much memory the service takes under load."""

import shutil

import pytest

from benchmarks.processes import family, most_of_its_own
from tests.e2e.processes import Service, World, eventually

LIMIT = 150_000_000


def peak_bytes(service: Service) -> int:
    """The most that was resident since its start, with the process that keeps its images."""
    return sum(map(most_of_its_own, family(service.process.pid)))


@pytest.mark.slow
def test_memory_stays_flat_while_two_hundred_images_of_eight_megabytes_are_stored(world: World) -> None:
    """1.6 GB go through 16 slots: images are spooled, not held."""
    world.simulate("--image-bytes", "8000000")
    service = world.serve_with_webhooks(RUNWARE_PROVIDER_CONCURRENCY="16")
    ids = [service.create(numberResults=20)["id"] for _ in range(10)]
    eventually(lambda: service.get("/readyz")["running"] == 0, 60)

    assert [service.settled(each)["counts"]["stored"] for each in ids] == [20] * 10
    assert peak_bytes(service) < LIMIT

    shutil.rmtree(world.data / "artifacts")  # pytest keeps the folders of its last runs
