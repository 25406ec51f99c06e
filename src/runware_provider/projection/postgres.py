"""The read model in PostgreSQL, by asyncpg: one small pool, of which writes take only a part.

What a write checks it checks under the locks of its transaction, statement by statement: READ COMMITTED, whatever the
database's default is.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import asyncpg

from runware_provider.errors import ConfigurationError, ProjectionUnavailable
from runware_provider.projection.schema import VERSION_TABLE
from runware_provider.projection.target import Dialect, Rejected

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0
"""How long a statement may take altogether, the way there and back included."""
MIGRATION_SECONDS = 3_600.0
CONNECTIONS = 6
WRITES = 2
"""Transactions at once. The other connections are free for reading."""

SESSION = {
    "statement_timeout": "10s",
    "lock_timeout": "3s",
    "idle_in_transaction_session_timeout": "30s",
    # With the values of each page. Without them PostgreSQL takes a LIMIT for a tenth of the table, and sorts.
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
    # A page is one stretch of one index, from which all else is looked up by key (`queries.py`). The planner takes
    # filters for independent of each other and would rather join and sort all that match (6 times as slow at worst).
    "enable_sort": "off",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_material": "off",
    "max_parallel_workers_per_gather": "0",
    "join_collapse_limit": "1",
}
_SETTINGS = "SELECT set_config(key, value, false) FROM json_each_text($1::text::json)"
_SEARCH_PATH = """
    SELECT set_config('search_path', coalesce(string_agg(quote_ident(name), ', ' ORDER BY place), ''), false)
    FROM unnest(current_schemas(false)) WITH ORDINALITY AS schemas(name, place) WHERE name <> 'runware_provider'
    HAVING 'runware_provider' = ANY(current_schemas(false))
