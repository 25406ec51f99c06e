"""The database refuses, is away, is full, is changed under our feet: what is raised, what is kept, how it recovers."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runware_provider.errors import ConfigurationError, ProjectionUnavailable, api_rejected
from runware_provider.projection import Projection, sqlite
from runware_provider.types import ListArgs
from tests.projection.builders import a_connection, a_state, an_id, an_image, forbid_writing, move
from tests.projection.places import Place, SQLitePlace

UPDATE = "UPDATE generations SET {column} = '{value}'"


@pytest.mark.parametrize(
    ("table", "column"), [("generations", "prompt"), ("artifacts", "key"), ("generation_metadata", "value")]
)
async def test_a_poisoned_state_fails_alone(projection: Projection, place: Place, table: str, column: str) -> None:
    """Sixty-three paid generations must not wait for the one that the team's own constraint refuses."""
    place.refuse(table, column, "poison", "poison is not welcome here")
    poisoned = a_state(
        input={"positivePrompt": "poison"}, outputs=[an_image(key="poison")], metadata={"label": "poison"}
    )
    good = [a_state(outputs=[an_image()]) for _ in range(5)]

    outcomes = await projection.write([*good[:2], poisoned, *good[2:]])
    assert [outcome is None for outcome in outcomes] == [True, True, False, True, True, True]
    assert outcomes[2] is not None
    assert "poison is not welcome here" in outcomes[2].message
    assert await projection.get(poisoned.id) is None
    assert len((await projection.list(ListArgs())).items) == 5
    if place.atomic:
        assert [] == place.rows("artifacts", poisoned.id) == place.rows("generation_metadata", poisoned.id)


async def test_every_version_in_a_batch_shares_the_outcome_of_the_newest(projection: Projection, place: Place) -> None:
    """An older version is superseded: when the newer one is refused, nothing of the generation was written."""
    place.refuse("generations", "prompt", "poison", "not welcome")
    id_ = an_id()
    newer = a_state(id_, version=2, input={"positivePrompt": "poison"})

    first, second, third = await projection.write([newer, a_state(id_, version=1), a_state()])
    assert first is not None
    assert (first, None) == (second, third)


