"""Where a read model lies in tests: one database of one kind, and what its owner does there with a shell."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar
from uuid import UUID

import asyncpg

from runware_provider.projection import D1Access, Projection
from tests.d1.engine import TOKEN, D1Server
from tests.d1.proxy import Fault, Proxy
from tests.postgres import PostgresServer, fetch
from tests.projection.builders import a_connection

Kind = Literal["sqlite", "postgresql", "d1"]
KINDS: tuple[Kind, ...] = ("sqlite", "postgresql", "d1")
TABLES = ("generations", "artifacts", "generation_metadata")

_T = TypeVar("_T")


class Place:
    """A database. `busy`: what it says when it takes no write. `atomic`: whether a refused write leaves nothing."""

    kind: Kind
    url: str
    busy: str
    d1: D1Access | None = None
    atomic = True

    async def open(self, *, migrate: bool = False) -> Projection:
        """As a process of ours does."""
        return await Projection.open(self.url, migrate=migrate, d1=self.d1)

    def rows(self, table: str, generation_id: UUID | None = None) -> list[dict[str, Any]]:
        """What a person with a shell sees, in order of the primary key."""
        column = "id" if table == "generations" else "generation_id"
        found = self.ask(f"SELECT * FROM {table} ORDER BY 1, 2")  # noqa: S608
        return [row for row in found if generation_id is None or row[column] == str(generation_id)]

    def everything(self, generation_id: UUID | None = None) -> dict[str, list[dict[str, Any]]]:
        """All rows of all tables."""
        return {table: self.rows(table, generation_id) for table in TABLES}

    def ask(self, sql: str, *parameters: str | int) -> list[dict[str, Any]]:
        """The rows of one statement."""
        raise NotImplementedError

    def run(self, *statements: str) -> None:
        """Change something."""
        for statement in statements:
            self.ask(statement)

    def refuse(self, table: str, column: str, value: str, words: str) -> None:
        """A rule of the team's own: no row may hold `value`."""
        self.run(
            f"CREATE TRIGGER refuse BEFORE INSERT ON {table} WHEN NEW.{column} = '{value}' "
            f"BEGIN SELECT RAISE(ABORT, '{words}'); END"
        )

    def writes_blocked(self) -> AbstractContextManager[None]:
        """Nobody can write; reading goes on."""
        raise NotImplementedError


class SQLitePlace(Place):
    kind = "sqlite"
    busy = "database is locked"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"sqlite://{path}"

    def ask(self, sql: str, *parameters: str | int) -> list[dict[str, Any]]:
        with a_connection(self.path) as connection:
            return [dict(row) for row in connection.execute(sql, parameters)]

    @contextmanager
    def writes_blocked(self) -> Iterator[None]:
        with a_connection(self.path) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")


class PostgresPlace(Place):
    kind = "postgresql"
    busy = "canceling statement due to lock timeout"

    def __init__(self, server: PostgresServer, database: str) -> None:
        self.server = server
        self.database = database
        self.url = server.url(database)

    def ask(self, sql: str, *parameters: str | int) -> list[dict[str, Any]]:
        return [dict(row) for row in apart(fetch(self.url, sql, *parameters))]

    def refuse(self, table: str, column: str, value: str, words: str, code: str = "P0001") -> None:
        self.run(
            f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.{column} = '{value}' THEN "
            f"RAISE EXCEPTION '{words}' USING ERRCODE = '{code}'; END IF; RETURN NEW; END $$",
            f"CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()",
        )

    @contextmanager
    def writes_blocked(self) -> Iterator[None]:
        # On a loop of its own, for the test's runs meanwhile.
        runner = asyncio.Runner()

        async def lock() -> "asyncpg.Connection[asyncpg.Record]":
            connection = await asyncpg.connect(self.url)
            await connection.execute("BEGIN; LOCK TABLE generations IN EXCLUSIVE MODE")
            return connection

        with ThreadPoolExecutor(1) as thread:
            connection = thread.submit(runner.run, lock()).result()
            try:
                yield
            finally:
                thread.submit(runner.run, connection.close()).result()
                thread.submit(runner.close).result()


class D1Place(Place):
    kind = "d1"
    busy = "D1 is not available (HTTP 503)"
    atomic = False

    def __init__(self, server: D1Server, proxy: Proxy, database: str) -> None:
        self.server = server
        self.proxy = proxy
        self.database = database
        self.url = server.url(database)
        self.d1 = D1Access(TOKEN, proxy.base_url)

    def ask(self, sql: str, *parameters: str | int) -> list[dict[str, Any]]:
        return self.server.run(self.database, sql, *map(str, parameters))

    @contextmanager
    def writes_blocked(self) -> Iterator[None]:
        self.proxy.always = Fault(503, only="WITH")
        yield
        self.proxy.always = Fault()


NewPlace = Callable[..., Place]


def apart(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run it on a loop of its own, whether or not there is one here."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()
