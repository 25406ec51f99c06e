"""The state's schema in PostgreSQL: its migrations, and what is said when they do not fit this release.

Everything lies in a schema of its own, PgQueuer's tables too. Migrations only add, so that the release before goes on
while the next one migrates.
"""

from contextlib import suppress
from typing import Final

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.domain.settings import DBSettings, Durability
from pgqueuer.domain.types import Channel
from pgqueuer.queries import Queries

from runware_provider.durable.postgres_pool import CONNECT_SECONDS, SCHEMA, Connection, cannot_connect, shown
from runware_provider.errors import ConfigurationError, StateTooNew

JOBS_CHANNEL: Final = "runware_provider_jobs"
CHANGES_CHANNEL: Final = "runware_provider_changes"

GONE: Final = -1
"""In a notification the version of what exists no more."""

MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE generations(
      id uuid PRIMARY KEY, version integer NOT NULL, flags smallint NOT NULL, alarm_at bigint, register text NOT NULL
    ) WITH (fillfactor = 70);
    CREATE INDEX generations_alarm ON generations(alarm_at, id) WHERE alarm_at IS NOT NULL;
    CREATE INDEX generations_running ON generations(id) WHERE flags & 1 <> 0;
    CREATE INDEX generations_projection_failed ON generations(id) WHERE flags & 2 <> 0;
    CREATE TABLE requests(id uuid PRIMARY KEY, request text NOT NULL);
    CREATE TABLE idempotency(key text PRIMARY KEY, digest text NOT NULL, id uuid NOT NULL);
    CREATE INDEX idempotency_id ON idempotency(id);
    CREATE TABLE parked(job bigint PRIMARY KEY, error text NOT NULL, parked_at bigint NOT NULL);
    CREATE TABLE unclaimed(
      number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, generation_id uuid, reason text NOT NULL,
      body bytea NOT NULL, digest bytea NOT NULL UNIQUE, received_at bigint NOT NULL);
    CREATE TABLE spend(
      day integer NOT NULL, part smallint NOT NULL, micros bigint NOT NULL, PRIMARY KEY (day, part));
    CREATE TABLE prices(model text PRIMARY KEY, micros bigint NOT NULL);
    CREATE TABLE secrets(name text PRIMARY KEY, secret text NOT NULL);
    """,
)

HEAD: Final = len(MIGRATIONS)

_LOCK: Final = 0x52756E77617265  # "Runware": one migration at a time

JOB_SETTINGS: Final = DBSettings(
    prefix="",
    db_schema=SCHEMA,
    channel=Channel(JOBS_CHANNEL),
    # The queue is logged like all state; its history and statistics may be lost in a crash.
    durability=Durability.balanced,
)


def jobs(connection: Connection) -> Queries:
    """PgQueuer's statements on this connection, inside whatever transaction it is in."""
    return Queries(
        AsyncpgDriver(connection),  # type: ignore[arg-type]  # a pool's proxy is a connection in all but its type
        QueryBuilderEnvironment(JOB_SETTINGS),
        QueryQueueBuilder(JOB_SETTINGS),
        QuerySchedulerBuilder(JOB_SETTINGS),
    )


async def migrate(url: str) -> int:
    """Bring the schema at `url` to this release's; return the revision it had. Safe beside others that do the same.

    Raises ConfigurationError when the database cannot be used, StateTooNew when a newer release has migrated it.
    """
    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise cannot_connect(url, error) from error
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}; SET search_path = {SCHEMA}")
        await connection.execute("CREATE TABLE IF NOT EXISTS revision(number integer NOT NULL)")
        before = await _revision(connection) or 0
        _refuse_newer(before, url)
        for number, statements in enumerate(MIGRATIONS[before:], before + 1):
            async with connection.transaction():
                await connection.execute(statements)
                await connection.execute("DELETE FROM revision")
                await connection.execute("INSERT INTO revision VALUES ($1)", number)
        queue = jobs(connection)
        if await queue.schema_is_installed():
            await queue.apply_upgrade()
        else:
            await queue.install()
    except asyncpg.PostgresError as error:
        raise ConfigurationError(f"STATE_URL: {shown(url)} cannot be migrated: {error}") from error
    else:
        return before
    finally:
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await connection.close(timeout=CONNECT_SECONDS)


async def require_head(connection: Connection, url: str) -> None:
    """Raises ConfigurationError when the schema is missing or too old, StateTooNew when it is too new."""
    found = await _revision(connection) or 0
    _refuse_newer(found, url)
    if found < HEAD:
        what = f"has schema {found}, this release needs {HEAD}" if found else "holds no state yet"
        raise ConfigurationError(f"STATE_URL: {shown(url)} {what}: run `runware-provider migrate`; nothing was changed")
    if (await jobs(connection).plan_upgrade()).statements:
        raise ConfigurationError(
            f"STATE_URL: {shown(url)} has an older queue than this PgQueuer: run `runware-provider migrate`"
        )


def _refuse_newer(found: int, url: str) -> None:
    if found > HEAD:
        raise StateTooNew(
            f"the state in {shown(url)} has schema {found}, this release knows {HEAD}: install the newer release "
            "again; nothing was changed"
        )


async def _revision(connection: Connection) -> int | None:
    if await connection.fetchval("SELECT to_regclass($1)", f"{SCHEMA}.revision") is None:
        return None
    number: int | None = await connection.fetchval("SELECT number FROM revision")
    return number
