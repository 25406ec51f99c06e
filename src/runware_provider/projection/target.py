"""Where the read model lives: the port to one database, and the choice of it by URL."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from runware_provider.errors import ConfigurationError, RunwareProviderError

Dialect = Literal["sqlite", "postgresql"]
"""Which SQL a target speaks. D1 speaks `sqlite`."""


class Rejected(RunwareProviderError):
    """The database was reached and refused: content, constraint, schema, no space, read-only. In its own words.

    `whatever`: it would refuse any content, so trying the parts of a batch one by one is in vain.
    """

    def __init__(self, message: str, *, whatever: bool = False) -> None:
        self.whatever = whatever
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class D1Access:
    """How D1 is reached: the token (`RUNWARE_PROVIDER_D1_TOKEN`) and Cloudflare's API (`RUNWARE_PROVIDER_D1_URL`)."""

    token: str | None = field(default=None, repr=False)
    base_url: str = "https://api.cloudflare.com/client/v4"


class Target(Protocol):
    """One database. Statements come as text in its own dialect, with positional parameters.

    Every call raises `ProjectionUnavailable` when the database cannot be reached or is busy, so that the same call may
    succeed later, and `Rejected` when a person must mend something first. Both leave the target usable: once the cause
    is gone, the next call works without a restart.
    """

    dialect: Dialect

    atomic: bool
    """Whether `write` keeps all of its statements or none."""

    parameter_bytes: int
    """The longest single parameter it takes."""

    async def revision(self) -> str | None:
        """The schema's revision; None when there is no schema."""

    async def migrate(self, plan: Callable[[str | None], Sequence[str]]) -> None:
        """Run the statements that `plan` makes of the revision found, which nobody else changes meanwhile."""

    async def write(self, statements: Sequence[tuple[str, str]]) -> None:
        """Run statements of one parameter each, in order; durable when it returns. A repeat is harmless."""

    async def read(self, sql: str, parameters: Sequence[str | int], *, aside: bool = False) -> list[str]:
        """All rows of a query for one column `item` of JSON text without line breaks. Never waits for a write.

        `aside`: it may take seconds, and other reads must not wait for it.
        """

    async def aclose(self) -> None:
        """Let go of the database, after what is being written."""


async def open_target(url: str, *, create: bool, d1: D1Access | None = None) -> Target:
    """The target that `url` names: `sqlite:///absolute/path`, `postgresql://...` or `d1://ACCOUNT/DATABASE`.

    An empty SQLite file is made when `create` and there is none; other databases are the operator's to make. `d1`: what
    only D1 needs. Raises ConfigurationError for a URL that names nothing we know or a database that cannot be opened.
    """
    scheme = url.partition("://")[0] if "://" in url else ""
    match scheme:
        case "sqlite":
            from runware_provider.projection.sqlite import SQLiteTarget

            return await SQLiteTarget.open(url, create=create)
        case "postgresql" | "postgres":
            try:
                from runware_provider.projection.postgres import PostgresTarget
            except ModuleNotFoundError as error:
                if error.name != "asyncpg":
                    raise
                raise ConfigurationError(
                    "PROJECTION_URL: a read model on PostgreSQL needs `pip install 'runware-provider[postgres]'`"
                ) from None
            return await PostgresTarget.open(url)
        case "d1":
            from runware_provider.projection.d1 import D1Target

            return await D1Target.open(url, d1 or D1Access())
        case _:
            # The URL may carry a password: its scheme is all that is said of it.
            raise ConfigurationError(
                f"PROJECTION_URL: a read model on {scheme + '://' if scheme.isalnum() else 'this'!r} is not known; "
                "use sqlite:///absolute/path/of/file.db, postgresql://USER:PASSWORD@HOST/DATABASE or "
                "d1://ACCOUNT/DATABASE"
            )
