"""The file: how it is kept, and what is said when it is not what it should be."""

import asyncio
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runware_provider.durable.sqlite import SqliteRuntime
from runware_provider.durable.sqlite_store import SCHEMA_VERSION
from runware_provider.errors import ConfigurationError, RunwareProviderError, StateTooNew, StateUnavailable
from runware_provider.schedule import Policy
from tests.conformance.builders import a_birth, all_ids, deliver, images, make, nothing, version
from tests.durable.conftest import OpenSqlite, opened

ROOT = Path(__file__).parents[2]


def content(path: Path) -> bytes:
    """The bytes of the main file."""
    return path.read_bytes()


def size(path: Path) -> int:
    """How many there are."""
    return path.stat().st_size


def sql(path: Path, *statements: str) -> list[object]:
    """Run them on the closed file; the rows of the last one."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        rows: list[object] = []
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        return rows
    finally:
        connection.close()


async def test_a_commit_waits_for_the_disk(open_sqlite: OpenSqlite) -> None:
    """WAL with `synchronous=FULL`: `NORMAL` would lose the last commits at a loss of power."""
    async with open_sqlite() as runtime:
        writer = runtime._store.writer

        assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert writer.execute("PRAGMA synchronous").fetchone() == (2,)


async def test_readers_cannot_write(open_sqlite: OpenSqlite) -> None:
    """SQLite up to 3.51.2 can corrupt a WAL when two connections write and checkpoint at once."""
    async with open_sqlite() as runtime:
        await runtime.create(a_birth())

        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            runtime._store.reader.execute("DELETE FROM generations")


async def test_a_stopped_runtime_leaves_one_file(open_sqlite: OpenSqlite, state: Path) -> None:
    """So that it can be copied as a backup; and it is sound."""
    async with open_sqlite() as runtime:
        await make(runtime, (a_birth() for _ in range(50)))

    assert [each.name for each in state.parent.iterdir()] == [state.name]
    assert sql(state, "PRAGMA integrity_check") == [("ok",)]


async def test_the_log_does_not_grow_with_traffic(open_sqlite: OpenSqlite, state: Path) -> None:
    """It is written back while calls go on, also under readers."""
    async with open_sqlite() as runtime:
        ids = await make(runtime, (a_birth(prompt="long " * 2_000) for _ in range(400)))
        for _ in range(10):
            births = [a_birth(prompt="long " * 2_000) for _ in range(400)]
            ids += await make(runtime, births)
            await runtime.get_state(ids[0])

        assert size(state) > 20_000_000
        assert size(state.with_name("state.db-wal")) < 20_000_000


async def test_only_its_owner_can_read_the_state(open_sqlite: OpenSqlite, state: Path) -> None:
    """It holds prompts and the secret that signs webhook tokens."""
    async with open_sqlite() as runtime:
        await runtime.secret("webhook", lambda: "secret")
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in state.parent.iterdir()}

    assert modes == dict.fromkeys(modes, 0o600)


# Not ours


@pytest.mark.parametrize(
    "what", [b"not a database, but somebody's notes\n" * 200, b"SQLite format 3\x00" + b"\xff" * 4096]
)
def test_a_file_that_is_no_database_is_refused_untouched(state: Path, what: bytes) -> None:
    """A wrong setting must not cost somebody a file."""
    state.write_bytes(what)

    with pytest.raises(ConfigurationError, match=r"state\.db"):
        SqliteRuntime(state, Policy())
    assert content(state) == what


def test_somebody_elses_database_is_refused_untouched(state: Path) -> None:
    """A wrong setting must not put our tables into it, nor change how it is kept."""
    sql(state, "CREATE TABLE customers(id INTEGER PRIMARY KEY)", "INSERT INTO customers VALUES (1)")
    before = content(state)

    with pytest.raises(ConfigurationError, match=r"state\.db"):
        SqliteRuntime(state, Policy())
    assert content(state) == before


async def test_a_newer_state_is_refused_untouched(open_sqlite: OpenSqlite, state: Path) -> None:
    """Going back a release must not damage what the newer one wrote."""
    async with open_sqlite() as runtime:
        await runtime.create(a_birth())
    sql(state, f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    before = content(state)

    with pytest.raises(StateTooNew, match="newer release"):
        SqliteRuntime(state, Policy())
    assert content(state) == before
    assert [each.name for each in state.parent.iterdir()] == [state.name]


async def test_a_newer_register_is_refused_and_the_others_are_served(open_sqlite: OpenSqlite, state: Path) -> None:
    """One generation that a newer release has touched."""
    async with open_sqlite() as runtime:
        newer, other = await make(runtime, [a_birth(), a_birth()])
    sql(state, "UPDATE generations SET register = json_set(register, '$.schema', 99) WHERE number = 1")
    before = sql(state, "SELECT register FROM generations WHERE number = 1")
    async with open_sqlite() as runtime:
        with pytest.raises(StateTooNew):
            await runtime.get_state(newer)
        with pytest.raises(StateTooNew):
            await runtime.call(newer, deliver("a"), version)
        assert await runtime.call(other, deliver("a"), images) == ["a"]
    assert sql(state, "SELECT register FROM generations WHERE number = 1") == before


async def test_a_folder_that_does_not_exist_is_said(tmp_path: Path) -> None:
    """With its name."""
    with pytest.raises(ConfigurationError, match="nowhere"):
        SqliteRuntime(tmp_path / "nowhere" / "state.db", Policy())


# Damaged


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[Path]:
    """A folder for damaged copies."""
    folder = tmp_path / "damaged"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


async def test_damage_is_said_and_never_overwritten(open_sqlite: OpenSqlite, state: Path, damaged: Path) -> None:
    """Whichever page is unreadable: a refusal of ours or the true answer, and the page stays for who can mend it."""
    async with open_sqlite() as runtime:
        births = [a_birth(prompt="long " * 300) for _ in range(60)]
        ids = await make(runtime, births)
        await runtime.keep_unclaimed(None, "r", b"body" * 2_000, births[0].now)
    sound = content(state)
    noise = b"\xa5" * 4096
    refused = served = 0
    for page in range(1, len(sound) // 4096):
        copy = damaged / f"{page}.db"
        copy.write_bytes(sound[: page * 4096] + noise + sound[(page + 1) * 4096 :])
        try:
            async with opened(copy) as runtime:
                for birth in births[::12]:
                    try:
                        assert (await runtime.get_request(birth.id)).input == birth.request.input
                        assert await runtime.call(birth.id, nothing, images) == []
                        served += 1
                    except (StateUnavailable, ConfigurationError):
                        refused += 1
        except ConfigurationError:
            refused += 1

        assert copy.read_bytes()[page * 4096 : (page + 1) * 4096] == noise
    assert refused > 0
    assert served > 0
    assert len(ids) == 60


async def test_a_damaged_generation_does_not_hold_up_the_others(open_sqlite: OpenSqlite, state: Path) -> None:
    """A register that cannot be read fails alone in its batch."""
    async with open_sqlite() as runtime:
        ids = await make(runtime, (a_birth() for _ in range(20)))
    sql(state, "UPDATE generations SET register = '{torn' WHERE number = 7")
    async with open_sqlite() as runtime:
        outcomes = await asyncio.gather(
            *(runtime.call(each, deliver("a"), images) for each in ids), return_exceptions=True
        )

        assert isinstance(outcomes.pop(6), Exception)
        assert outcomes == [["a"]] * 19
        with pytest.raises(RunwareProviderError):
            await runtime.get_state(ids[6])
        assert len(await all_ids(runtime)) == 20
    assert sql(state, "SELECT register FROM generations WHERE number = 7") == [("{torn",)]


# Not writable

AS_NOBODY = """
import asyncio, os, sys
from pathlib import Path
from runware_provider.durable.sqlite import SqliteRuntime
from runware_provider.errors import ConfigurationError
from runware_provider.schedule import Policy
if os.getuid() == 0:
    os.setgid(65534); os.setuid(65534)
