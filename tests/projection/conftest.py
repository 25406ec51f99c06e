import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import cast

import pytest

from runware_provider.projection import Projection, cloudflare, migrate, migration_sql, sqlite
from runware_provider.projection.schema import REVISIONS
from tests.d1.engine import D1Server, d1
from tests.d1.proxy import Proxy
from tests.postgres import PostgresServer, postgres
from tests.projection.places import KINDS, D1Place, Kind, NewPlace, Place, PostgresPlace, SQLitePlace

__all__ = ["d1", "postgres"]


@pytest.fixture(scope="session")
def schema_at_head(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A fresh read model's file: migrating imports Alembic and takes 0.3 s, copying takes none."""
    path = tmp_path_factory.mktemp("schema") / "read.db"
    asyncio.run(migrate(f"sqlite://{path}"))
    return path.read_bytes()


@pytest.fixture(scope="session")
def database_at_head(postgres: PostgresServer) -> str:
    """The same for PostgreSQL: a database to be copied."""
    name = postgres.create_database()
    asyncio.run(migrate(postgres.url(name)))
    return name


@pytest.fixture(scope="session")
def script_to_head() -> str:
    """The same for D1: one script."""
    return "\n".join(migration_sql(revision, "sqlite") for revision in REVISIONS)


@pytest.fixture(scope="session")
def d1_databases(d1: D1Server) -> Iterator[str]:
    """They are used in turn; a test needs less than there are."""
    return cycle(d1.databases)


@pytest.fixture(scope="session")
def session_proxy(d1: D1Server) -> Iterator[Proxy]:
    with Proxy(d1.base_url).serving() as proxy:
        yield proxy


@pytest.fixture
def proxy(session_proxy: Proxy) -> Iterator[Proxy]:
    """The way to D1, on which things can go wrong."""
    session_proxy.forget()
    yield session_proxy
    session_proxy.forget()


@pytest.fixture
def path(tmp_path: Path, schema_at_head: bytes) -> Path:
    """A read model in a file at head with nothing in it."""
    path = tmp_path / "read.db"
    path.write_bytes(schema_at_head)
    return path


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Which database. Each test is for all of them, unless it says otherwise."""
    return cast("Kind", request.param)


@pytest.fixture
def new_place(kind: Kind, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NewPlace]:
    """Makes databases of that kind: at head, or with nothing at all in it when not `migrated`."""
    makers: dict[Kind, Callable[[], Callable[[bool], Place]]] = {
        "sqlite": lambda: _new_sqlite(tmp_path, request),
        "postgresql": lambda: _new_postgres(request),
        "d1": lambda: _new_d1(request),
    }
    make = makers[kind]()
    made: list[Place] = []

    def new(*, migrated: bool = True) -> Place:
        made.append(make(migrated))
        return made[-1]

    yield new
    for place in made:
        if isinstance(place, PostgresPlace):
            place.server.drop_database(place.database)


@pytest.fixture
def place(new_place: NewPlace) -> Place:
    """A read model at head with nothing in it."""
    return new_place()


@pytest.fixture
async def projection(place: Place) -> AsyncIterator[Projection]:
    projection = await place.open()
    yield projection
    await projection.aclose()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read model that is opened now waits for nothing for long."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.02)
    monkeypatch.setattr(cloudflare, "PATIENCE", 0.02)
    monkeypatch.setattr(cloudflare, "FIRST_PAUSE", 0.01)
    from runware_provider.projection import postgres as engine

    monkeypatch.setitem(engine.SESSION, "lock_timeout", "20ms")


def _new_sqlite(folder: Path, request: pytest.FixtureRequest) -> Callable[[bool], Place]:
    numbers = iter(range(1_000))
    head: bytes = request.getfixturevalue("schema_at_head")

    def make(migrated: bool) -> Place:
        path = folder / f"read{next(numbers)}.db"
        path.write_bytes(head if migrated else b"")
        return SQLitePlace(path)

    return make


def _new_postgres(request: pytest.FixtureRequest) -> Callable[[bool], Place]:
    server: PostgresServer = request.getfixturevalue("postgres")
    head: str = request.getfixturevalue("database_at_head")
    return lambda migrated: PostgresPlace(server, server.create_database(head if migrated else "template0"))


def _new_d1(request: pytest.FixtureRequest) -> Callable[[bool], Place]:
    server: D1Server = request.getfixturevalue("d1")
    proxy: Proxy = request.getfixturevalue("proxy")
    script: str = request.getfixturevalue("script_to_head")
    databases: Iterator[str] = request.getfixturevalue("d1_databases")

    def make(migrated: bool) -> Place:
        database = next(databases)
        server.empty(database)
        if migrated:
            server.run(database, script)
        return D1Place(server, proxy, database)

    return make
