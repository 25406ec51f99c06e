"""`open_runtime`, over every engine."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from runware_provider.durable import handout
from tests.conformance.engines import ENGINES, OpenRuntime, an_address, opened
from tests.postgres import PostgresServer, postgres, state_template

__all__ = ["postgres", "state_template"]


@pytest.fixture(params=ENGINES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a fresh state lies."""
    if request.param == "sqlite":
        yield an_address(tmp_path)
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database(request.getfixturevalue("state_template")) as url:
        yield an_address(url)


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
