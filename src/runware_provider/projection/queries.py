"""The statements that read. A page is one statement, whatever its filters and its size, and never a scan.

Each filter has an index that ends in (created_at, id), in which the page is one contiguous stretch: a page of a million
rows costs what a page of a thousand does. The exception is a rare value combined with a common label (see `page`).
What no index knows, words of a prompt and error codes, is looked for among the next `WINDOW` rows: the page is then
short, and its cursor is where the looking ended (see `edge`).

The database makes each summary as JSON, its artifacts inside: one round trip (D1 is a continent away), one snapshot,
and numbers that no driver rounds.
"""

from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    JSON,
    ColumnElement,
    Select,
    Text,
    bindparam,
    cast,
    exists,
    func,
    literal_column,
    or_,
    select,
    tuple_,
)

from runware_provider.projection.sql import Statement, compiled
from runware_provider.projection.tables import artifacts, generation_metadata, generations
from runware_provider.projection.target import Dialect

WINDOW = 10_000
"""Rows that are looked at for one page when a filter has no index."""


class Shape(NamedTuple):
    """Which filters a page has; their values are parameters of the same names.

    `before` has two, `before_at` and `before_id`: a place in the order. The i-th label has `key{i}` and `value{i}`, the
    i-th word of a prompt `word{i}`: a pattern of LIKE, as `error` is one of the codes of outputs, beside `error_code`.
    """

    status: bool = False
    model: bool = False
    created_after: bool = False
    before: bool = False
    labels: int = 0
    words: int = 0
    error: bool = False

    @property
    def looks(self) -> bool:
        """Whether rows must be looked at one by one."""
        return self.words > 0 or self.error


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
    if not shape.looks:
        query, at, id_ = _stretch(select(_summary(dialect).label("item")), shape, dialect)
        return compiled(query.order_by(at.desc(), id_.desc()).limit(bindparam("limit")), dialect)
    query, at, id_ = _stretch(select(), shape, dialect)
    window = query.add_columns(id_.label("id"), at.label("created_at"))
    window = window.order_by(at.desc(), id_.desc()).limit(literal_column(str(WINDOW)))
    near = window.subquery("near")
    # Found first and summed up then: else a database sorts summaries, and makes one of each row that it finds.
    found = select(near).join(generations, generations.c.id == near.c.id)
    for number in range(shape.words):
        found = found.where(_contains(generations.c.prompt, f"word{number}", dialect))
    if shape.error:
        among = _contains(generations.c.output_errors, "error", dialect)
        found = found.where(or_(generations.c.error_code == bindparam("error_code"), among))
    hits = found.order_by(near.c.created_at.desc(), near.c.id.desc()).limit(bindparam("limit")).subquery("hits")
    summaries = select(_summary(dialect).label("item")).join_from(hits, generations, generations.c.id == hits.c.id)
    return compiled(summaries.order_by(hits.c.created_at.desc(), hits.c.id.desc()), dialect)


@cache
def edge(shape: Shape, dialect: Dialect) -> Statement:
    """The last row that `page` looks at, when there are more behind it: its `id` and `created_at`."""
    query, at, id_ = _stretch(select(), shape, dialect)
    place = cast(object_of({"id": id_, "created_at": at}, dialect), Text).label("item")
    last = query.add_columns(place).order_by(at.desc(), id_.desc())
    return compiled(last.limit(literal_column("1")).offset(literal_column(str(WINDOW - 1))), dialect)


def _stretch(
    query: Select[Any], shape: Shape, dialect: Dialect
) -> tuple[Select[Any], ColumnElement[Any], ColumnElement[Any]]:
    """`query` of the rows that `shape` names, as far as indexes know them, and what they are in order of."""
    at: ColumnElement[Any] = generations.c.created_at
    id_: ColumnElement[Any] = generations.c.id
    if shape.labels:
        first = generation_metadata.alias("label0")
        at, id_ = first.c.created_at, first.c.generation_id
        query = query.select_from(first.join(generations, generations.c.id == first.c.generation_id))
        query = query.where(first.c.key == bindparam("key0"), first.c.value == bindparam("value0"))
    else:
        query = query.select_from(generations)
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
    return query, at, id_


def _contains(column: ColumnElement[Any], name: str, dialect: Dialect) -> ColumnElement[bool]:
    """Whether the pattern `name` fits, whatever its case. SQLite's LIKE knows the case of ASCII letters only."""
    pattern: ColumnElement[Any] = bindparam(name)
    return column.like(pattern, escape="\\") if dialect == "sqlite" else column.ilike(pattern, escape="\\")


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
    columns["counts"] = object_of({name: generations.c[name] for name in _COUNTS}, dialect)
    images = object_of({name: artifacts.c[name] for name in _ARTIFACT}, dialect)
    collected = func.json_group_array(images) if dialect == "sqlite" else func.json_agg(images)
    own = select(collected).where(artifacts.c.generation_id == generations.c.id).correlate(generations)
    columns["artifacts"] = _parsed(func.coalesce(own.scalar_subquery(), literal_column("'[]'")), dialect)
    columns["metadata"] = _parsed(generations.c.metadata, dialect)
    return cast(object_of(columns, dialect), Text)


def _parsed(json_text: ColumnElement[Any], dialect: Dialect) -> ColumnElement[Any]:
    """JSON as JSON. In SQLite it may be mere text by the time it is out of a column or a subquery."""
    return func.json(json_text) if dialect == "sqlite" else cast(json_text, JSON)


def object_of(columns: dict[str, ColumnElement[Any]], dialect: Dialect) -> ColumnElement[Any]:
    """A JSON object of `columns` by name, made by the database."""
    pairs = [part for name, column in columns.items() for part in (literal_column(f"'{name}'"), column)]
    return func.json_object(*pairs) if dialect == "sqlite" else func.json_build_object(*pairs)
