"""The schema: what the migrations make is what the code uses, and nothing is touched that a newer release made."""

import asyncio
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from runware_provider.errors import ConfigurationError
from runware_provider.projection import Projection, migrate, migration_sql, pending, schema
from runware_provider.projection.migrate import DIRECTORY
from runware_provider.projection.schema import REVISIONS, VERSION_TABLE
from runware_provider.projection.tables import metadata
from tests.projection.builders import a_state, an_image, contents
from tests.projection.places import NewPlace, Place, SQLitePlace

COLUMNS = """
    SELECT table_name AS "table", column_name, data_type, collation_name, is_nullable
    FROM information_schema.columns WHERE table_schema = 'public' ORDER BY table_name, ordinal_position
"""
INDEXES = """SELECT tablename AS "table", indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname"""


def ddl(path: Path) -> dict[str, str]:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {name: re.sub(r"\s+", "", sql) for name, sql in found if name != VERSION_TABLE}


def test_the_schema_is_the_sum_of_its_migrations(path: Path, tmp_path: Path) -> None:
    """Columns and types by Alembic's own eye; partial indexes and clustering by the text of the DDL."""
    made = create_engine(f"sqlite:///{tmp_path / 'made.db'}")
    migrated = create_engine(f"sqlite:///{path}")
    metadata.create_all(made)
    with migrated.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "compare_type": True})
        differences = compare_metadata(context, metadata)
    made.dispose()
    migrated.dispose()

    assert differences == []
    assert ddl(tmp_path / "made.db") == ddl(path)


@pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
def test_the_schema_is_the_sum_of_its_migrations_on_postgresql_too(place: Place, new_place: NewPlace) -> None:
    """Columns, types, collations, keys and partial indexes, as the catalogue has them."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    made = new_place(migrated=False)
    for table in metadata.sorted_tables:
        made.run(str(CreateTable(table).compile(dialect=dialect)))
        made.run(*(str(CreateIndex(index).compile(dialect=dialect)) for index in table.indexes))

    for catalogue in (COLUMNS, INDEXES):
        found = [row for row in place.ask(catalogue) if VERSION_TABLE not in row["table"]]
        assert len(found) >= 8
        assert made.ask(catalogue) == found


def test_the_known_revisions_are_those_in_the_directory() -> None:
    """A start compares with a constant, so as not to import Alembic."""
    config = Config()
    config.set_main_option("script_location", str(DIRECTORY))
    config.set_main_option("path_separator", "os")
    found = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]

    assert list(reversed(REVISIONS)) == found


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize("dialect", ["sqlite", "postgresql"])
def test_migrations_only_add(revision: str, dialect: str) -> None:
    """The release before must work on the new schema, and D1 takes no table apart."""
    sql = migration_sql(revision, dialect)  # type: ignore[arg-type]

    assert not re.search(r"\b(DROP|RENAME|DELETE)\b", sql)
    assert f"INSERT INTO {VERSION_TABLE}" in sql or f"UPDATE {VERSION_TABLE}" in sql


async def test_a_new_file_is_made_and_migrated(tmp_path: Path) -> None:
    """Also where the path would mean something to a URL or to Alembic's configuration."""
    folder = tmp_path / "100% of it?"
    folder.mkdir()
    url = f"sqlite://{folder / 'a #1.db'}"

    assert await migrate(url) == REVISIONS
    assert [file.name for file in folder.iterdir()] == ["a #1.db"]


async def test_an_empty_database_is_migrated_once(new_place: NewPlace) -> None:
    """And is then as ready as any other."""
    place = new_place(migrated=False)
    assert await pending(place.url, d1=place.d1) == REVISIONS

    assert await migrate(place.url, d1=place.d1) == REVISIONS
    assert () == await pending(place.url, d1=place.d1) == await migrate(place.url, d1=place.d1)
    assert place.everything() == {"generations": [], "artifacts": [], "generation_metadata": []}
    projection = await place.open()
    assert await projection.write([a_state(outputs=[an_image()], metadata={"a": "b"})]) == [None]
    await projection.aclose()


async def test_processes_that_migrate_at_once_do_it_once(new_place: NewPlace) -> None:
    """Every node of a deployment may run `migrate` at its start."""
    place = new_place(migrated=False)
    applied = await asyncio.gather(*(migrate(place.url, d1=place.d1) for _ in range(5)))

    assert sorted(applied) == [(), (), (), (), REVISIONS]
    await (await place.open()).aclose()


