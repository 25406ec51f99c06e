"""Sums over many rows, for people who look after the service: what was spent, what failed, what is stored.

These read every row of their span and so cost what there is; a `Target` runs them beside the pages, never before them.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Text, bindparam, cast, func, literal_column, select

from runware_provider.projection.queries import object_of
from runware_provider.projection.sql import Statement, compiled
from runware_provider.projection.tables import artifacts, generations
from runware_provider.projection.target import Dialect
from runware_provider.types import DayOfModel

GROUPS = 5_000
"""Rows that one of these may give; beyond that the smallest are left out."""


class Totals(NamedTuple):
    """Statements; the first two have a parameter `since`, a stored time."""

    spend: Statement
    failures: Statement
    storage: Statement


@cache
def totals(dialect: Dialect) -> Totals:
    """The statements in `dialect`."""
    shown = generations.c.deleted_at.is_(None), generations.c.created_at > bindparam("since")
    day = func.substr(generations.c.created_at, 1, 10)
    sums: dict[str, Any] = {
        "day": day,
        "model": generations.c.model,
        "generations": func.count(),
        "images": func.coalesce(func.sum(generations.c.stored), 0),
        "cost_micros": func.coalesce(func.sum(generations.c.cost_micros), 0),
    }
    spend = select(_row(sums, dialect)).where(*shown).group_by(day, generations.c.model)
    codes: dict[str, Any] = {
        "error_code": generations.c.error_code,
        "output_errors": generations.c.output_errors,
        "generations": func.count(),
    }
    failures = select(_row(codes, dialect)).where(*shown).group_by(codes["error_code"], codes["output_errors"])
    stored: dict[str, Any] = {
        "images": func.count(),
        "bytes": func.coalesce(func.sum(artifacts.c.size_bytes), 0),
    }
    limit: ColumnElement[Any] = literal_column(str(GROUPS))
    return Totals(
        compiled(spend.order_by(func.sum(generations.c.stored).desc()).limit(limit), dialect),
        compiled(failures.order_by(func.count().desc()).limit(limit), dialect),
        compiled(select(_row(stored, dialect)), dialect),
    )


def spend_of(rows: Sequence[str]) -> list[DayOfModel]:
    """Newest day first; of a day the most expensive model first."""
    days = [DayOfModel.model_validate_json(row) for row in rows]
    return sorted(days, key=lambda each: (each.day, each.cost_micros, each.images), reverse=True)


def failures_of(rows: Sequence[str]) -> Mapping[str, int]:
    """How many generations have an error of each code, their own or an output's. The most frequent first."""
    counts: Counter[str] = Counter()
    for row in map(json.loads, rows):
        codes = set(json.loads(row["output_errors"] or "{}"))
        if row["error_code"] is not None:
            codes.add(row["error_code"])
        for code in codes:
            counts[code] += row["generations"]
    return dict(counts.most_common())


def _row(columns: dict[str, Any], dialect: Dialect) -> Any:
    return cast(object_of(columns, dialect), Text).label("item")
