"""Connections to PostgreSQL: how they are opened, and what its errors mean to a caller."""

import asyncio
from typing import Final
from urllib.parse import urlsplit

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from runware_provider.errors import ConfigurationError, StateUnavailable

SCHEMA: Final = "runware_provider"
"""Where the state's tables and PgQueuer's lie, and where statements look for them."""

Connection = asyncpg.Connection | PoolConnectionProxy

CONNECT_SECONDS: Final = 10.0
COMMAND_SECONDS: Final = 30.0
STARTING_SECONDS, STARTING_PAUSE = 10.0, 0.25

_SESSION: Final = (
    f"SET search_path = {SCHEMA}; SET application_name = 'runware-provider'; SET lock_timeout = '10s'; "
    "SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '15s'"
)

FAILURES: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # of a connection that was cut while nobody used it
)
"""All that a statement may raise."""

_OURS: Final = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    asyncpg.SyntaxOrAccessError,
)


def is_passing(error: BaseException) -> bool:
    """Whether the same statement may succeed later: server, network or disk is to blame, not its content."""
    if isinstance(error, asyncpg.UndefinedTableError | asyncpg.InvalidSchemaNameError):
        return True  # a person takes the schema away or has not restored it yet
    return isinstance(error, FAILURES) and not isinstance(error, _OURS)


def unavailable(error: BaseException, what: str = "commit") -> StateUnavailable:
    """What a caller is told."""
    return StateUnavailable(f"the state store cannot {what}: {said(error)}")


def said(error: BaseException) -> str:
    """An error in one line; asyncpg's own hold no parameters and no password."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:500]


def shown(url: str) -> str:
    """A database's URL without user, password and options, once it was found to be one."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"postgresql://{parts.hostname or 'local'}{port}{parts.path}"


def cannot_connect(url: str, error: BaseException) -> ConfigurationError:
    """What an operator is told at a start."""
    if isinstance(error, ValueError):  # the driver's words, and the parts of a URL that is none, may be of a password
        return ConfigurationError(
            "STATE_URL: this is no address of PostgreSQL; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with "
            "special characters of the password percent-encoded"
        )
    return ConfigurationError(
        f"STATE_URL: {shown(url)} cannot be reached: {said(error)}. Check the address, the password, that the database "
        "exists and that its server runs"
    )


async def prepare(connection: Connection) -> None:
    """Settings of a session. Statements and not parameters of the start: a pooler would refuse or forget those."""
    await connection.execute(_SESSION)


async def _clean(connection: Connection) -> None:
    """Before somebody else gets it. asyncpg's own way forgets the settings of the session."""
    if connection.is_in_transaction():
        await connection.execute("ROLLBACK")


async def _require_sessions(one: Connection, other: Connection, url: str) -> None:
    """Raises ConfigurationError when both connections turn out to be one session: what one sets, the other sees."""
    await one.execute("SET runware_provider.probe = 'one'")
    await other.execute("SET runware_provider.probe = 'other'")
    if await one.fetchval("SELECT current_setting('runware_provider.probe', true)") != "one":
        raise ConfigurationError(
            f"STATE_URL: {shown(url)} leads through a pooler in transaction mode, where notifications and settings of "
            "a session get lost: connect to PostgreSQL itself, or let the pooler use session mode"
        )


async def open_pool(url: str, size: int) -> asyncpg.Pool:
    """A pool of at most `size` connections, after the first was made. Raises ConfigurationError.

    A server that is starting is waited for.
    """
    until = asyncio.get_running_loop().time() + STARTING_SECONDS
    while True:
        try:
            pool = await asyncpg.create_pool(
                url,
                min_size=0,  # it would log a traceback a second while the server is away
                max_size=size,
                timeout=CONNECT_SECONDS,
                command_timeout=COMMAND_SECONDS,
                max_inactive_connection_lifetime=60.0,
                init=prepare,
                reset=_clean,
            )
            async with pool.acquire() as one, pool.acquire() as other:
                await _require_sessions(one, other, url)
                return pool
        except (*FAILURES, ValueError) as error:
            starting = isinstance(error, asyncpg.CannotConnectNowError)
            if not starting or asyncio.get_running_loop().time() > until:
                raise cannot_connect(url, error) from error
        await asyncio.sleep(STARTING_PAUSE)
