"""What the tests of this room open and close."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from runware_provider.artifacts import Artifacts, NotKept
from runware_provider.types import Stored
from tests.artifacts.buckets import Bucket, a_bucket, moto
from tests.artifacts.cdn import Cdn

GENERATION = UUID("0193a000-0000-7000-8000-000000000001")
OUTPUT = UUID("b0e2b6f0-0000-5000-8000-000000000002")

Opener = Callable[..., Awaitable[Artifacts]]


@pytest.fixture
async def cdn() -> AsyncIterator[Cdn]:
    server = Cdn()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    with moto() as url:
        yield url


@pytest.fixture
async def bucket(moto_url: str) -> AsyncIterator[Bucket]:
    async with a_bucket(moto_url) as bucket:
        yield bucket


@pytest.fixture
async def open_artifacts(tmp_path: Path) -> AsyncIterator[Opener]:
    """Opens artifacts below `tmp_path` with short timeouts; any argument can be given anew."""
    async with AsyncExitStack() as stack:

        async def opener(url: str = f"file://{tmp_path}/objects", **changes: Any) -> Artifacts:
            settings: dict[str, Any] = {
                "data_dir": tmp_path / "data",
                "image_hosts": ["127.0.0.1"],
                "max_image_bytes": 20_000_000,
                "fetch_timeout": timedelta(seconds=5),
                "stall_timeout": timedelta(seconds=2),
            }
            artifacts = await Artifacts.open(url, **settings | changes)
            stack.push_async_callback(artifacts.aclose)
            return artifacts

        yield opener


@pytest.fixture
async def artifacts(open_artifacts: Opener) -> Artifacts:
    return await open_artifacts()


@pytest.fixture(params=["file", "memory", "s3"])
async def store(request: pytest.FixtureRequest, open_artifacts: Opener, bucket: Bucket) -> Artifacts:
    """The same of each kind of store."""
    match request.param:
        case "s3":
            return await open_artifacts(bucket.url, bucket_access=bucket.access)
        case "memory":
            return await open_artifacts("memory://")
        case _:
            return await open_artifacts()


async def keep(artifacts: Artifacts, url: str, *, attempt: int = 1) -> Stored:
    """Keep the image at `url` as the one output of the one generation of these tests."""
    return await artifacts.keep(GENERATION, OUTPUT, url, attempt=attempt)


async def refusal(artifacts: Artifacts, url: str, *, attempt: int = 1) -> NotKept:
    """What `keep` refuses the image at `url` with."""
    with pytest.raises(NotKept) as caught:
        await keep(artifacts, url, attempt=attempt)
    return caught.value


def files(folder: Path) -> list[str]:
    """All files below `folder`, hidden ones too, by their path in it."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def content(artifacts: Artifacts, key: str, byte_range: tuple[int, int] | None = None) -> bytes:
    """The stored bytes."""
    return b"".join([piece async for piece in await artifacts.read(key, byte_range)])


def generations(objects: Path) -> list[str]:
    """The folders of generations in a file store."""
    return sorted(path.name for path in objects.glob("generations/*"))
