"""Memory and buckets as stores, through obstore."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from runware_provider.artifacts.refusal import StoreUnavailable
from runware_provider.artifacts.spool import Spool, empty
from runware_provider.artifacts.store import TOP, said
from runware_provider.errors import OutputNotFound

CACHE_CONTROL = "private, max-age=31536000, immutable"
"""The bytes under one key never change: the key has their digest."""

UPLOAD_BYTES = 1 << 20
"""A large image goes to the store in pieces of this size."""


class ObstoreStore:
    """Anything that `obstore` speaks to: memory now, buckets by configuration."""

    threads = 16  # they wait for the network, not for one disk

    def __init__(self, store: ObjectStore, data_dir: Path) -> None:
        self._store = store
        self.folder = data_dir / "tmp"
        empty(self.folder)

    def put(self, key: str, spool: Spool, content_type: str) -> None:
        """See Store. One request for a small image, a multipart upload for others."""
        try:
            obstore.put(
                self._store,
                key,
                spool.memory if spool.memory is not None else _pieces(spool),
                attributes={"Content-Type": content_type, "Cache-Control": CACHE_CONTROL},
                max_concurrency=1,  # part of 5 MiB in memory at a time
            )
        except (BaseError, OSError, ValueError) as error:
            raise StoreUnavailable(said(error)) from error

    def read(self, key: str, start: int, length: int) -> tuple[bytes, int]:
        """See Store."""
        try:
            size = obstore.head(self._store, key)["size"]
            stop = min(start + length, size)
            if stop <= start:
                return b"", size
            return bytes(obstore.get_range(self._store, key, start=start, end=stop)), size
        except FileNotFoundError:
            raise OutputNotFound("no such image") from None
        except (BaseError, OSError, ValueError) as error:
            raise StoreUnavailable(said(error)) from error

    def delete(self, key: str) -> None:
        """See Store."""
        try:
            obstore.delete(self._store, key)
        except FileNotFoundError:
            return
        except (BaseError, OSError, ValueError) as error:
            raise StoreUnavailable(said(error)) from error

    def purge(self, generation_id: UUID) -> int:
        """See Store."""
        try:
            found = [one["path"] for some in obstore.list(self._store, f"{TOP}/{generation_id}") for one in some]
            if found:
                obstore.delete(self._store, found)
            return len(found)
        except (BaseError, OSError, ValueError) as error:
            raise StoreUnavailable(said(error)) from error

    def local_path(self, key: str) -> Path | None:  # noqa: ARG002 - there are no files
        """See Store."""
        return None


def _pieces(spool: Spool) -> Iterator[bytes]:
    """The spooled image, piece by piece. Raises InterruptedError when it is no longer wanted: obstore then aborts."""
    for offset in range(0, spool.size, UPLOAD_BYTES):
        if spool.stopped:
            raise InterruptedError("the put was stopped")
        yield spool.read_at(offset, UPLOAD_BYTES)
