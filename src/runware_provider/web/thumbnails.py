"""Small pictures of large ones: made once, in a thread, and kept on the disk as long as there is room."""

import asyncio
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeVar
from uuid import UUID

from runware_provider.artifacts import Artifacts
from runware_provider.durable import GenerationRuntime
from runware_provider.errors import GenerationNotFound, RunwareProviderError, ServiceStopping
from runware_provider.generation import Generation
from runware_provider.projection import Projection
from runware_provider.types import ArtifactSummary, SuccessOutput

T = TypeVar("T")

SIZES = (240, 480, 960, 1600)
"""Widths in pixels. Others are not made: whoever asks for all numbers would fill the disk."""

TALLEST = 4
"""Times its width that a thumbnail is high at most."""

MAX_PIXELS = 40_000_000
"""Of an image that is decoded: with transparency that takes a third of a gigabyte."""

LARGE_PIXELS = 8_000_000
"""From here on one at a time."""

MAX_CACHE_BYTES = 512 * 1024 * 1024
THREADS = 2
MAX_WAITING = 256
"""Thumbnails that are asked for and not made yet."""

AT_ONCE = 4
"""Of them that are being fetched or made."""

MAX_KNOWN_BAD = 1_000
"""Images without a thumbnail that are remembered, so that they are not fetched at each view."""

QUALITY = 82

_ORIENTATION = 0x0112
"""EXIF's tag: browsers turn an image by it."""


class NoThumbnail(Exception):
    """There is none of this image, and why."""


class Busy(Exception):
    """Too many wait already."""


class Thumbnails:
    """The thumbnails below `folder`, which is this process's alone: WebP, of an image's own proportions, never larger.

    Those of a generation that is deleted are removed at once; after a restart when the first thumbnail is asked for.
    """

    def __init__(self, artifacts: Artifacts, runtime: GenerationRuntime, projection: Projection, folder: Path) -> None:
        self._artifacts = artifacts
        self._runtime = runtime
        self._projection = projection
        self._folder = folder
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="thumbnails")
        self._places = asyncio.Semaphore(AT_ONCE)
        self._large = asyncio.Lock()
        self._making: dict[Path, asyncio.Task[bytes]] = {}
        self._bad: OrderedDict[Path, str] = OrderedDict()
        self._opened: asyncio.Task[None] | None = None
        self._follower: asyncio.Task[None] | None = None
        self._sizes: OrderedDict[Path, int] = OrderedDict()
        self._paths: dict[UUID, set[Path]] = {}
        self._total = 0

    async def get(self, generation_id: UUID, image: SuccessOutput | ArtifactSummary, size: int) -> bytes:
        """One thumbnail. Raises NoThumbnail, Busy, StoreUnavailable, OutputNotFound."""
        if size not in SIZES:
            raise NoThumbnail(f"thumbnails are {', '.join(map(str, SIZES))} pixels wide")
        await self._open()
        name = f"{generation_id}-{image.id}-{image.sha256[:12]}-{size}.webp"
        path = self._folder / image.id.hex[:2] / name
        if path in self._bad:
            raise NoThumbnail(self._bad[path])
        if path in self._sizes:
            self._sizes.move_to_end(path)
            with suppress(OSError):  # somebody has tidied up
                return await asyncio.to_thread(path.read_bytes)  # not behind those that are being made
            self._forget(path)
        making = self._making.get(path)
        if making is None:
            if len(self._making) >= MAX_WAITING:
                raise Busy
            making = self._making[path] = asyncio.create_task(
                self._make(generation_id, image, size, path), name="thumbnail"
            )
            making.add_done_callback(partial(self._made, path))
        return await asyncio.shield(making)  # whoever scrolls on leaves it to the next

    async def _open(self) -> None:
        if self._opened is None or (self._opened.done() and self._opened.exception() is not None):
            self._opened = asyncio.create_task(self._read_folder())
        await asyncio.shield(self._opened)
        if self._follower is None or self._follower.done():
            self._follower = asyncio.create_task(self._follow(), name="thumbnails-deletes")

    async def _read_folder(self) -> None:
        for path, size in (await self._run(partial(_found, self._folder))).items():
            self._remember(path, size)

    def _remember(self, path: Path, size: int) -> None:
        self._forget(path)
        self._sizes[path] = size
        self._total += size
        self._paths.setdefault(_generation(path), set()).add(path)

    def _forget(self, path: Path) -> None:
        size = self._sizes.pop(path, None)
        if size is not None:
            self._total -= size
            paths = self._paths[_generation(path)]
            paths.discard(path)
            if not paths:
                del self._paths[_generation(path)]

    def _made(self, path: Path, making: "asyncio.Task[bytes]") -> None:
        del self._making[path]
        error = None if making.cancelled() else making.exception()
        if isinstance(error, NoThumbnail):
            self._bad[path] = str(error)
            while len(self._bad) > MAX_KNOWN_BAD:
                self._bad.popitem(last=False)

    async def _make(self, generation_id: UUID, image: SuccessOutput | ArtifactSummary, size: int, path: Path) -> bytes:
        pixels = image.width * image.height
        if pixels > MAX_PIXELS:
            raise NoThumbnail(f"the image has more than {MAX_PIXELS} pixels")
        async with self._places, self._large if pixels > LARGE_PIXELS else nullcontext():
            local = self._artifacts.local_path(image.key)
            if local is not None:
                content = await self._run(partial(_shrunk_file, local, size))
            else:
                with tempfile.TemporaryFile(dir=self._folder.parent) as copy:
                    async for piece in await self._artifacts.read(image.key):
                        await self._run(partial(copy.write, piece))
                    content = await self._run(partial(_shrunk, copy, size))
        if await self._is_gone(generation_id):
            return content  # deleted meanwhile: whoever asked may have it, and it is not kept
        with suppress(OSError):  # a disk without room: it is made again when it is wanted again
            await self._run(partial(_keep, path, content))
            self._remember(path, len(content))
        while self._total > MAX_CACHE_BYTES:
            await self._remove(next(iter(self._sizes)))
        return content

    async def _follow(self) -> None:
        """Remove what belongs to generations that are deleted, now or while nobody looked."""
        with suppress(ServiceStopping), self._runtime.news() as news:
            changed: Collection[UUID] = list(self._paths)
            while True:
                for generation_id in [each for each in changed if each in self._paths]:
                    if await self._is_gone(generation_id):
                        for path in [*self._paths.get(generation_id, ())]:
                            await self._remove(path)
                taken = await news.take()
                changed = list(self._paths) if taken is None else taken

    async def _is_gone(self, generation_id: UUID) -> bool:
        """Whether it was deleted; what cannot be asked was not."""
        try:
            try:
                return await self._runtime.look(generation_id, _deleted)
            except GenerationNotFound:  # state has let go of it, which the team has not
                return await self._projection.get(generation_id) is None
        except RunwareProviderError:
            return False

    async def _remove(self, path: Path) -> None:
        self._forget(path)
        with suppress(OSError):
            await self._run(partial(path.unlink, missing_ok=True))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _deleted(generation: Generation) -> bool:
    return generation.register.deleted_at is not None


