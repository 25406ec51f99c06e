"""The read model in Cloudflare's D1, which is SQLite behind an HTTP API and has no transaction across requests.

So each statement stands alone: it takes effect as a whole or not at all, and may be repeated.
"""

import asyncio
import re
from collections.abc import Callable, Sequence

from runware_provider.errors import ConfigurationError, ProjectionUnavailable
from runware_provider.projection.cloudflare import D1Api
from runware_provider.projection.schema import VERSION_TABLE
from runware_provider.projection.target import D1Access, Dialect, Rejected

MIGRATION_SECONDS = 60.0

_URL = re.compile(r"d1://([0-9A-Za-z_-]{1,64})/([0-9A-Za-z_-]{1,64})")
_HAS_TABLE = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
_CREATE = re.compile(r"^CREATE (TABLE|INDEX) ", re.MULTILINE)


class D1Target:
    """A `Target`."""

    dialect: Dialect = "sqlite"
    atomic = False
    parameter_bytes = 1_000_000
    """D1's limit is 2 MB for a string, and so for a row."""

    def __init__(self, api: D1Api) -> None:
        self._api = api

    @classmethod
    async def open(cls, url: str, access: D1Access) -> "D1Target":
        """Reach the database of `d1://ACCOUNT/DATABASE`, both by their ids.

        Raises ConfigurationError for a URL that is none, no token or a wrong one, a database that is not there.
        """
        named = _URL.fullmatch(url)
        if named is None:
            raise ConfigurationError(
                "PROJECTION_URL: write d1://ACCOUNT/DATABASE, with the account's id and the database's id (a UUID), "
                "as `wrangler d1 info` shows them"
            )
        if not access.token:
            raise ConfigurationError(
                "PROJECTION_URL: D1 needs a token of Cloudflare's that may edit D1: set RUNWARE_PROVIDER_D1_TOKEN"
            )
        target = cls(D1Api(named[1], named[2], access))
        try:
            await target.revision()
        except (Rejected, ProjectionUnavailable) as error:
            await target.aclose()
            raise ConfigurationError(f"PROJECTION_URL: D1 cannot be used as the read model: {error}.") from error
        except BaseException:
            await target.aclose()
            raise
        return target

    async def revision(self) -> str | None:
        """See `Target`."""
        if not await self._has_version_table():
            return None
        rows = await self._api.query(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 (a constant)
        return str(rows[0][0]) if rows else None

    async def migrate(self, plan: Callable[[str | None], Sequence[str]]) -> None:
        """See `Target`. All in one request, which D1 takes back as a whole when a part of it fails.

        There is no lock: of several at once all but one fail, see that it is done, and are content.
        """
        found = await self.revision()
        script = "\n".join(plan(found))
        if not script:
            return
        if await self._has_version_table():
            # Ours, so what else there is of the same names is ours too, from a migration that was cut off.
            script = _CREATE.sub(r"CREATE \1 IF NOT EXISTS ", script)
        try:
            await self._api.query(script, seconds=MIGRATION_SECONDS)
        except Rejected:
            if not await self._is_done(plan):
                raise

    async def write(self, statements: Sequence[tuple[str, str]]) -> None:
        """See `Target`. One request a statement."""
        for sql, parameter in statements:
            await self._api.spaced()
            await self._api.query(sql, [parameter])

    async def read(self, sql: str, parameters: Sequence[str | int], *, aside: bool = False) -> list[str]:  # noqa: ARG002  reads are independent here
        """See `Target`."""
        # Strings are the only parameters that the API documents; where a number is needed, SQLite makes it one.
        return [row[0] for row in await self._api.query(sql, [str(parameter) for parameter in parameters])]

    async def aclose(self) -> None:
        """See `Target`."""
        await self._api.aclose()

    async def _has_version_table(self) -> bool:
        return bool(await self._api.query(_HAS_TABLE, [VERSION_TABLE]))

    async def _is_done(self, plan: Callable[[str | None], Sequence[str]]) -> bool:
        """Whether somebody else has made, or makes at this moment, what `plan` would."""
        for pause in (0.0, 0.5, 1.0, 2.0):
            await asyncio.sleep(pause)
            if not await self._has_version_table():
                return False
            if not plan(await self.revision()):
                return True
        return False
