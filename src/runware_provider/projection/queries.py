"""The statements that read. A page is one statement, whatever its filters and its size, and never a scan.

Each filter has an index that ends in (created_at, id), in which the page is one contiguous stretch: a page of a million
rows costs what a page of a thousand does. The exception is a rare value combined with a common label (see `page`).

The database makes each summary as JSON, its artifacts inside: one round trip (D1 is a continent away), one snapshot,
and numbers that no driver rounds.
"""

from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import JSON, ColumnElement, Select, Text, bindparam, cast, exists, func, literal_column, select, tuple_

from runware_provider.projection.sql import Statement, compiled
from runware_provider.projection.tables import artifacts, generation_metadata, generations
from runware_provider.projection.target import Dialect


class Shape(NamedTuple):
    """Which filters a page has; their values are parameters of the same names.

    `before` has two, `before_at` and `before_id`: a place in the order. The i-th label has `key{i}` and `value{i}`.
    """

    status: bool = False
    model: bool = False
    created_after: bool = False
    before: bool = False
    labels: int = 0


_COUNTS = ("expected", "stored", "failed", "missing")
_PLAIN = ("id", "status", "model", "prompt", "cost_micros", "error_code", "created_at", "completed_at")
_ARTIFACT = (
    "id",
    "key",
    "content_type",
    "size_bytes",
    "sha256",
    "width",
    "height",
    "seed",
    "cost_micros",
    "created_at",
)


@cache
def page(shape: Shape, dialect: Dialect) -> Statement:
    """Summaries, newest first, at most `limit`.

    With labels the first one drives: its index is walked newest first, and the other filters are looked up row by row.
    So what is rare among the rows of a common first label takes a walk through that label's rows.
    """
    query = select(_summary(dialect).label("item"))
    at: ColumnElement[Any] = generations.c.created_at
    id_: ColumnElement[Any] = generations.c.id
    if shape.labels:
        first = generation_metadata.alias("label0")
        at, id_ = first.c.created_at, first.c.generation_id
        query = query.select_from(first.join(generations, generations.c.id == first.c.generation_id))
        query = query.where(first.c.key == bindparam("key0"), first.c.value == bindparam("value0"))
    for number in range(1, shape.labels):
        other = generation_metadata.alias(f"label{number}")
        query = query.where(
            exists().where(
                other.c.generation_id == id_,
                _looked_at(other.c.key, dialect) == bindparam(f"key{number}"),
                _looked_at(other.c.value, dialect) == bindparam(f"value{number}"),
            )
        )
    own: dict[str, ColumnElement[Any]] = {name: generations.c[name] for name in ("deleted_at", "status", "model")}
    if shape.labels:
        own = {name: _looked_at(column, dialect) for name, column in own.items()}
    query = query.where(own["deleted_at"].is_(None))
    if shape.status:
        query = query.where(own["status"] == bindparam("status"))
    if shape.model:
        query = query.where(own["model"] == bindparam("model"))
    if shape.created_after:
        query = query.where(at > bindparam("created_after"))
    if shape.before:
        query = query.where(tuple_(at, id_) < tuple_(bindparam("before_at"), bindparam("before_id")))
    return compiled(query.order_by(at.desc(), id_.desc()).limit(bindparam("limit")), dialect)


@cache
def one(dialect: Dialect) -> Statement:
    """The summary of `id`, unless it is deleted."""
    query: Select[Any] = select(_summary(dialect).label("item"))
    return compiled(query.where(generations.c.deleted_at.is_(None), generations.c.id == bindparam("id")), dialect)


def _looked_at(column: ColumnElement[Any], dialect: Dialect) -> ColumnElement[Any]:
    """`column` of a row that is found by its generation's id. PostgreSQL's planner must not know of an index with it:
    when it takes a value for rare, it reads all rows that have it, for each row that it looks up (1,000 times as slow).
    """
    return column.concat(literal_column("''")) if dialect == "postgresql" else column


def _summary(dialect: Dialect) -> ColumnElement[Any]:
    """A `GenerationSummary` as JSON text. At most 32 arguments to a function: D1's limit."""
    columns: dict[str, ColumnElement[Any]] = {name: generations.c[name] for name in _PLAIN}
    columns["counts"] = _object({name: generations.c[name] for name in _COUNTS}, dialect)
    images = _object({name: artifacts.c[name] for name in _ARTIFACT}, dialect)
    collected = func.json_group_array(images) if dialect == "sqlite" else func.json_agg(images)
    own = select(collected).where(artifacts.c.generation_id == generations.c.id).correlate(generations)
    columns["artifacts"] = _parsed(func.coalesce(own.scalar_subquery(), literal_column("'[]'")), dialect)
    columns["metadata"] = _parsed(generations.c.metadata, dialect)
    return cast(_object(columns, dialect), Text)


def _parsed(json_text: ColumnElement[Any], dialect: Dialect) -> ColumnElement[Any]:
    """JSON as JSON. In SQLite it may be mere text by the time it is out of a column or a subquery."""
    return func.json(json_text) if dialect == "sqlite" else cast(json_text, JSON)


def _object(columns: dict[str, ColumnElement[Any]], dialect: Dialect) -> ColumnElement[Any]:
    pairs = [part for name, column in columns.items() for part in (literal_column(f"'{name}'"), column)]
    return func.json_object(*pairs) if dialect == "sqlite" else func.json_build_object(*pairs)
