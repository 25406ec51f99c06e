from collections.abc import AsyncIterator

import pytest

from runware_provider.simulator.pytest_plugin import (
    runware_simulator,
    runware_simulator_factory,
    runware_simulator_options,
)
from tests.simulator.simulator_harness import Api, simulated

# The plugin's own fixtures, as a user's session has them through the entry point.
__all__ = ["runware_simulator", "runware_simulator_factory", "runware_simulator_options"]


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """A client of a simulator without latencies and faults."""
    async with simulated() as client:
        yield client
