"""What a page costs must not grow with the table: guards on the plans and on the work done."""

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from runware_provider.projection import Projection
from runware_provider.projection.postgres import SESSION
from runware_provider.projection.queries import Shape, one, page
from runware_provider.projection.upserts import upserts
from runware_provider.types import GenerationState, ListArgs
from tests.projection.builders import a_connection, a_state, a_time, an_image
from tests.projection.places import Place, SQLitePlace, apart

NO_YES = (False, True)
SHAPES = [
    Shape(status, model, after, before, labels)
    for status, model, after, before, labels in product(NO_YES, NO_YES, NO_YES, NO_YES, (0, 1, 3))
]


WALKING = {"Limit", "Nested Loop", "Index Scan", "Index Only Scan", "Memoize", "Aggregate"}


def steps(place: Place, sql: str, parameters: Sequence[str | int]) -> list[str]:
    """SQLite's plan, as it words it; D1's is the same."""
    return [row["detail"] for row in place.ask(f"EXPLAIN QUERY PLAN {sql}", *parameters)]


def nodes(place: Place, sql: str, parameters: Sequence[str | int]) -> list[dict[str, Any]]:
    """PostgreSQL's plan, outermost first, as our sessions get it."""

    def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield node
        for child in node.get("Plans", []):
            yield from walk(child)

    return list(walk(explained(place, sql, parameters)["Plan"]))


def explained(place: Place, sql: str, parameters: Sequence[str | int], *options: str) -> dict[str, Any]:
    async def explain() -> str:
        connection = await asyncpg.connect(place.url, server_settings=SESSION)
        try:
            listed = ", ".join([*options, "FORMAT JSON"])
            return str(await connection.fetchval(f"EXPLAIN ({listed}) {sql}", *parameters))
        finally:
            await connection.close()

    found: dict[str, Any] = json.loads(apart(explain()))[0]
    return found


@pytest.mark.parametrize("kind", ["sqlite", "d1"], indirect=True)
def test_a_page_is_one_stretch_of_the_right_index(place: Place) -> None:
    """No scan, no sorting, whatever the filters; all bounds are part of the search."""
    for shape in SHAPES:
        statement = page(shape, "sqlite")
        first, *others = steps(place, statement.sql, statement.parameters(dict.fromkeys(statement.names, 1)))

        bounds = f"{'created_at>?' if shape.created_after else ''}{'<(?,?)' if shape.before else ''}"
        if shape.labels:
            index = "label0 USING COVERING INDEX ix_generation_metadata_label"
            searched = "key=?value=?"
        else:
            filters = {"status": shape.status, "model": shape.model}
            index = "generations USING INDEX ix_generations_" + (
                "_".join(name for name in filters if filters[name]) or "created"
            )
            searched = "".join(f"{name}=?" for name in filters if filters[name])
        assert index in first, shape
        found = (
            re.sub(r"\(created_at,(generation_)?id\)", "", first.partition(" (")[2]).replace(" AND ", "").rstrip(")")
        )
        assert searched + bounds == (found.replace("(?,?", "(?,?)") if shape.before else found), shape
        assert not [step for step in others if "SCAN" in step or "TEMP B-TREE" in step], shape


@pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
@pytest.mark.parametrize("statistics", [False, True])
async def test_a_page_is_one_stretch_of_the_right_index_on_postgresql_too(
    projection: Projection, place: Place, statistics: bool
) -> None:
    """Whatever its statistics say, or when it has none yet: one index in order, all else by key, nothing sorted."""
    await projection.write(some_rows())
    if statistics:
        place.run("ANALYZE")
    for shape in SHAPES:
        statement = page(shape, "postgresql")
        found = nodes(place, statement.sql, statement.parameters(dict.fromkeys(statement.names, "x") | {"limit": 51}))
        scans = [node for node in found if "Index Name" in node]

        filters = {"status": shape.status, "model": shape.model}
        index = "ix_generations_" + ("_".join(name for name in filters if filters[name]) or "created")
        equal = [f"({name} =" for name in filters if filters[name]]
        if shape.labels:
            index, equal = "ix_generation_metadata_label", ["(key =", "(value ="]
        bounds = ["(created_at >"] * shape.created_after + ["(ROW(created_at, "] * shape.before
        assert (index, "Backward") == (scans[0]["Index Name"], scans[0]["Scan Direction"]), shape
        condition = scans[0].get("Index Cond", "")
        assert all(part in condition for part in equal + bounds), shape
        assert {node["Node Type"] for node in found} <= WALKING, shape
        for scan in scans[1:]:
            assert scan["Index Name"].endswith("_pkey"), shape
            assert re.match(r"\(+(generation_)?id = ", scan["Index Cond"]), shape


def some_rows() -> list[GenerationState]:
    """Enough that a planner uses indexes."""
    return [a_state(created_at=a_time(n), metadata={"x": "x", "y": "y"}, outputs=[an_image()]) for n in range(600)]


async def test_one_generation_is_found_by_its_key(projection: Projection, place: Place) -> None:
    """And its images by theirs."""
    await projection.write(some_rows())
    if place.kind == "postgresql":
        scans = [node for node in nodes(place, one("postgresql").sql, ["x"]) if "Scan" in node["Node Type"]]
        assert [scan["Index Name"] for scan in scans] == ["generations_pkey", "artifacts_pkey"]
    else:
        found = steps(place, one("sqlite").sql, ["x"])
        assert not [step for step in found if "SCAN" in step or "TEMP B-TREE" in step]


async def test_a_write_searches_by_key(projection: Projection, place: Place) -> None:
    """Only the rows that are given are scanned."""
    await projection.write(some_rows())
    if place.kind == "postgresql":
        for sql in upserts("postgresql"):
            scans = [node for node in nodes(place, sql, ["[]"]) if "Scan" in node["Node Type"]]
            assert {"Function Scan", "Index Scan"} >= {scan["Node Type"] for scan in scans}
            assert all(scan["Index Name"].endswith("_pkey") for scan in scans if "Index Name" in scan)
    else:
        for sql in upserts("sqlite"):
            found = steps(place, sql, ["[]"])
            others = [step for step in found if "VIRTUAL TABLE" not in step and step != "SCAN r"]
            assert not [step for step in others if "SCAN" in step]


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


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize(
    "args",
    [ListArgs(), ListArgs(status="failed"), ListArgs(status="failed", model="b"), ListArgs(metadata={"user": "ada"})],
    ids=lambda args: args.model_dump_json(exclude_defaults=True),
)
async def test_a_page_takes_the_same_work_in_a_long_table(projection: Projection, place: Place, args: ListArgs) -> None:
    """Counted in steps and in blocks, which no noise on the machine changes; tombstones cost nothing either."""

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
        values: dict[str, str | int] = {"limit": 11, "status": "failed", "model": "b", "key0": "user", "value0": "ada"}
        if isinstance(place, SQLitePlace):
            statement = page(shape, "sqlite")
            return sqlite_steps(place, statement.sql, statement.parameters(values))
        statement = page(shape, "postgresql")
        plan = explained(place, statement.sql, statement.parameters(values), "ANALYZE", "BUFFERS")["Plan"]
        return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])

    await grow(0, 400)
    short = work()
    await grow(400, 4_000)
    await projection.write([a_state(created_at=a_time(9_000), deleted_at=a_time(9_000)) for _ in range(500)])

    # PostgreSQL's blocks: a level more in each tree that is entered, and nothing else.
    assert work() <= short * (1.05 if place.kind == "sqlite" else 1.6)


def sqlite_steps(place: SQLitePlace, sql: str, parameters: Sequence[str | int]) -> int:
    """Steps of the virtual machine."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    with a_connection(place.path) as connection:
        connection.set_progress_handler(step, 1)
        connection.execute(sql, parameters).fetchall()
    return count
