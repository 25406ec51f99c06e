"""A service for each test of the pages."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.postgres import postgres, state_template
from tests.service import Service, a_service

__all__ = ["postgres", "state_template"]


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    """A service with a simulator that is quick and well."""
    async with a_service(tmp_path) as running:
        yield running