async def test_a_missing_file_is_named_with_its_remedy(tmp_path: Path) -> None:
    """And nothing is made by looking."""
    path = tmp_path / "read.db"
    with pytest.raises(ConfigurationError, match=r"There is no read model at.*run `runware-provider migrate`"):
        await Projection.open(f"sqlite://{path}", migrate=False)
    assert not path.exists()


async def test_a_missing_schema_is_named_with_its_remedy(new_place: NewPlace) -> None:
    """And nothing is made by looking."""
    place = new_place(migrated=False)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"has no read model yet.*run `runware-provider migrate`"):
            await place.open()
    assert await pending(place.url, d1=place.d1) == REVISIONS


async def test_a_schema_that_is_too_old_is_named_with_its_remedy(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that needs more than there is does not start on it."""
    monkeypatch.setattr(schema, "REVISIONS", (*REVISIONS, "0002"))
    with pytest.raises(ConfigurationError, match=r"older schema .'0001'.*run `runware-provider migrate`"):
        await place.open()
    assert await pending(place.url, d1=place.d1) == ("0002",)


async def test_a_schema_that_is_too_new_is_refused_untouched(place: Place) -> None:
    """A newer release may have given columns another meaning."""
    place.run("UPDATE runware_provider_schema SET version_num = '9999'")
    before = contents(place.path) if isinstance(place, SQLitePlace) else b""

    for attempt in (
        place.open(),
        place.open(migrate=True),
        migrate(place.url, d1=place.d1),
        pending(place.url, d1=place.d1),
    ):
        with pytest.raises(ConfigurationError, match=r"'9999', newer than this release knows .*install"):
            await attempt
    assert place.ask("SELECT version_num FROM runware_provider_schema") == [{"version_num": "9999"}]
    if isinstance(place, SQLitePlace):
        assert before == contents(place.path)


async def test_tables_that_are_not_ours_are_left_alone(new_place: NewPlace) -> None:
    """All or nothing: of a migration that fails, nothing stays."""
    place = new_place(migrated=False)
    place.run("CREATE TABLE artifacts (theirs INTEGER)", "INSERT INTO artifacts VALUES (1)")

    with pytest.raises(ConfigurationError, match=r'(table |relation ")artifacts"? already exists.*PROJECTION_URL'):
        await migrate(place.url, d1=place.d1)
    assert place.ask("SELECT * FROM artifacts") == [{"theirs": 1}]
    place.run("DROP TABLE artifacts")
    assert await migrate(place.url, d1=place.d1) == REVISIONS


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "not known; use sqlite:///absolute"),
        ("read.db", "not known; use sqlite:///absolute"),
        ("mysql://ada:secret@host/db", "'mysql://' is not known"),
        ("secret:secret@x://", "'this' is not known"),
        ("sqlite://", "absolute path"),
        ("sqlite:///", "absolute path"),
        ("sqlite://relative.db", "absolute path"),
        ("sqlite:///:memory:", "absolute path"),
        ("sqlite:///a\x00b", "absolute path"),
        ("sqlite:///no/such/folder/read.db", "no folder /no/such/folder"),
        ("sqlite:///tmp", "cannot be used as the read model"),
        ("sqlite:///etc/hostname", "cannot be used as the read model: file is not a database"),
    ],
)
async def test_a_url_that_cannot_be_used_is_refused_in_one_line(url: str, message: str) -> None:
    """With the remedy, without the password, and with nothing made."""
    with pytest.raises(ConfigurationError, match=message) as refused:
        await Projection.open(url, migrate=True)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_start_at_head_imports_no_alembic_and_a_mere_import_no_sqlalchemy(path: Path) -> None:
    """They cost 250 and 155 ms of every command's start."""
    program = f"""
import asyncio, sys
from runware_provider.projection import Projection
assert not {{"sqlalchemy", "alembic", "asyncpg", "aiohttp"}} & set(sys.modules)
async def main():
    await (await Projection.open("sqlite://{path}", migrate=True)).aclose()
asyncio.run(main())
assert "sqlalchemy" in sys.modules and not {{"alembic", "asyncpg", "aiohttp"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