async def main():
    try:
        SqliteRuntime(Path(sys.argv[1]), Policy())
    except ConfigurationError as error:
        print("ConfigurationError", error)
    else:
        print("opened"); os._exit(0)
asyncio.run(main())
"""


@pytest.fixture
def others_folder() -> Iterator[Path]:
    """A folder that another user may enter; pytest's own are closed to them."""
    folder = Path(tempfile.mkdtemp(prefix="state-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder)


def opened_by_nobody(path: Path, file_mode: int, folder_mode: int) -> str:
    """What a process without rights of its own says of a file with these modes."""
    path.chmod(file_mode)
    path.parent.chmod(folder_mode)
    return subprocess.run(
        [sys.executable, "-c", AS_NOBODY, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout


@pytest.mark.parametrize(("file_mode", "folder_mode"), [(0o444, 0o777), (0o444, 0o555), (0o666, 0o555), (0o000, 0o777)])
async def test_a_state_that_cannot_be_written_is_said_at_the_start(
    others_folder: Path, file_mode: int, folder_mode: int
) -> None:
    """By who opens it, not by the first client whose request is lost."""
    path = others_folder / "state.db"
    async with opened(path) as runtime:
        await runtime.create(a_birth())
    before = content(path)
    said = await asyncio.to_thread(opened_by_nobody, path, file_mode, folder_mode)

    assert said.startswith("ConfigurationError"), said
    assert str(path) in said
    assert content(path) == before
