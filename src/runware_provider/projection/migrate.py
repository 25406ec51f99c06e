"""Bringing the schema to what this release knows.

Alembic makes the SQL, the target runs it: one way for every database, and what it makes is what D1's tools are given.
Hence migrations only add, and hold no Python that reads data. SQLite's is made beforehand (`make docs`) and comes with
the package, so that a first start on a laptop does not wait for Alembic; D1 is given the same files.
"""

import asyncio
import io
import re
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

from runware_provider.errors import ConfigurationError
from runware_provider.projection.schema import REVISIONS, missing_revisions
from runware_provider.projection.target import D1Access, Dialect, Rejected, Target, open_target

_RETURNING = re.compile(r" RETURNING [\w.]+;")
DIRECTORY = Path(__file__).parent / "migrations"
MADE = DIRECTORY / "sqlite"

_alembic = threading.Lock()  # `alembic.context`, which `env.py` uses, is one for the whole process


async def migrate(url: str, *, d1: D1Access | None = None) -> tuple[str, ...]:
    """Make the read model at `url` or bring it up to date; the revisions applied, none when there was nothing to do.

    All or nothing. Raises ConfigurationError for a schema that is too new (untouched) or tables that are not ours, and
    what `Projection.open` raises.
    """
    target = await open_target(url, create=True, d1=d1)
    try:
        return await bring_to_head(target)
    finally:
        await target.aclose()


async def pending(url: str, *, d1: D1Access | None = None) -> tuple[str, ...]:
    """The revisions that `migrate` would apply. Changes nothing; raises as `migrate`, and when there is no database."""
    target = await open_target(url, create=False, d1=d1)
    try:
        return missing_revisions(await target.revision())
    finally:
        await target.aclose()


async def require_head(target: Target) -> None:
    """Raise ConfigurationError unless the schema is exactly what this release knows."""
    found = await target.revision()
    if missing_revisions(found):
        state = "has no read model yet" if found is None else f"has an older schema ({found!r})"
        raise ConfigurationError(f"The read model's database {state}: run `runware-provider migrate`.")


async def bring_to_head(target: Target) -> tuple[str, ...]:
    """Apply what is missing, in one transaction where the target has them; the revisions applied."""
    missing = missing_revisions(await target.revision())
    if not missing:
        return ()
    # Before the lock is taken: with Alembic making the SQL takes 0.3 s, in which others would give up waiting.
    scripts = await asyncio.to_thread(_scripts, missing, target.dialect)
    applied: tuple[str, ...] = ()

    def plan(found: str | None) -> Sequence[str]:
        nonlocal applied
        applied = missing_revisions(found)  # again, now that nobody else can migrate
        return [statement for revision in applied for statement in scripts[revision]]

    try:
        await target.migrate(plan)
    except Rejected as error:
        raise ConfigurationError(
            f"The read model's schema could not be made: {error}. "
            "Mend the database, or name an empty one in PROJECTION_URL."
        ) from error
    return applied


def migration_sql(revision: str, dialect: Dialect = "sqlite") -> str:
    """The SQL that brings a schema from the revision before to `revision`, and records it in the version table."""
    from alembic import command
    from alembic.config import Config

    before = REVISIONS[REVISIONS.index(revision) - 1] if revision != REVISIONS[0] else "base"
    script = io.StringIO()
    config = Config(output_buffer=script, attributes={"dialect": dialect})
    # Set here and not in a file: the package may lie anywhere, in a path with `%` too.
    config.set_main_option("script_location", str(DIRECTORY).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with _alembic:
        command.upgrade(config, f"{before}:{revision}", sql=True)
    # D1 cannot commit a script of which any statement but the last gives rows.
    return _RETURNING.sub(";", script.getvalue())


def write_migrations(folder: Path, dialect: Dialect = "sqlite") -> tuple[Path, ...]:
    """Write every migration as a file of its own into `folder`, which is made when missing; the files, oldest first.

    With the names and the content that `wrangler d1 migrations apply` takes: `0001_initial.sql`. Files of these names
    are overwritten. Raises ConfigurationError when the folder cannot be written.
    """
    files = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for revision in REVISIONS:
            file = _file(folder, revision)
            file.write_text(migration_sql(revision, dialect))
            files.append(file)
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be written: {error}") from error
    return tuple(files)


def _scripts(revisions: Sequence[str], dialect: Dialect) -> dict[str, list[str]]:
    if dialect == "sqlite":
        return {revision: _split(_file(MADE, revision).read_text()) for revision in revisions}
    return {revision: _split(migration_sql(revision, dialect)) for revision in revisions}


def _file(folder: Path, revision: str) -> Path:
    """Where the SQL of a revision lies in `folder`, by the name that D1's tools give it."""
    (module,) = (DIRECTORY / "versions").glob(f"m{revision}_*.py")
    return folder / f"{module.stem.removeprefix('m')}.sql"


def _split(script: str) -> list[str]:
    """The statements of `script`. SQLite's own judge of completeness knows strings, comments and triggers."""
    statements: list[str] = []
    current = ""
    for line in script.splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current.strip())
            current = ""
    return statements
