"""`open_runtime`, over every engine."""

from functools import partial
from pathlib import Path

import pytest

from runware_provider.durable import handout
from tests.conformance.engines import ENGINES, OpenRuntime, an_address, opened


@pytest.fixture(params=ENGINES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a fresh state lies."""
    return an_address(request.param, tmp_path)


@pytest.fixture
def open_runtime(address: str) -> OpenRuntime:
    """Open the state of this test, as often as it wants."""
    return partial(opened, address)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backoffs are long in production; their growth is the same here."""
    monkeypatch.setattr(handout, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(handout, "STORE_WAIT", 0.01)
    monkeypatch.setattr(handout, "LONGEST_WAIT", 0.02)
