"""Every fault is staged over both engines; the read model is a SQLite file in either case."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from runware_provider.durable import postgres as engine_of_many
from runware_provider.projection import migrate
from tests import service
from tests.conformance.engines import ENGINES
from tests.postgres import PostgresServer, postgres, state_template
from tests.service import JsonObject

__all__ = ["postgres", "state_template"]


@pytest.fixture(scope="session")
def read_model_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A read model without a row, to make others of."""
    path = tmp_path_factory.mktemp("template") / "projection.db"
    with ThreadPoolExecutor(1) as thread:  # a loop may be running in this one
        thread.submit(asyncio.run, migrate(f"sqlite:///{path}")).result()
    return path


@pytest.fixture(params=ENGINES, autouse=True)
def engine(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the state of a service of this test lies."""
    if request.param == "sqlite":
        yield "sqlite"
        return
    monkeypatch.setattr(engine_of_many, "LEASE", timedelta(seconds=0.5))
    with _a_database(request, tmp_path / "data") as given:
        monkeypatch.setattr(service, "AMBIENT", given)
        yield "postgres"


@pytest.fixture
def a_state(engine: str, request: pytest.FixtureRequest) -> Callable[[Path], JsonObject]:
    """Makes the settings of a fresh, empty state, for tests that need many. Blocks for a moment."""

    def make(folder: Path) -> JsonObject:
        return {} if engine == "sqlite" else _a_database(request, folder).given

    return make


class _a_database:  # noqa: N801  a context manager that need not be entered
    """A migrated database for state, and a migrated file in `folder` for the read model."""

    def __init__(self, request: pytest.FixtureRequest, folder: Path) -> None:
        self._server: PostgresServer = request.getfixturevalue("postgres")
        self._name = self._server.create_database(request.getfixturevalue("state_template"))
        folder.mkdir()
        read_model = folder / "projection.db"
        shutil.copyfile(request.getfixturevalue("read_model_template"), read_model)
        self.given: JsonObject = {
            "state_url": self._server.url(self._name),
            "projection_url": f"sqlite:///{read_model}",
        }

    def __enter__(self) -> JsonObject:
        return self.given

    def __exit__(self, *_: object) -> None:
        self._server.drop_database(self._name)
