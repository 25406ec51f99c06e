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

from runware_provider.errors import ConfigurationError
from runware_provider.projection import Projection, migrate, migration_sql, pending
from runware_provider.projection.migrate import DIRECTORY
from runware_provider.projection.schema import REVISIONS, VERSION_TABLE
from runware_provider.projection.tables import metadata
from tests.projection.builders import contents, rows, run


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
    assert () == await pending(url) == await migrate(url)
    assert [file.name for file in folder.iterdir()] == ["a #1.db"]


async def test_processes_that_migrate_at_once_do_it_once(tmp_path: Path) -> None:
    """Every node of a deployment may run `migrate` at its start."""
    applied = await asyncio.gather(*(migrate(f"sqlite://{tmp_path / 'read.db'}") for _ in range(4)))

    assert sorted(applied) == [(), (), (), REVISIONS]


async def test_a_missing_schema_is_named_with_its_remedy(tmp_path: Path) -> None:
    """And nothing is made by looking."""
    path = tmp_path / "read.db"
    for message in ("There is no read model at", "has no read model yet"):
        with pytest.raises(ConfigurationError, match=f"{message}.*run `runware-provider migrate`"):
            await Projection.open(f"sqlite://{path}", migrate=False)
        assert path.exists() == (message != "There is no read model at")
        path.touch()
    assert await pending(f"sqlite://{path}") == REVISIONS


async def test_a_schema_that_is_too_new_is_refused_untouched(path: Path) -> None:
    """A newer release may have given columns another meaning."""
    run(path, "UPDATE runware_provider_schema SET version_num = '9999'")
    before = contents(path)
    url = f"sqlite://{path}"

    for attempt in (
        Projection.open(url, migrate=False),
        Projection.open(url, migrate=True),
        migrate(url),
        pending(url),
    ):
        with pytest.raises(ConfigurationError, match=r"'9999', newer than this release knows .*install"):
            await attempt
    assert before == contents(path)


async def test_tables_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    """All or nothing: of a migration that fails, nothing stays."""
    path = tmp_path / "theirs.db"
    run(path, "CREATE TABLE artifacts (theirs)", "INSERT INTO artifacts VALUES (1)")

    with pytest.raises(ConfigurationError, match=r"table artifacts already exists.*PROJECTION_URL"):
        await migrate(f"sqlite://{path}")
    assert list(ddl(path)) == ["artifacts"]
    assert rows_of_theirs(path) == [{"theirs": 1}]


def rows_of_theirs(path: Path) -> list[dict[str, int]]:
    with closing(sqlite3.connect(path)) as connection:
        return [{"theirs": row[0]} for row in connection.execute("SELECT theirs FROM artifacts")]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "not known; use sqlite:///absolute"),
        ("read.db", "not known; use sqlite:///absolute"),
        ("mysql://ada:secret@host/db", "'mysql://' is not known"),
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
assert not {{"sqlalchemy", "alembic"}} & set(sys.modules)
async def main():
    await (await Projection.open("sqlite://{path}", migrate=True)).aclose()
asyncio.run(main())
assert "sqlalchemy" in sys.modules and "alembic" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_generations_are_empty_after_migrating(path: Path) -> None:
    """A fresh read model has its tables and no rows."""
    assert [] == rows(path, "generations") == rows(path, "artifacts") == rows(path, "generation_metadata")
