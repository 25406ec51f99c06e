"""What a page costs must not grow with the table: guards on the plans and on the work done."""

import re
import sqlite3
from itertools import product
from pathlib import Path

import pytest

from runware_provider.projection import Projection
from runware_provider.projection.queries import Shape, one, page
from runware_provider.projection.sql import Statement
from runware_provider.projection.upserts import upserts
from runware_provider.types import ListArgs
from tests.projection.builders import a_connection, a_state, a_time, an_image

NO_YES = (False, True)
SHAPES = [
    Shape(status, model, after, before, labels)
    for status, model, after, before, labels in product(NO_YES, NO_YES, NO_YES, NO_YES, (0, 1, 3))
]


def plan(connection: sqlite3.Connection, statement: Statement) -> list[str]:
    parameters = statement.parameters(dict.fromkeys(statement.names, 1))
    return [row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement.sql}", parameters)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_page_is_one_stretch_of_the_right_index(path: Path, shape: Shape) -> None:
    """No scan, no sorting, whatever the filters; all bounds are part of the search."""
    with a_connection(path) as connection:
        first, *others = plan(connection, page(shape, "sqlite"))

    bounds = f"{'created_at>?' if shape.created_after else ''}{'<(?,?)' if shape.before else ''}"
    if shape.labels:
        index = "label0 USING COVERING INDEX ix_generation_metadata_label"
        searched = "key=?value=?"
    else:
        filters = {"status": shape.status, "model": shape.model}
        index = "generations USING INDEX ix_generations_" + ("_".join(n for n in filters if filters[n]) or "created")
        searched = "".join(f"{name}=?" for name in filters if filters[name])
    assert index in first
    found = re.sub(r"\(created_at,(generation_)?id\)", "", first.partition(" (")[2]).replace(" AND ", "").rstrip(")")
    assert searched + bounds == found.replace("(?,?", "(?,?)") if shape.before else searched + bounds == found
    assert not [step for step in others if "SCAN" in step or "TEMP B-TREE" in step]


def test_one_generation_is_found_by_its_key(path: Path) -> None:
    """And its images by theirs."""
    with a_connection(path) as connection:
        steps = plan(connection, one("sqlite"))

    assert not [step for step in steps if "SCAN" in step or "TEMP B-TREE" in step]


def test_a_write_searches_by_key(path: Path) -> None:
    """Only the rows that are given are scanned."""
    with a_connection(path) as connection:
        for sql in upserts("sqlite"):
            steps = [row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", ("[]",))]
            scans = [step for step in steps if "SCAN" in step and "VIRTUAL TABLE" not in step and step != "SCAN r"]
            assert scans == []


@pytest.mark.parametrize("count", [1, 500])
async def test_the_number_of_statements_does_not_depend_on_the_number_of_rows(
    path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """One transaction of three statements writes any batch; one statement reads any page."""
    ran: list[str] = []
    connect = sqlite3.connect

    def traced(*args: object, **kwargs: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **kwargs)  # type: ignore[call-overload]
        connection.set_trace_callback(lambda sql: ran.append(sql.lstrip("-( ").split()[0]))
        return connection

    monkeypatch.setattr(sqlite3, "connect", traced)
    states = [a_state(outputs=[an_image(), an_image()], metadata={"a": "b"}) for _ in range(count)]
    projection = await Projection.open(f"sqlite://{path}", migrate=False)
    ran.clear()
    await projection.write(states)
    written = list(ran)
    ran.clear()
    await projection.list(ListArgs(limit=200))
    await projection.aclose()

    assert written == ["BEGIN", "WITH", "WITH", "WITH", "COMMIT"]
    assert [word for word in ran if word != "PRAGMA"] == ["SELECT"]


@pytest.mark.parametrize(
    "args",
    [ListArgs(), ListArgs(status="failed"), ListArgs(status="failed", model="b"), ListArgs(metadata={"user": "ada"})],
    ids=lambda args: args.model_dump_json(exclude_defaults=True),
)
async def test_a_page_takes_the_same_work_in_a_long_table(projection: Projection, path: Path, args: ListArgs) -> None:
    """Counted in the virtual machine's steps, which no noise on the machine changes; tombstones cost nothing either."""

    async def grow(start: int, stop: int) -> None:
        await projection.write(
            [
                a_state(
                    created_at=a_time(number),
                    status="failed" if number % 4 == 0 else "completed",
                    model="ab"[number % 8 == 0],
                    metadata={"user": "ada" if number % 4 == 0 else "bob"},
                    outputs=[an_image()],
                )
                for number in range(start, stop)
            ]
        )

    def work() -> int:
        shape = Shape(status=bool(args.status), model=bool(args.model), labels=len(args.metadata))
        statement = page(shape, "sqlite")
        values: dict[str, str | int] = {"limit": 11, "status": "failed", "model": "b", "key0": "user", "value0": "ada"}
        steps = 0

        def step() -> None:
            nonlocal steps
            steps += 1

        with a_connection(path) as connection:
            connection.set_progress_handler(step, 1)
            connection.execute(statement.sql, statement.parameters(values)).fetchall()
        return steps

    await grow(0, 400)
    short = work()
    await grow(400, 4_000)
    await projection.write([a_state(created_at=a_time(9_000), deleted_at=a_time(9_000)) for _ in range(500)])

    assert short * 1.05 >= work()
