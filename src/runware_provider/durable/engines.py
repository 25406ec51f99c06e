"""From a URL to the runtime that keeps its state there."""

from pathlib import Path

from runware_provider.durable import Clock, GenerationRuntime
from runware_provider.errors import ConfigurationError
from runware_provider.schedule import Policy


async def open_runtime(url: str, policy: Policy, clock: Clock) -> GenerationRuntime:
    """The runtime over `sqlite:///PATH`, for one process, or `postgresql://...`, for any number.

    Raises ConfigurationError, with the remedy, and StateTooNew.
    """
    if url.startswith("sqlite:///"):
        from runware_provider.durable.sqlite import SqliteRuntime

        return SqliteRuntime(Path(url.removeprefix("sqlite:///")), policy, clock)
    _require_postgres()
    from runware_provider.durable.postgres import PostgresRuntime

    return await PostgresRuntime.open(url, policy, clock)


async def migrate_state(url: str) -> bool:
    """Bring the schema of a state on PostgreSQL to this release's; whether there was anything to do.

    Raises ConfigurationError, StateTooNew.
    """
    _require_postgres()
    from runware_provider.durable.postgres_schema import HEAD, migrate

    return await migrate(url) < HEAD


def _require_postgres() -> None:
    try:
        import asyncpg  # noqa: F401
        import pgqueuer  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"STATE_URL: PostgreSQL needs `pip install 'runware-provider[postgres]'` ({error.name} is missing)"
        ) from None
