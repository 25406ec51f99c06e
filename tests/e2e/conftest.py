"""A world for each test: its folder, its processes, and an end for all of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Where processes run. None of them may ever show a traceback or a warning of Python's, whatever happens."""
    with World(tmp_path) as world:
        yield world
    for name, finished in world.said:
        for text in (finished.out, finished.err):
            assert "Traceback" not in text, f"{name}: {text}"
            assert "Warning:" not in text, f"{name}: {text}"
