"""`export`: images and their recipes into a folder or one zip file, each checked against its hash on the way."""

import asyncio
import zipfile
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from rich.progress import Progress, SpinnerColumn, TextColumn

from runware_provider.cli import FAILED
from runware_provider.cli.client import Api
from runware_provider.cli.commands import path_of
from runware_provider.cli.connection import connected
from runware_provider.cli.console import err, out, print_json, say
from runware_provider.cli.failures import Answered, Damaged, complain
from runware_provider.cli.files import intact, sync_folder, write_whole
from runware_provider.cli.generate import expect_writable
from runware_provider.cli.listing import pages
from runware_provider.cli.recipes import SUFFIX, recipe_of, written
from runware_provider.errors import ConfigurationError
from runware_provider.settings import Settings
from runware_provider.words import size

AT_ONCE = 4
"""Images that are read at once: more would only wait for the disk."""

COMPLAINTS = 20
"""What could not be exported and is told one by one; the rest is counted."""


@dataclass
class Exported:
    """What came of an export; `there`: images that the folder had already."""

    generations: int = 0
    images: int = 0
    there: int = 0
    size_bytes: int = 0
    failed: int = 0

    def __str__(self) -> str:
        return f"{self.images + self.there:,} images, {size(self.size_bytes)}"


class Target(Protocol):
    """Where images go."""

    folder: Path
    """Where an image lies while it is being read and checked."""

    async def has(self, name: str, size_bytes: int, sha256: str) -> bool:
        """Whether the image is there already, with exactly these bytes."""

    async def keep(self, part: Path, name: str, recipe: bytes) -> None:
        """Take over a checked image and its recipe."""


class _Folder:
    def __init__(self, root: Path, folder: Path) -> None:
        self._root = root
        self.folder = folder

    async def has(self, name: str, size_bytes: int, sha256: str) -> bool:
        file = self._root / name
        return file.with_suffix(SUFFIX).exists() and await asyncio.to_thread(intact, file, size_bytes, sha256)

    async def keep(self, part: Path, name: str, recipe: bytes) -> None:
        file = self._root / name
        part.replace(file)
        write_whole(file.with_suffix(SUFFIX), recipe)


class _Zip:
    def __init__(self, archive: zipfile.ZipFile, folder: Path) -> None:
        self._archive = archive
        self._turn = asyncio.Lock()
        self.folder = folder

    async def has(self, name: str, size_bytes: int, sha256: str) -> bool:  # noqa: ARG002  it was empty a moment ago
        return False

    async def keep(self, part: Path, name: str, recipe: bytes) -> None:
        async with self._turn:
            await asyncio.to_thread(self._add, part, name, recipe)
        part.unlink()

    def _add(self, part: Path, name: str, recipe: bytes) -> None:
        self._archive.write(part, name)
        self._archive.writestr(str(Path(name).with_suffix(SUFFIX)), recipe, zipfile.ZIP_DEFLATED)


async def export(settings: Settings, ids: Sequence[str], filters: dict[str, Any], to: Path, *, as_json: bool) -> int:
    """Images of these generations, or of all that the filters leave, with their recipes. 1 when any was not to be had.

    `to`: a folder, in which only what is missing is written; or a new file that ends with `.zip`.
    """
    for id in ids:
        path_of(id)
    total = Exported()
    async with _opened(to) as target, connected(settings, work=False) as api:
        with _shown(total, show=not as_json):
            await _export(api, target, _states(api, ids, filters, total), total)
    if as_json:
        print_json({**vars(total), "out": str(to)})
    else:
        _tell(total, to)
    return FAILED if total.failed else 0


def _tell(total: Exported, to: Path) -> None:
    if not total.generations:
        say(out, "nothing found")
        return
    words = f"{total.images:,} images, {size(total.size_bytes)}, of {total.generations:,} generations in "
    more = f"; {total.there:,} more were there already" if total.there else ""
    say(out, words, (str(to), "bold"), more)
    if total.failed > COMPLAINTS:
        say(err, f"{total.failed:,} could not be exported; the first {COMPLAINTS} are told above")


@asynccontextmanager
async def _opened(to: Path) -> AsyncIterator[Target]:
    """The target; a zip file appears when all is in it, or not at all. Raises ConfigurationError that names --out."""
    if to.suffix.lower() != ".zip":
        expect_writable(to)
        with TemporaryDirectory(prefix=".export-", dir=to) as folder:
            yield _Folder(to, Path(folder))
        sync_folder(to)
        return
    if to.exists():
        raise ConfigurationError(f"--out {to} is there already: give it another name, or remove it")
    expect_writable(to.parent)
    with TemporaryDirectory(prefix=".export-", dir=to.parent) as folder:
        part = Path(folder) / to.name
        # Images are compressed already.
        with zipfile.ZipFile(part, "x", zipfile.ZIP_STORED) as archive:
            yield _Zip(archive, Path(folder))
        part.replace(to)


async def _states(
    api: Api, ids: Sequence[str], filters: dict[str, Any], total: Exported
) -> AsyncIterator[dict[str, Any]]:
    """The generations that are meant, as they are now."""
    if ids:
        for id in dict.fromkeys(ids):
            total.generations += 1
            yield await api.get(path_of(id))
        return
    async with aclosing(pages(api, filters)) as stream:
        async for page in stream:
            for item in page["items"]:
                try:
                    state = await api.get(f"/v1/generations/{item['id']}")
                except Answered as error:
                    if error.status != 404:  # else it was deleted after the page was read
                        raise
                    continue
                total.generations += 1
                yield state


async def _export(api: Api, target: Target, states: AsyncIterator[dict[str, Any]], total: Exported) -> None:
    wanted: asyncio.Queue[tuple[dict[str, Any], int, dict[str, Any]] | None] = asyncio.Queue(AT_ONCE)

    async def work() -> None:
        while (each := await wanted.get()) is not None:
            await _one(api, target, *each, total)

    async def ask() -> None:
        async for state in states:
            stored = [output for output in state["outputs"] if output["type"] == "success"]
            for number, output in enumerate(stored, 1):
                await wanted.put((state, number, output))
        for _ in range(AT_ONCE):
            await wanted.put(None)

    tasks = [asyncio.create_task(each) for each in (ask(), *(work() for _ in range(AT_ONCE)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _one(
    api: Api, target: Target, state: dict[str, Any], number: int, output: dict[str, Any], total: Exported
) -> None:
    name = f"{state['id']}-{number}.{output['key'].rpartition('.')[2]}"
    if await target.has(name, output["size_bytes"], output["sha256"]):
        total.there += 1
        return
    part = target.folder / f"{name}.part"
    try:
        path = f"/v1/generations/{state['id']}/outputs/{output['id']}/content"
        await api.fetch(path, part, sha256=output["sha256"])
    except (Answered, Damaged) as error:
        part.unlink(missing_ok=True)
        total.failed += 1
        if total.failed <= COMPLAINTS:
            complain(f"{name}: {error}")
        return
    await target.keep(part, name, written(recipe_of(state, output)))
    total.images += 1
    total.size_bytes += output["size_bytes"]


def _shown(total: Exported, *, show: bool) -> Progress:
    """How far it is, on a terminal. Nobody knows how much there will be."""
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.fields[exported]}", markup=False),
        console=err,
        disable=not (show and err.is_interactive),
        transient=True,
    )
    progress.add_task("", total=None, exported=total)
    return progress
