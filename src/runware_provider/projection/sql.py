"""SQLAlchemy Core as a maker of text: statements are built and compiled once, and run by the database's own driver.

SQLAlchemy's own execution with aiosqlite costs 690 µs a transaction, the driver 3 µs a row; and D1 is no driver at all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import JSON, Select, Text, bindparam, cast, func, select
from sqlalchemy.engine import Dialect as SQLAlchemyDialect
from sqlalchemy.sql import ClauseElement

from runware_provider.projection.target import Dialect


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL text and the names of its positional parameters, in order; some have their value from the start."""

    sql: str
    names: tuple[str, ...]
    constants: Mapping[str, Any] = field(default_factory=dict)

    def parameters(self, values: Mapping[str, str | int]) -> list[str | int]:
        """`values` by name as the positional list."""
        return [values[name] if name in values else self.constants[name] for name in self.names]


def compiled(statement: ClauseElement, dialect: Dialect) -> Statement:
    """`statement` in `dialect`: `?` on SQLite and D1, `$1` on PostgreSQL."""
    compiler = statement.compile(dialect=_sqlalchemy_dialect(dialect), compile_kwargs={"render_postcompile": True})
    # Only text and integers are bound, so no bind processor of SQLAlchemy's is missed.
    return Statement(str(compiler), tuple(getattr(compiler, "positiontup", None) or ()), compiler.params)


def insert_function(dialect: Dialect) -> Callable[..., Any]:
    """The `insert` that knows ON CONFLICT."""
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        return sqlite_insert
    from sqlalchemy.dialects.postgresql import insert as postgresql_insert

    return postgresql_insert


def json_strings(dialect: Dialect) -> Select[Any]:
    """The strings of the JSON array in the parameter `rows`, one a row: an IN of any length by one parameter."""
    rows = bindparam("rows", type_=Text)
    if dialect == "sqlite":
        return select(func.json_each(rows).table_valued("value").c.value)
    return select(func.json_array_elements_text(cast(rows, JSON)).table_valued("value").c.value)


def _sqlalchemy_dialect(dialect: Dialect) -> SQLAlchemyDialect:
    if dialect == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.dialect(paramstyle="qmark")
    from sqlalchemy.dialects import postgresql

    return postgresql.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
