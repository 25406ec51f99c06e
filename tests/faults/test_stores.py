"""An object store and a read model in trouble: nothing is lost, the trouble shows, and what was held up follows."""

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from runware_provider.projection import sqlite
from runware_provider.types import GenerationState
from tests.faults.staged import (
    TABLE,
    MovedClock,
    Row,
    all_stored,
    artifact_rows,
    balanced,
    change,
    idle,
    purged,
    read_model,
)
from tests.service import Service, a_service, error_codes, images, until

Breaking = Callable[[Path], AbstractContextManager[None]]


@contextmanager
def replaced_by_a_file(root: Path) -> Iterator[None]:
    """Somebody moved the store away and put something else in its place."""
    top, away = root / "generations", root / "generations.away"
    top.rename(away)
    top.write_text("not a folder")
    yield
    top.unlink()
    away.rename(top)


@contextmanager
def gone(root: Path) -> Iterator[None]:
    """The disk that it is on is not mounted."""
    away = root.with_name("artifacts.away")
    root.rename(away)
    yield
    away.rename(root)


@contextmanager
def full(root: Path) -> Iterator[None]:
    """A disk of its own, without a byte left: a real ENOSPC."""
    ballast = root / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 65_536)
    except OSError:
        pass
    yield
    ballast.unlink()


@contextmanager
def a_small_disk(folder: Path) -> Iterator[None]:
    """1 MiB of its own at `folder`."""
    folder.mkdir(parents=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip(f"a disk can be mounted by root only: {made.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("breaking", [replaced_by_a_file, gone, full])
async def test_a_store_that_takes_nothing_shows_and_heals(tmp_path: Path, breaking: Breaking) -> None:
    """Pending at first, `storage_failed` after STORE_PATIENCE, kept by itself once the store is mended."""
    clock = MovedClock()
    data = tmp_path / "data"
    disk = a_small_disk(data / "artifacts") if breaking is full else _no_disk()
    with disk:
        async with a_service(tmp_path, clock=clock, options={"image_bytes": 40_000}) as service:
            with breaking(data / "artifacts"):
                states = [await service.create(numberResults=2) for _ in range(3)]
                for state in states:
                    await until(service.ctx, state.id, _delivered(2))
                await idle(service)
                held = [await service.ctx.runtime.get_state(state.id) for state in states]
                clock.pass_time(service, timedelta(seconds=3))
                await idle(service)

                async def shown() -> bool:
                    now = [await service.ctx.runtime.get_state(state.id) for state in states]
                    return all(error_codes(state) == ["storage_failed"] * 2 for state in now)

                await clock.pass_until(service, timedelta(minutes=1), shown)
                assert {(state.status, len(state.outputs)) for state in held} == {("running", 0)}
                assert list((service.ctx.owner.data_dir / "tmp").iterdir()) == []
            clock.pass_time(service, timedelta(minutes=20))
            done = await all_stored(service, states)

            balanced(service, f"object store {breaking.__name__.replace('_', ' ')}", done)
            assert {tuple(error_codes(state)) for state in done} == {()}
            assert list((service.ctx.owner.data_dir / "tmp").iterdir()) == []


@contextmanager
def _no_disk() -> Iterator[None]:
    yield


def _delivered(count: int) -> Callable[[GenerationState], bool]:
    return lambda state: [entry.event for entry in state.timeline].count("delivered") == count


@dataclass(frozen=True)
class Trouble:
    """What befalls the read model, and what a person does about it."""

    name: str
    strike: Callable[[Service], None]
    mend: Callable[[Service], None]


def _lose(service: Service) -> None:
    for path in _files(service):
        path.rename(path.with_name("away." + path.name))
    read_model(service).touch()  # what a restore from the wrong backup leaves


def _find(service: Service) -> None:
    for path in _files(service):
        path.unlink()
    for path in service.ctx.settings.data_dir.glob("away.projection.db*"):
        path.rename(path.with_name(path.name.removeprefix("away.")))


def _move(service: Service) -> None:
    for path in _files(service):
        path.rename(path.with_name("away." + path.name))


def _files(service: Service) -> list[Path]:
    return sorted(service.ctx.settings.data_dir.glob("projection.db*"))


def _pragmas(service: Service, *more: str) -> None:
    target = service.ctx.projection._target
    assert isinstance(target, sqlite.SQLiteTarget)
    target._writer._pragmas = (*sqlite._WRITER, *more)
    target._writer._close()


TROUBLES = [
    Trouble(
        "schema drift",
        lambda service: change(service, "ALTER TABLE artifacts RENAME COLUMN sha256 TO hash"),
        lambda service: change(service, "ALTER TABLE artifacts RENAME COLUMN hash TO sha256"),
    ),
    Trouble(
        "a constraint of the team's",
        lambda service: change(
            service,
            "CREATE TRIGGER no_foxes BEFORE INSERT ON generations BEGIN SELECT RAISE(ABORT, 'no foxes'); END",
        ),
        lambda service: change(service, "DROP TRIGGER no_foxes"),
    ),
    Trouble("replaced by an empty file", _lose, _find),
    Trouble("its file is lost", _move, _find),
    Trouble("read-only", lambda service: _pragmas(service, "PRAGMA query_only=1"), _pragmas),
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
async def test_a_read_model_in_trouble_is_replayed_while_traffic_goes_on(tmp_path: Path, trouble: Trouble) -> None:
    """The images are kept and served, the failure stands beside them, and `replay --all-failed` brings every row."""
    async with a_service(tmp_path) as service:
        service.ctx.projection_writer._patience = 0.2
        before = await service.made()
        trouble.strike(service)
        failed = await asyncio.gather(*(service.made(numberResults=2) for _ in range(5)))
        assert {(state.status, state.error and state.error.code) for state in failed} == {
            ("completed", "projection_failed")
        }
        assert {len(images(state)) for state in failed} == {2}
        trouble.mend(service)
        traffic = [asyncio.create_task(service.made()) for _ in range(5)]
        answer = await service.post("/v1/replay", json={"all_failed": True})
        during = await asyncio.gather(*traffic)
        done = await asyncio.gather(
            *(
                until(service.ctx, state.id, lambda state: state.settled and not state.projection_error)
                for state in failed
            )
        )

        assert answer.json == {"replayed": 5}
        assert (await service.ctx.runtime.stats()).projection_failed == 0
        balanced(service, f"read model: {trouble.name}", [before, *during, *done])


async def test_deleting_is_not_held_up_by_a_read_model_that_refuses(tmp_path: Path) -> None:
    """What was deleted is hidden and purged all the same, and its row follows with the next replay."""
    clock = MovedClock()
    async with a_service(tmp_path, clock=clock) as service:
        state = await service.made()
        change(service, "CREATE TRIGGER no BEFORE UPDATE ON generations BEGIN SELECT RAISE(ABORT, 'no'); END")
        assert (await service.delete(f"/v1/generations/{state.id}")).status == 204
        await idle(service)
        clock.pass_time(service, timedelta(seconds=31))
        left = await purged(service, state)
        change(service, "DROP TRIGGER no")
        await service.post("/v1/replay", json={"all_failed": True})
        await service.post("/v1/replay", json={"generation_id": str(state.id)})
        await idle(service)
        came_back = artifact_rows(service, state)
        TABLE.append(Row("delete while the read model refuses, then replay", 1, 0, len(came_back)))

        assert left.input == {}
        assert came_back == []