"""
_MIGRATION = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '60s'"
_HAS_TABLE = "SELECT EXISTS (SELECT FROM pg_class WHERE relname = $1 AND pg_table_is_visible(oid))"
_MIGRATION_LOCK = 0x72756E77617265
"""Of our own making: `runware` in ASCII. Advisory locks are the database's, so other applications' are beside it."""

_DRIVER = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
_PASSING = ("08", "40", "53", "55", "57", "58")
"""Classes of SQLSTATE: connection, conflict, resources, lock not to be had, intervention, the system."""
_LOST = ("08", "25", "57P")
"""The server went away, or has become a standby: the next call connects anew."""
_FULL = "53100"
_WHATEVER = ("28", "3D", "25006", _FULL)
"""No access, no such database, read-only, disk full: no content would be taken."""


class PostgresTarget:
    """A `Target`."""

    dialect: Dialect = "postgresql"
    atomic = True
    parameter_bytes = 16 * 1024 * 1024

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", url: str) -> None:
        self._pool = pool
        self._writes = asyncio.Semaphore(WRITES)
        self._secret = _password(url)

    @classmethod
    async def open(cls, url: str) -> "PostgresTarget":
        """Connect to `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`; parameters after `?` as libpq has them.

        Raises ConfigurationError for a URL that is none, and for a database that cannot be reached, is read-only or
        does not hold every character.
        """
        try:
            urlsplit(url).port  # noqa: B018 (raises)
            pool = asyncpg.create_pool(
                url,
                min_size=0,
                max_size=CONNECTIONS,
                timeout=CONNECT_SECONDS,
                command_timeout=ANSWER_SECONDS,
                server_settings={"application_name": "runware-provider"},
                init=_prepare,  # and not at the connection's start, where PgBouncer takes no settings
                reset=_nothing,  # we leave nothing behind in a session, so there is nothing to reset
            )
            await pool
        except (ValueError, asyncpg.InterfaceError):
            raise ConfigurationError(_HOW) from None
        target = cls(pool, url)
        try:
            await target._prove_usable()
        except (Rejected, ProjectionUnavailable) as error:
            await target.aclose()
            raise ConfigurationError(
                f"PROJECTION_URL: the PostgreSQL database cannot be used as the read model: {error}. "
                "Check the address, the password and that the server runs."
            ) from None
        except BaseException:
            await target.aclose()
            raise
        return target

    async def revision(self) -> str | None:
        """See `Target`."""
        async with self._connection() as connection:
            return await _revision(connection)

    async def migrate(self, plan: Callable[[str | None], Sequence[str]]) -> None:
        """See `Target`. All or nothing, DDL too; several at once go one after the other."""
        async with self._connection() as connection, connection.transaction(isolation="read_committed"):
            await connection.execute(_MIGRATION)
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _MIGRATION_LOCK, timeout=MIGRATION_SECONDS)
            for statement in plan(await _revision(connection)):
                await connection.execute(statement, timeout=MIGRATION_SECONDS)

    async def write(self, statements: Sequence[tuple[str, str]]) -> None:
        """See `Target`. One transaction."""
        async with (
            self._writes,
            self._connection() as connection,
            connection.transaction(isolation="read_committed"),
        ):
            for sql, parameter in statements:
                await connection.execute(sql, parameter)

    async def read(self, sql: str, parameters: Sequence[str | int], *, aside: bool = False) -> list[str]:  # noqa: ARG002  reads are independent here
        """See `Target`."""
        async with self._connection() as connection:
            return [row[0] for row in await connection.fetch(sql, *parameters)]

    async def aclose(self) -> None:
        """See `Target`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._pool.close(), ANSWER_SECONDS)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator["Connection"]:
        """A connection of the pool for one piece of work; raises what a `Target` raises."""
        with self._translated():
            connection = await self._pool.acquire(timeout=CONNECT_SECONDS)
            try:
                yield connection
            except _DRIVER as error:
                if not isinstance(error, asyncpg.PostgresError) or _code(error).startswith(_LOST):
                    connection.terminate()
                    await self._pool.expire_connections()  # the idle ones lead to the same server
                raise
            finally:
                await self._pool.release(connection, timeout=CONNECT_SECONDS)

    async def _prove_usable(self) -> None:
        async with self._connection() as connection:
            (encoding, read_only), *_ = await connection.fetch(
                "SELECT current_setting('server_encoding'), current_setting('transaction_read_only')"
            )
        if encoding != "UTF8":
            raise ConfigurationError(
                f"PROJECTION_URL: the database's encoding is {encoding}, which cannot hold every prompt; "
                "make one with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0."
            )
        if read_only == "on":
            raise ConfigurationError("PROJECTION_URL: the PostgreSQL database is read-only, or a standby.")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except asyncpg.PostgresError as error:
            code = _code(error)
            # The message alone: the detail shows whole rows, prompts included.
            words = self._without_secret(error.args[0])
            if code.startswith(_PASSING) and code != _FULL:
                raise ProjectionUnavailable(words) from error
            raise Rejected(words, whatever=code.startswith(_WHATEVER)) from error
        except TimeoutError as error:
            raise ProjectionUnavailable("PostgreSQL did not answer in time") from error
        except asyncpg.ClientConfigurationError as error:
            raise Rejected(self._without_secret(str(error)), whatever=True) from error
        except ValueError as error:  # the driver's, of a parameter, which its message shows
            raise Rejected("a value is not as PostgreSQL takes it") from error
        except OSError as error:
            raise ProjectionUnavailable(f"PostgreSQL cannot be reached: {error}") from error
        except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            # Also what asyncpg makes of a connection that ends between two calls; its words tell only of itself.
            raise ProjectionUnavailable("the connection to PostgreSQL was lost") from error

    def _without_secret(self, text: str) -> str:
        return text.replace(self._secret, "[redacted]") if self._secret else text


_HOW = (
    "PROJECTION_URL: this is no address of PostgreSQL; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with "
    "special characters of the password percent-encoded"
)


async def _prepare(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.execute(_SETTINGS, json.dumps(SESSION))
    # The state store's schema has tables of the same names, and comes first for a user who is called as it is.
    await connection.execute(_SEARCH_PATH)


async def _nothing(_connection: Any) -> None:
    pass


async def _revision(connection: "Connection") -> str | None:
    # Not `to_regclass`: a session goes on believing that a table is missing which another has made (seen).
    if not await connection.fetchval(_HAS_TABLE, VERSION_TABLE):
        return None
    found = await connection.fetchval(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 (a constant)
    return None if found is None else str(found)


def _code(error: asyncpg.PostgresError) -> str:
    return str(error.sqlstate or "")


def _password(url: str) -> str:
    return unquote(urlsplit(url).password or "")