async def test_a_state_whose_rows_cannot_be_made_fails_alone(
    projection: Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake of ours in one state is said of that state, and costs no other its row."""
    bad, good = a_state(), a_state()
    monkeypatch.setattr(type(bad), "counts", None, raising=False)
    broken = bad.model_copy(update={"counts": None})

    outcomes = await projection.write([broken, good])
    assert outcomes[0] is not None
    assert "AttributeError" in outcomes[0].message
    assert outcomes[1] is None


async def test_a_dropped_column_is_said_in_the_databases_words_and_mended(projection: Projection, place: Place) -> None:
    """Schema drift: `projection_failed` on each, then, the column back, the same call succeeds without a restart."""
    place.run("ALTER TABLE generations DROP COLUMN negative_prompt")
    states = [a_state(), a_state()]

    for outcome in await projection.write(states):
        assert outcome is not None
        assert re.search('no column named negative_prompt|column "negative_prompt" of', outcome.message)
    place.run("ALTER TABLE generations ADD COLUMN negative_prompt TEXT")
    assert await projection.write(states) == [None, None]


async def test_a_list_of_a_drifted_schema_tells_the_operator(projection: Projection, place: Place) -> None:
    """Nothing the caller could try again: a person must act."""
    await projection.write([a_state()])
    place.run("DROP TABLE artifacts")

    with pytest.raises(ConfigurationError, match=r'(no such table: |relation ")artifacts.*rebuild-projection'):
        await projection.list(ListArgs())


async def test_a_row_that_somebody_spoilt_tells_the_operator(projection: Projection, place: Place) -> None:
    """The tables are the team's; what is not a summary is not passed off as one."""
    await projection.write([a_state()])
    for column, value in (("metadata", "{broken"), ("status", "nonsense"), ("metadata", "[]")):
        place.run(UPDATE.format(column=column, value=value))
        with pytest.raises(ConfigurationError, match="cannot be read"):
            await projection.list(ListArgs())


@pytest.mark.usefixtures("impatient")
async def test_a_database_that_takes_no_write_is_unavailable_and_nothing_is_kept(place: Place) -> None:
    """Somebody holds it: try again. Lists go on meanwhile."""
    projection = await place.open()
    state, before = a_state(), a_state()
    await projection.write([before])
    with place.writes_blocked():
        with pytest.raises(ProjectionUnavailable, match=re.escape(place.busy)):
            await projection.write([state])
        assert [before.id] == [item.id for item in (await projection.list(ListArgs())).items]

    assert await projection.write([state]) == [None]
    await projection.aclose()


async def test_a_full_disk_is_the_databases_own_refusal_and_recovers(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person must make room. What was written before is whole, and afterwards the same call succeeds."""
    monkeypatch.setattr(sqlite, "_WRITER", (*sqlite._WRITER, "PRAGMA max_page_count=30"))
    projection = await Projection.open(f"sqlite://{path}", migrate=False)
    states = [a_state(input={"positivePrompt": "x" * 4_000}) for _ in range(40)]

    outcomes = await projection.write(states)
    refused = [outcome.message for outcome in outcomes if outcome]
    assert {"database or disk is full"} == set(refused)
    assert 40 - len(refused) == len(SQLitePlace(path).rows("generations"))
    with a_connection(path) as other:
        assert other.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    monkeypatch.setattr(sqlite, "_WRITER", sqlite._WRITER[:-1])
    await projection.aclose()
    projection = await Projection.open(f"sqlite://{path}", migrate=False)
    assert await projection.write(states) == [None] * 40
    await projection.aclose()


async def test_a_locked_database_is_named_at_the_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that can write nothing says so, and what to look for."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.05)
    with a_connection(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ConfigurationError, match="database is locked"):
            await Projection.open(f"sqlite://{path}", migrate=True)


@contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """Root may write anything; so be somebody else for a while, who may reach `folder`."""
    if os.geteuid() != 0:
        yield
        return
    opened = [(parent, parent.stat().st_mode) for parent in (folder, *folder.parents) if parent.stat().st_uid == 0]
    opened = [(parent, mode) for parent, mode in opened if parent != Path("/")]
    for parent, mode in opened:
        parent.chmod(mode | 0o055)
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)
        for parent, mode in opened:
            parent.chmod(mode)


async def test_a_read_only_database_is_refused_at_the_start(path: Path) -> None:
    """Found by `serve` and `doctor`, not by the first paid image."""
    forbid_writing(path)
    with as_nobody(path.parent), pytest.raises(ConfigurationError, match=r"read\.db cannot be used.*may be written"):
        await Projection.open(f"sqlite://{path}", migrate=False)


@pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
async def test_a_database_that_turns_read_only_refuses_and_recovers(
    projection: Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`projection_failed` with the database's words; once it may be written again, so it is, without a restart."""
    assert isinstance(projection._target, sqlite.SQLiteTarget)
    writer = projection._target._writer
    with monkeypatch.context() as patch:
        patch.setattr(writer, "_pragmas", (*sqlite._WRITER, "PRAGMA query_only=1"))
        writer._close()
        state = a_state()

        (outcome,) = await projection.write([state])
        assert outcome is not None
        assert outcome.message == "attempt to write a readonly database"
    assert await projection.write([state]) == [None]


async def test_a_removed_file_is_noticed(path: Path) -> None:
    """SQLite would write on into a file that no longer has a name, and the rows would be gone at the next start."""
    projection = await Projection.open(f"sqlite://{path}", migrate=False)
    state = a_state()
    await projection.write([state])
    move(path, path.with_suffix(".away"))

    with pytest.raises(ProjectionUnavailable, match="unable to open database file"):
        await projection.write([state])
    move(path.with_suffix(".away"), path)
    assert await projection.write([state]) == [None]
    await projection.aclose()


async def test_a_parameter_is_never_longer_than_the_target_takes(
    projection: Projection, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D1 takes 2 MB a parameter: a batch is cut, a single row never is."""
    monkeypatch.setattr(type(projection._target), "parameter_bytes", 2_000)
    states = [a_state(outputs=[an_image()]) for _ in range(9)]

    assert await projection.write([*states[:8], a_state(input={"positivePrompt": "x" * 5_000})]) == [None] * 9
    assert len(place.rows("generations")) == 9


async def test_the_largest_state_fits_into_one_parameter(projection: Projection) -> None:
    """Everything at its bound, in characters that cost the most: no target's limit is met by a single generation."""
    worst = '\x01"\\' * 100_000
    state = a_state(
        input={"positivePrompt": worst, "negativePrompt": worst} | {f"x{n}": worst[:3_000] for n in range(12)},
        metadata={f"{worst[:1_000]}{number}": worst for number in range(40)},
        outputs=[an_image(key=worst, image_uuid=worst) for _ in range(64)],
        error=api_rejected(400, [{"message": worst[:8_000]} for _ in range(16)]),
    )

    assert await projection.write([state]) == [None]
    found = await projection.get(state.id)
    assert found is not None
    assert len(found.artifacts) == 64


async def test_an_empty_batch_is_nothing(projection: Projection) -> None:
    """Neither an error nor a transaction."""
    assert await projection.write([]) == []
