"""The images: brought from Runware's CDN into the team's own store (`keeper.py`), and read from there."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

from aiohttp.abc import AbstractResolver

from runware_provider.artifacts.addresses import ImageHosts
from runware_provider.artifacts.bucket_access import BucketAccess
from runware_provider.artifacts.keeper import Keeper, Keeps
from runware_provider.artifacts.keeper_process import KeeperProcess
from runware_provider.artifacts.plan import Plan
from runware_provider.artifacts.refusal import NotKept, StoreUnavailable
from runware_provider.artifacts.spool import Spool
from runware_provider.artifacts.store import NOBODY, SignedMethod, Store, checked, key_of
from runware_provider.artifacts.stores import MEMORY, open_store
from runware_provider.artifacts.threads import Threads
from runware_provider.errors import ConfigurationError, InvalidArgs, OutputNotFound
from runware_provider.types import Stored

__all__ = ["Artifacts", "BucketAccess", "Content", "NotKept", "StoreUnavailable"]

SIGNED_FOR = timedelta(minutes=5)
"""How long an address that `Artifacts.sign` makes can be used."""

_READ_BYTES = 1 << 20


class Content:
    """The bytes of a stored image, or a range of them: `async for` gives them in pieces of at most 1 MiB.

    `size` is that of the whole image; `start` and `stop` (exclusive) say which of its bytes come. Holds nothing open,
    so that it may be dropped at any time; can be iterated more than once. A piece that cannot be read raises
    OutputNotFound (deleted meanwhile) or StoreUnavailable.
    """

    def __init__(
        self, first: bytes, start: int, stop: int, size: int, store: Store, key: str, threads: Threads
    ) -> None:
        self.start = start
        self.stop = stop
        self.size = size
        self._first = first
        self._store = store
        self._key = key
        self._threads = threads

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._first:
            yield self._first
        at = self.start + len(self._first)
        while at < self.stop:
            length = min(_READ_BYTES, self.stop - at)
            piece, _ = await self._threads.run(partial(self._store.read, self._key, at, length))
            if not piece:
                raise StoreUnavailable(f"{self._key} is shorter than it was")
            yield piece
            at += len(piece)


class Artifacts:
    """The images of one store.

    Safe for any number of tasks of one event loop; at most `concurrency` images are fetched at once, the rest wait.
    Each of them takes about 1 MiB of memory, buffers of the connection included, whatever its size; on their way into
    a bucket a few at a time take 10 MiB each.
    """

    def __init__(self, store: Store, keeper: Keeps, threads: Threads) -> None:
        self._store = store
        self._keeper = keeper
        self._threads = threads
        self._readers = Threads(store.threads)  # of their own: who looks at an image does not wait for uploads

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        data_dir: Path,
        image_hosts: Sequence[str],
        max_image_bytes: int,
        bucket_access: BucketAccess | None = None,
        concurrency: int = 16,
        fetch_timeout: timedelta = timedelta(minutes=2),
        stall_timeout: timedelta = timedelta(seconds=20),
        ipv6: bool = False,
        resolver: AbstractResolver | None = None,
        apart: bool = False,
        lock: int | None = None,
    ) -> "Artifacts":
        """Open the store at `url`: `file:///absolute/path`, `memory://`, and `s3://`, `r2://`, `gs://`, `az://`
        through obstore.

        `data_dir/tmp` is emptied, so it must belong to this process alone. `image_hosts`: see ImageHosts.
        `bucket_access` says how `s3://` and `r2://` are reached; what it leaves out comes from the environment. A
        bucket that refuses stops the start, one that does not answer does not.
        `fetch_timeout` is for one image as a whole, `stall_timeout` for the wait between two pieces of it. `ipv6`
        allows IPv6 addresses. `resolver`: aiohttp's own when None.
        `apart`: images are fetched, checked and kept in a process of their own, unless they are kept in memory; it
        begins at once, and takes a descriptor of `lock` along, so that whoever waits for that waits for both.

        Raises ConfigurationError, which says what to change.
        """
        if concurrency < 1 or max_image_bytes < 1:
            raise ConfigurationError("CONCURRENCY and MAX_IMAGE_BYTES must be at least 1")
        plan = Plan(
            url,
            data_dir,
            tuple(image_hosts),
            max_image_bytes,
            bucket_access or BucketAccess(),
            concurrency,
            fetch_timeout,
            stall_timeout,
            ipv6,
        )
        ImageHosts(image_hosts, ipv6=ipv6)  # what is wrong with them is said now
        store = await asyncio.to_thread(open_store, url, data_dir, plan.bucket_access)
        threads = Threads(store.threads)
        if not apart or url.startswith(MEMORY):
            return cls(store, Keeper(plan, store, threads, resolver), threads)
        process = KeeperProcess(plan, store.folder, lock)
        process.start()
        return cls(store, process, threads)

    async def keep(self, generation_id: UUID, output_id: UUID, url: str, *, attempt: int) -> Stored:
        """Fetch the image at `url`, check it, and keep it; durable once this returns.

        `attempt` counts from 1 and is what the error says. May be repeated: the same bytes come to lie under the same
        key. Raises NotKept for everything that can go wrong with address, CDN, image or store. When cancelled, it first
        waits for the write that runs; the image may then be kept or not.
        """
        return await self._keeper.keep(generation_id, output_id, url, attempt=attempt)

    async def read(self, key: str, byte_range: tuple[int, int] | None = None) -> Content:
        """The image under `key`, or its bytes from `byte_range[0]` up to, not including, `byte_range[1]`.

        A range that goes beyond the end is cut. Raises OutputNotFound for a key that is not there or not one of ours,
        InvalidArgs for a range that has no byte of the image in it, StoreUnavailable.
        """
        checked(key)
        start, stop = byte_range or (0, _READ_BYTES)
        if start < 0 or stop <= start:
            raise InvalidArgs([("range", f"{start}-{stop} is empty")])
        length = min(stop - start, _READ_BYTES)
        first, size = await self._readers.run(partial(self._store.read, key, start, length))
        if start >= size:
            raise InvalidArgs([("range", f"begins at {start}, the image has {size} bytes")])
        return Content(first, start, min(stop, size) if byte_range else size, size, self._store, key, self._readers)

    async def delete(self, key: str) -> None:
        """Remove the image under `key`; no error when it is not there.

        Raises OutputNotFound (not a key of ours), StoreUnavailable.
        """
        await self._threads.run(partial(self._store.delete, checked(key)))

    async def purge(self, generation_id: UUID) -> int:
        """Remove all images of one generation, and say how many there were. Raises StoreUnavailable."""
        return await self._threads.run(partial(self._store.purge, generation_id))

    async def sweep(self, generation_id: UUID, output_id: UUID, kept: str) -> int:
        """Remove every image of one output but `kept`, and say how many there were. Raises StoreUnavailable."""
        return await self._threads.run(partial(self._store.purge, generation_id, output_id=output_id, kept=kept))

    async def sign(self, key: str, method: SignedMethod) -> str | None:
        """An address of the image at the store itself, good for `method` and `SIGNED_FOR`; None when it has none.

        Whoever holds the address may have the image: it must not be logged. That the image is there is not checked.
        Raises OutputNotFound (not a key of ours), StoreUnavailable.
        """
        return await self._readers.run(partial(self._store.sign, checked(key), method, SIGNED_FOR))

    async def probe(self) -> None:
        """Put, read and remove an object of no generation. Raises StoreUnavailable."""
        content = b"a probe of runware-provider"
        with Spool(self._store.folder, "probe", self._threads) as spool:
            await spool.write(content)
            key = await self._threads.run(partial(self._put_probe, spool))
        try:
            found, _ = await self._threads.run(partial(self._store.read, key, 0, len(content)))
        except OutputNotFound:
            found = b""
        await self._threads.run(partial(self._store.delete, key))
        if found != content:
            raise StoreUnavailable("an object that was put could not be read back")

    def _put_probe(self, spool: Spool) -> str:
        try:
            # A key of its own, because another process may be trying the same store at this moment.
            key = key_of(NOBODY, uuid4(), spool.finish(), "bin")
            self._store.put(key, spool, "application/octet-stream")
        except OSError as error:
            raise StoreUnavailable(error.strerror or str(error)) from error
        return key

    def local_path(self, key: str) -> Path | None:
        """The image as a file of this machine, None when the store has none.

        Raises OutputNotFound, StoreUnavailable.
        """
        return self._store.local_path(checked(key))

    async def aclose(self) -> None:
        """Close connections and threads. Calls that still run must have been awaited or cancelled."""
        await self._keeper.aclose()
        await self._threads.aclose()
        await self._readers.aclose()
