"""Memory and buckets as stores, through obstore."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, MemoryStore, ObjectStore, S3Store

from runware_provider.artifacts.complaints import explain
from runware_provider.artifacts.refusal import StoreUnavailable
from runware_provider.artifacts.spool import Spool, prepare
from runware_provider.artifacts.store import TOP, SignedMethod, condemned
from runware_provider.errors import OutputNotFound

CACHE_CONTROL = "private, max-age=31536000, immutable"
"""The bytes under one key never change: the key has their digest."""

PART_BYTES = 5 << 20
"""The least that S3 takes as a part, and so the most that is sent as one request."""

UPLOAD_BYTES = 1 << 20
"""A large image goes to the store in pieces of this size."""

PAGE = 1_000
"""Keys that S3 lists, and deletes, with one request."""

_FAILURES = (BaseError, OSError, ValueError)


class ObstoreStore:
    """Anything that `obstore` speaks to: memory, and buckets. `name` is what errors call it."""

    threads = 16  # they wait for the network, not for one disk
    large = 6  # each takes two parts of memory meanwhile

    def __init__(self, store: ObjectStore, name: str, data_dir: Path, *, fresh: bool = True) -> None:
        self._store = store
        self._name = name
        self.folder = data_dir / "tmp"
        prepare(self.folder, fresh=fresh)

    def put(self, key: str, spool: Spool, content_type: str) -> None:
        """See Store. One request for an image of up to `PART_BYTES`, a multipart upload for others."""
        content: bytes | bytearray | Iterator[bytes] | None = spool.memory
        if content is None:
            content = spool.read_at(0, PART_BYTES) if spool.size <= PART_BYTES else _pieces(spool)
        try:
            obstore.put(
                self._store,
                key,
                content,
                attributes={"Content-Type": content_type, "Cache-Control": CACHE_CONTROL},
                chunk_size=PART_BYTES,
                max_concurrency=1,  # one part in memory at a time
            )
        except _FAILURES as error:
            raise self._unavailable(error) from error

    def read(self, key: str, start: int, length: int) -> tuple[bytes, int]:
        """See Store. One request."""
        try:
            found = obstore.get(self._store, key, options={"range": (start, start + length)})
            return bytes(found.bytes()), found.meta["size"]
        except FileNotFoundError as error:
            if explain(error, self._name).no_bucket:
                raise self._unavailable(error) from error
            raise OutputNotFound("no such image") from None
        except _FAILURES as error:
            if explain(error, self._name).status == 416 or isinstance(self._store, MemoryStore):
                return b"", self._size(key)
            raise self._unavailable(error) from error

    def _size(self, key: str) -> int:
        try:
            return obstore.head(self._store, key)["size"]
        except FileNotFoundError:
            raise OutputNotFound("no such image") from None
        except _FAILURES as error:
            raise self._unavailable(error) from error

    def delete(self, key: str) -> None:
        """See Store."""
        try:
            obstore.delete(self._store, key)
        except FileNotFoundError as error:
            if explain(error, self._name).no_bucket:
                raise self._unavailable(error) from error
        except _FAILURES as error:
            raise self._unavailable(error) from error

    def purge(self, generation_id: UUID, *, output_id: UUID | None = None, kept: str | None = None) -> int:
        """See Store. A page at a time; what somebody else removed meanwhile makes it fail, and the repeat succeed."""
        removed = 0
        try:
            for page in obstore.list(self._store, f"{TOP}/{generation_id}", chunk_size=PAGE):
                paths = [one["path"] for one in page]
                paths = [path for path in paths if condemned(path.rpartition("/")[2], output_id, kept)]
                if paths:
                    obstore.delete(self._store, paths)
                removed += len(paths)
        except _FAILURES as error:
            raise self._unavailable(error) from error
        return removed

    def sign(self, key: str, method: SignedMethod, lifetime: timedelta) -> str | None:
        """See Store."""
        if not isinstance(self._store, S3Store | GCSStore | AzureStore):
            return None
        try:
            return obstore.sign(self._store, method, key, lifetime)
        except _FAILURES as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: BaseException) -> StoreUnavailable:
        return StoreUnavailable(explain(error, self._name).text)

    def local_path(self, key: str) -> Path | None:  # noqa: ARG002 - there are no files
        """See Store."""
        return None


def _pieces(spool: Spool) -> Iterator[bytes]:
    """The spooled image, piece by piece. Raises InterruptedError when it is no longer wanted: obstore then aborts."""
    for offset in range(0, spool.size, UPLOAD_BYTES):
        if spool.stopped:
            raise InterruptedError("the put was stopped")
        yield spool.read_at(offset, UPLOAD_BYTES)
