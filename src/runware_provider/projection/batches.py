"""From states to the few statements that write them."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from uuid import UUID

from runware_provider.errors import ProjectionFailed, projection_failed
from runware_provider.projection.rows import Rows, left_after, rows_of
from runware_provider.projection.target import Dialect, Target
from runware_provider.types import GenerationState

SMALL = 64 * 1024
"""Characters of states, each of them and of their outputs reckoned at 1,024, a value at 16."""


def encoded(states: Iterable[GenerationState]) -> tuple[list[Rows], dict[UUID, ProjectionFailed]]:
    """The rows of each state, and which could not be made. In order of id: two writers then lock rows in one order."""
    rows: list[Rows] = []
    failures: dict[UUID, ProjectionFailed] = {}
    for state in states:
        try:
            rows.append(rows_of(state))
        except Exception as error:  # noqa: BLE001 (what we did not foresee in one state must not cost the others their rows)
            failures[state.id] = projection_failed(f"{type(error).__name__}: {error}")
    rows.sort(key=lambda row: row.id.int)
    return rows, failures


def are_small(states: Collection[GenerationState]) -> bool:
    """Whether `encoded` takes them in a millisecond or so."""
    left = SMALL - sum(1_024 * (1 + len(state.outputs)) for state in states)
    return left_after([state.input for state in states], left) >= 0


def cut(rows: Sequence[Rows], most: int) -> Iterator[list[Rows]]:
    """`rows` in stretches, none of which makes a parameter of more than `most` bytes, unless by one row alone."""
    stretch: list[Rows] = []
    total = 0
    for row in rows:
        size = _bytes(row.generation) + _bytes(row.artifacts) + _bytes(row.labels) + 3
        if stretch and total + size > most:
            yield stretch
            stretch, total = [], 0
        stretch.append(row)
        total += size
    if stretch:
        yield stretch


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def statements(rows: Sequence[Rows], target: Target) -> list[tuple[str, str]]:
    """At most five statements and their parameters, however many rows.

    In one transaction the generations go first: their locks then hold off whoever writes another version of the same,
    and what it wrote is seen by the checks that follow. Without a transaction they go after their artifacts: what a
    reader finds is whole. What belongs to deleted ones is swept last, after the tombstone that keeps it from coming
    back.
    """
    from runware_provider.projection.upserts import upserts

    sql = upserts(target.dialect)
    parents = [(sql.generations, [row.generation for row in rows])]
    children = [
        (sql.artifacts, [row.artifacts for row in rows if row.artifacts]),
        (sql.labels, [row.labels for row in rows if row.labels]),
    ]
    deleted = [json.dumps(str(row.id)) for row in rows if row.deleted]
    sweep = [(sql.sweep_artifacts, deleted), (sql.sweep_labels, deleted)]
    ordered = parents + children if target.atomic else children + parents
    return [(statement, f"[{','.join(texts)}]") for statement, texts in ordered + sweep if texts]


def prepare(dialect: Dialect) -> None:
    """Import SQLAlchemy and compile: better at the start than under the first write."""
    from runware_provider.projection import queries, upserts

    upserts.upserts(dialect)
    queries.page(queries.Shape(), dialect)