def _generation(path: Path) -> UUID:
    return UUID(path.name[:36])


def _found(folder: Path) -> "OrderedDict[Path, int]":
    """What lies there from earlier, the oldest first; what was not finished is removed."""
    seen: list[tuple[float, Path, int]] = []
    for path in folder.glob("??/*"):
        if path.suffix != ".webp":
            path.unlink(missing_ok=True)
            continue
        stat = path.stat()
        seen.append((stat.st_mtime, path, stat.st_size))
    return OrderedDict((path, size) for _, path, size in sorted(seen))


def _shrunk_file(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        return _shrunk(file, size)


def _shrunk(file: BinaryIO, size: int) -> bytes:
    """The thumbnail as WebP. Raises NoThumbnail."""
    from PIL import Image, ImageOps  # when there is one to be made, and not at the start

    try:
        file.seek(0)
        with Image.open(file, formats=("JPEG", "PNG", "WEBP", "AVIF", "GIF")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise NoThumbnail(f"the image has more than {MAX_PIXELS} pixels")
            fit = (size, min(size * TALLEST, -(-image.height * size // image.width)))
            image.draft("RGB", fit)  # a JPEG is then decoded at a fraction of its size
            small = ImageOps.exif_transpose(image) if image.getexif().get(_ORIENTATION, 1) != 1 else image
            small.thumbnail(fit, Image.Resampling.BICUBIC, reducing_gap=2.0)
            opaque = small.mode in {"RGB", "L"} or ("transparency" not in small.info and "A" not in small.getbands())
            content = BytesIO()
            small.convert("RGB" if opaque else "RGBA").save(content, "WEBP", quality=QUALITY, method=1)
            return content.getvalue()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise NoThumbnail(f"the image cannot be decoded: {error}") from error


def _keep(path: Path, content: bytes) -> None:
    """Whole or not at all. Not synced: what is lost is made again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.urandom(4).hex()}")
    part.write_bytes(content)
    part.replace(path)
