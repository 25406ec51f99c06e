"""The statements that write. Each takes one parameter: a JSON array with any number of rows.

So a batch costs the same few statements whatever its size, NULLs and integers arrive as they are, D1's limit of 100
string parameters does not matter, and on SQLite one step does the work of a batch (each step waits for the GIL again).
"""

from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    JSON,
    ColumnElement,
    Select,
    Table,
    Text,
    bindparam,
    cast,
    column,
    delete,
    exists,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.sql import ClauseElement

from runware_provider.projection.sql import compiled, insert_function, json_strings
from runware_provider.projection.tables import artifacts, generation_metadata, generations
from runware_provider.projection.target import Dialect


class Upserts(NamedTuple):
    """SQL text of one parameter each: a JSON array of rows as `rows.py` makes them, for sweeps of ids."""

    generations: str
    artifacts: str
    labels: str
    sweep_artifacts: str
    sweep_labels: str


@cache
def upserts(dialect: Dialect) -> Upserts:
    """The statements in `dialect`. Compiled once: SQLAlchemy takes longer over one than SQLite over a batch."""
    return Upserts(
        compiled(_upsert_generations(dialect), dialect).sql,
        compiled(_upsert_children(artifacts, dialect), dialect).sql,
        compiled(_upsert_children(generation_metadata, dialect), dialect).sql,
        compiled(_sweep(artifacts, dialect), dialect).sql,
        compiled(_sweep(generation_metadata, dialect), dialect).sql,
    )


def _upsert_generations(dialect: Dialect) -> Any:
    rows = _Source(dialect, generations)
    insert = insert_function(dialect)(generations).from_select(_names(generations), rows.select())
    return insert.on_conflict_do_update(
        index_elements=[generations.c.id],
        set_={name: insert.excluded[name] for name in _names(generations) if name != "id"},
        where=insert.excluded.version >= generations.c.version,
    )


def _upsert_children(table: Table, dialect: Dialect) -> Any:
    rows = _Source(dialect, table, "version")
    # An older version may name what a newer one has deleted. It must not come back, not even as an orphan.
    outdated = exists().where(generations.c.id == rows["generation_id"], generations.c.version > rows["version"])
    insert = insert_function(dialect)(table).from_select(_names(table), rows.select().where(~outdated))
    keys = [key.name for key in table.primary_key.columns]
    # What is written does not change. Written again all the same: replay mends rows and fills later releases' columns.
    return insert.on_conflict_do_update(
        index_elements=keys, set_={name: insert.excluded[name] for name in _names(table) if name not in keys}
    )


def _sweep(table: Table, dialect: Dialect) -> ClauseElement:
    """Remove what belongs to deleted generations. By what their rows say, so an outdated deletion removes nothing."""
    gone = select(generations.c.id).where(
        generations.c.id.in_(json_strings(dialect)), generations.c.deleted_at.is_not(None)
    )
    return delete(table).where(table.c.generation_id.in_(gone))


class _Source:
    """The rows of the JSON array in the parameter `rows`, as columns of a table."""

    def __init__(self, dialect: Dialect, table: Table, *more: str) -> None:
        self._table = table
        types = {name: table.c[name].type for name in _names(table)} | {name: generations.c[name].type for name in more}
        rows = bindparam("rows", type_=Text)
        self._columns: dict[str, ColumnElement[Any]]
        if dialect == "sqlite":
            # Materialized: else json_each writes a row's text anew for each of its columns (1.5 times as slow).
            each = func.json_each(rows).table_valued("value")
            self._from: Any = select(each.c.value).cte("r").prefix_with("MATERIALIZED")
            self._columns = {
                # `->>` would read better, but came with SQLite 3.38.
                name: literal_column(f"json_extract(r.value, '$.{name}')", kind)
                for name, kind in types.items()
            }
        else:
            record = func.json_to_recordset(cast(rows, JSON))
            self._from = record.table_valued(*(column(name, kind) for name, kind in types.items()), name="r")
            self._from = self._from.render_derived(with_types=True)
            self._columns = {name: self._from.c[name] for name in types}

    def __getitem__(self, name: str) -> ColumnElement[Any]:
        return self._columns[name]

    def select(self) -> Select[Any]:
        # SQLite needs a WHERE before ON CONFLICT, or takes ON for a join's.
        return select(*(self._columns[name] for name in _names(self._table))).select_from(self._from).where(true())


def _names(table: Table) -> list[str]:
    return [column.name for column in table.c]
