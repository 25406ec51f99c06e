"""Where the read model lives: the port to one database, and the choice of it by URL."""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol
from urllib.parse import urlsplit

from runware_provider.errors import ConfigurationError, RunwareProviderError

Dialect = Literal["sqlite", "postgresql"]
"""Which SQL a target speaks. D1 speaks `sqlite`."""


class Rejected(RunwareProviderError):
    """The database was reached and refused: content, constraint, schema, no space, read-only. In its own words."""


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

    async def read(self, sql: str, parameters: Sequence[str | int]) -> list[str]:
        """All rows of a query for one column `item` of JSON text without line breaks. Never waits for a write."""

    async def aclose(self) -> None:
        """Let go of the database, after what is being written."""


async def open_target(url: str, *, create: bool) -> Target:
    """The target that `url` names; an empty database is made when `create` and there is none.

    Raises ConfigurationError for a URL that names nothing we know or a database that cannot be opened.
    """
    scheme = urlsplit(url).scheme
    if scheme != "sqlite":
        # The URL may carry a password: its scheme is all that is said of it.
        raise ConfigurationError(
            f"PROJECTION_URL: a read model on {scheme + '://' if scheme else 'this'!r} is not known; "
            "use sqlite:///absolute/path/of/file.db"
        )
    from runware_provider.projection.sqlite import SQLiteTarget

    return await SQLiteTarget.open(url, create=create)
