"""A world for each test: its folder, its processes, and an end for all of them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conformance.engines import ENGINES
from tests.e2e.processes import World
from tests.postgres import PostgresServer, postgres, state_template

__all__ = ["postgres", "state_template"]

over_both_engines = pytest.mark.parametrize("world", ENGINES, indirect=True)


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Where processes run. None of them may ever show a traceback or a warning of Python's, whatever happens.

    With `over_both_engines` their state lies in a file once, in PostgreSQL another time; the read model always in one.
    """
    with ExitStack() as stack:
        world = World(tmp_path)
        if getattr(request, "param", "sqlite") == "postgres":
            server: PostgresServer = request.getfixturevalue("postgres")
            url = stack.enter_context(server.database(request.getfixturevalue("state_template")))
            world.data.mkdir()
            world.environ["RUNWARE_PROVIDER_STATE_URL"] = url
            world.environ["RUNWARE_PROVIDER_PROJECTION_URL"] = f"sqlite:///{world.data / 'projection.db'}"
            assert world.run("migrate").code == 0
        with world:
            yield world
    for name, finished in world.said:
        for text in (finished.out, finished.err):
            assert "Traceback" not in text, f"{name}: {text}"
            assert "Warning:" not in text, f"{name}: {text}"
