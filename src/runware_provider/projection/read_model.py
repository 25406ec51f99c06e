"""The read model's door: write states, list and get summaries."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import ValidationError

from runware_provider.errors import ConfigurationError, ProjectionFailed, projection_failed
from runware_provider.projection.batches import are_small, cut, encoded, prepare, statements
from runware_provider.projection.migrate import bring_to_head, require_head
from runware_provider.projection.rows import Rows, stored_time
from runware_provider.projection.target import D1Access, Rejected, Target, open_target
from runware_provider.threads import Workers
from runware_provider.types import DayOfModel, GenerationState, GenerationSummary, ListArgs, Page, Storage

if TYPE_CHECKING:
    from runware_provider.projection.sql import Statement

Outcomes = list[ProjectionFailed | None]
Summaries = list[GenerationSummary]


class Projection:
    """What is known of all generations, in the team's database.

    What it promises: a row never goes back to an older version; a deleted generation never comes back by one; rows and
    images of one generation are written together (on D1 the images first, so that nothing is shown without them); no
    content can make a write fail; what was written is durable.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        # For rows of what is large: they would delay webhooks. Those of what is not take less time than going there.
        self._thread = Workers(1, "projection-rows")
        # Imports SQLAlchemy and compiles, 0.3 s: not under the first write, and not while nobody is served yet.
        self._preparing = asyncio.create_task(asyncio.to_thread(prepare, target.dialect), name="prepare-projection")

    @classmethod
    async def open(cls, url: str, *, migrate: bool, d1: D1Access | None = None) -> "Projection":
        """Open the read model at `url` (see `open_target`; `d1` is for `d1://` only).

        With `migrate`, make it or bring its schema up to date first. Raises ConfigurationError, with the remedy, for a
        URL that cannot be used and a schema that is missing or too old (unless `migrate`) or too new (always, and
        untouched).
        """
        target = await open_target(url, create=migrate, d1=d1)
        try:
            await (bring_to_head(target) if migrate else require_head(target))
        except BaseException:
            await target.aclose()
            raise
        return cls(target)

    async def write(self, states: Sequence[GenerationState]) -> Outcomes:
        """Write `states`, in one transaction where there are any; the answer has one entry for each, in their order.

        Of several versions of one generation only the newest is written, and its outcome is that of all. A row takes a
        write only when its own version is not newer; that is success too. When the database refuses the batch, its
        halves are written, and theirs, so that only those fail that it refuses alone, with the database's own message.

        Raises ProjectionUnavailable when the database cannot be reached or is busy: nothing is kept then, or some when
        it happened while writing parts; a repeat is harmless.
        """
        newest: dict[UUID, GenerationState] = {}
        for state in states:
            known = newest.get(state.id)
            if known is None or state.version >= known.version:
                newest[state.id] = state
        await self._prepared()
        if are_small(newest.values()):
            rows, failures = encoded(newest.values())
        else:
            rows, failures = await self._thread.run(partial(encoded, newest.values()))
        for batch in cut(rows, self._target.parameter_bytes):
            await self._write_batch(batch, failures)
        return [failures.get(state.id) for state in states]

    async def list(self, args: ListArgs) -> Page:
        """A page, newest first (`created_at`, then id); deleted generations are not shown.

        `created_after` and `created_before` exclude the moment itself; a time without zone is UTC. A cursor is a place
        in the order, not a snapshot: what is created later comes before it and shifts nothing. A page that is filtered
        by `prompt` or `error` is what is found among the next 10,000 rows, and may be short. Raises InvalidArgs for a
        bad cursor, ConfigurationError when the tables are not as they should be, ProjectionUnavailable.
        """
        await self._prepared()
        from runware_provider.projection.pages import cursor_after, cursor_at, page_parameters
        from runware_provider.projection.queries import edge, page

        shape, values = page_parameters(args)
        statement = page(shape, self._target.dialect)
        items = await self._read(statement.sql, statement.parameters(values))
        if len(items) > args.limit:
            shown = items[: args.limit]
            return Page(items=shown, next_cursor=cursor_after(shown[-1]))
        if not shape.looks:
            return Page(items=items, next_cursor=None)
        last = edge(shape, self._target.dialect)
        with _readable():
            return Page(items=items, next_cursor=cursor_at(await self._target.read(last.sql, last.parameters(values))))

    async def get(self, generation_id: UUID) -> GenerationSummary | None:
        """One summary; None when the read model has not got it (yet), or it is deleted. Raises as `list`."""
        await self._prepared()
        from runware_provider.projection.queries import one

        statement = one(self._target.dialect)
        found = await self._read(statement.sql, statement.parameters({"id": str(generation_id)}))
        return found[0] if found else None

    async def spend(self, since: datetime) -> Sequence[DayOfModel]:
        """What was made since then, by day and model. Reads every row of that time. Raises as `list`."""
        await self._prepared()
        from runware_provider.projection.totals import spend_of, totals

        return spend_of(await self._sum(totals(self._target.dialect).spend, {"since": stored_time(since)}))

    async def failures(self, since: datetime) -> Mapping[str, int]:
        """Generations made since then that have an error, by its code. Reads as `spend` does. Raises as `list`."""
        await self._prepared()
        from runware_provider.projection.totals import failures_of, totals

        return failures_of(await self._sum(totals(self._target.dialect).failures, {"since": stored_time(since)}))

    async def storage(self) -> Storage:
        """All images that there are. Reads every row of them. Raises as `list`."""
        await self._prepared()
        from runware_provider.projection.totals import totals

        rows = await self._sum(totals(self._target.dialect).storage, {})
        return Storage.model_validate_json(rows[0])

    async def _sum(self, statement: "Statement", values: Mapping[str, str]) -> Sequence[str]:
        with _readable():
            return await self._target.read(statement.sql, statement.parameters(values), aside=True)

    async def aclose(self) -> None:
        """Close the database, after what is being written."""
        await asyncio.wait([self._preparing])
        self._thread.end()
        await self._target.aclose()

    async def _prepared(self) -> None:
        if not self._preparing.done():
            await asyncio.shield(self._preparing)

    async def _write_batch(self, batch: Sequence[Rows], failures: dict[UUID, ProjectionFailed]) -> None:
        try:
            await self._target.write(statements(batch, self._target))
        except Rejected as rejected:
            if len(batch) == 1 or rejected.whatever:
                failures.update((rows.id, projection_failed(str(rejected))) for rows in batch)
                return
            middle = len(batch) // 2
            await self._write_batch(batch[:middle], failures)
            await self._write_batch(batch[middle:], failures)

    async def _read(self, sql: str, parameters: Sequence[str | int]) -> Summaries:
        from runware_provider.projection.pages import summaries

        with _readable():
            return summaries(await self._target.read(sql, parameters))


@contextmanager
def _readable() -> Iterator[None]:
    """What a person must mend in the tables, said as such."""
    try:
        yield
    except (Rejected, ValidationError) as error:
        raise ConfigurationError(
            f"The read model cannot be read: {error}. Mend its tables, or let `rebuild-projection` make them anew."
        ) from error
