import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runware_provider.projection import Projection, migrate


@pytest.fixture(scope="session")
def schema_at_head(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A fresh read model's file: migrating imports Alembic and takes 0.3 s, copying takes none."""
    path = tmp_path_factory.mktemp("schema") / "read.db"
    asyncio.run(migrate(f"sqlite://{path}"))
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path, schema_at_head: bytes) -> Path:
    """A read model at head with nothing in it."""
    path = tmp_path / "read.db"
    path.write_bytes(schema_at_head)
    return path


@pytest.fixture
async def projection(path: Path) -> AsyncIterator[Projection]:
    projection = await Projection.open(f"sqlite://{path}", migrate=False)
    yield projection
    await projection.aclose()
