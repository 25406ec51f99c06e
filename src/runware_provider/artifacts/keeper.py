"""Bring one image into the store: fetch, spool, check, put.

An image goes from the CDN into a spool (memory up to 256 KiB, then a temporary file). When the whole is there, one hop
into a thread computes its SHA-256, walks its structure and puts it into the store. What was not found to be a whole
image of a known format never reaches the store.
"""

import asyncio
from contextlib import nullcontext
from functools import partial
from typing import Protocol
from uuid import UUID

from aiohttp.abc import AbstractResolver

from runware_provider.artifacts.addresses import ImageHosts
from runware_provider.artifacts.fetch import Fetcher
from runware_provider.artifacts.inspect import inspect
from runware_provider.artifacts.plan import Plan
from runware_provider.artifacts.refusal import NotKept, StoreUnavailable, unreachable
from runware_provider.artifacts.spool import Spool
from runware_provider.artifacts.store import Store, key_of
from runware_provider.artifacts.threads import Threads
from runware_provider.errors import ContentRejected, storage_failed
from runware_provider.types import Stored


class Keeps(Protocol):
    """Who keeps images: this process, or one that does nothing else."""

    async def keep(self, generation_id: UUID, output_id: UUID, url: str, *, attempt: int) -> Stored:
        """See `Artifacts.keep`."""

    async def aclose(self) -> None:
        """Close connections. Calls that still run must have been awaited or cancelled."""


class Keeper:
    """See `Keeps`. At most `plan.concurrency` images are on their way at once, the rest wait."""

    def __init__(self, plan: Plan, store: Store, threads: Threads, resolver: AbstractResolver | None = None) -> None:
        self._store = store
        self._threads = threads
        self._fetcher = Fetcher(
            ImageHosts(plan.image_hosts, ipv6=plan.ipv6),
            max_bytes=plan.max_image_bytes,
            total=plan.fetch_timeout,
            stall=plan.stall_timeout,
            ipv6=plan.ipv6,
            resolver=resolver,
        )
        self._slots = asyncio.Semaphore(plan.concurrency)
        self._places = asyncio.Semaphore(store.large)

    async def keep(self, generation_id: UUID, output_id: UUID, url: str, *, attempt: int) -> Stored:
        """See `Artifacts.keep`."""
        name = f"generations/{generation_id}/{output_id}"
        async with self._slots:
            with Spool(self._store.folder, name, self._threads) as spool:
                framed = await self._fetcher.fetch(url, spool.write, attempt=attempt)
                try:
                    work = partial(self._check_and_put, generation_id, output_id, spool)
                    async with self._places if spool.memory is None else nullcontext():
                        return await self._threads.run(work, stop=spool.stop)
                except NotKept as refusal:
                    error = refusal.error
                    if framed or not (isinstance(error, ContentRejected) and error.reason == "truncated"):
                        raise
                    # Nobody said where the body ends, so the connection that closed is to blame, not the image.
                    raise unreachable(url, f"the connection closed early: {error.message}", attempt) from None
                except OSError as error:
                    raise NotKept(storage_failed(name, f"cannot spool the image: {error.strerror}")) from error

    def _check_and_put(self, generation_id: UUID, output_id: UUID, spool: Spool) -> Stored:
        digest = spool.finish()
        picture = inspect(spool)
        key = key_of(generation_id, output_id, digest, picture.extension)
        try:
            self._store.put(key, spool, picture.content_type)
        except StoreUnavailable as error:
            raise NotKept(storage_failed(key, str(error))) from error
        return Stored(output_id, key, picture.content_type, spool.size, digest, picture.width, picture.height)

    async def aclose(self) -> None:
        """See `Keeps`."""
        await self._fetcher.aclose()
