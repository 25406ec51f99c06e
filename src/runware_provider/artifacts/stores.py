"""Where images are kept: what this room needs of a store, and the two kinds there are.

All of it is blocking and runs in a thread, so that checking, writing and syncing one image is one hop, and so that a
put is never cancelled half-way (a cancelled multipart upload would stay behind on S3).
"""

import os
import re
import stat
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit
from uuid import UUID

import obstore
from obstore.exceptions import BaseError
from obstore.store import MemoryStore, ObjectStore, from_url

from runware_provider.artifacts.refusal import StoreUnavailable
from runware_provider.artifacts.spool import MEMORY_BYTES, Spool, empty
from runware_provider.errors import ConfigurationError, OutputNotFound

TOP = "generations"
CACHE_CONTROL = "private, max-age=31536000, immutable"
"""The bytes under one key never change: the key has their digest."""

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_KEY = re.compile(rf"{TOP}/{_UUID}/{_UUID}-[0-9a-f]{{12}}\.[a-z]{{3,4}}")
_STALE_SECONDS = 3_600.0
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def key_of(generation_id: UUID, output_id: UUID, sha256: str, extension: str) -> str:
    """Where the image lies. The same bytes of one output meet under one key; other bytes never overwrite them."""
    return f"{TOP}/{generation_id}/{output_id}-{sha256[:12]}.{extension}"


def checked(key: str) -> str:
    """`key`, when it is one that we make. Raises OutputNotFound, so that no other path ever reaches a store."""
    if not _KEY.fullmatch(key):
        raise OutputNotFound("no such image")
    return key


class Store(Protocol):
    """Keeps images under keys. Every method blocks. Keys have passed `checked`.

    Raises StoreUnavailable for whatever goes wrong; then nothing is known, and the call may be repeated.
    """

    folder: Path
    """Where to spool what is to be put."""

    threads: int
    """How many calls at once are worth while."""

    def put(self, key: str, spool: Spool, content_type: str) -> None:
        """Keep the image, durably once this returns. All of it or nothing is there, whatever happens. Repeatable."""
        ...

    def read(self, key: str, start: int, length: int) -> tuple[bytes, int]:
        """At most `length` bytes from `start`, and the size of the whole. Raises OutputNotFound."""
        ...

    def delete(self, key: str) -> None:
        """Remove the image; no error when it is not there."""
        ...

    def purge(self, generation_id: UUID) -> int:
        """Remove all images of the generation, and say how many there were."""
        ...

    def local_path(self, key: str) -> Path | None:
        """The image as a file, None when this store has no files. Raises OutputNotFound."""
        ...


def open_store(url: str, data_dir: Path) -> Store:
    """The store that `url` names. Blocking. Raises ConfigurationError."""
    scheme, _, _ = url.partition("://")
    if scheme == "file":
        return FileStore(_root(url), data_dir)
    try:
        if scheme == "memory":
            return ObstoreStore(MemoryStore(), data_dir)
        if scheme in ("s3", "gs", "az"):
            # No client options here: they would replace those that obstore reads from AWS_ALLOW_HTTP and its like.
            made = from_url(url, retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=30)})
            return ObstoreStore(made, data_dir)
    except (BaseError, ValueError) as error:
        raise ConfigurationError(f"ARTIFACTS_URL: {_said(error)}") from error
    except OSError as error:
        raise _unwritable(data_dir, error) from error
    raise ConfigurationError(
        f"ARTIFACTS_URL: {scheme[:20]!r} is not a kind of store; use file:///absolute/path, memory://, "
        "s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
    )


def _root(url: str) -> Path:
    parts = urlsplit(url)
    path = Path(unquote(parts.path))
    if (
        parts.netloc not in ("", "localhost")
        or parts.query
        or parts.fragment
        or not path.is_absolute()
        or "\0" in str(path)
    ):
        raise ConfigurationError("ARTIFACTS_URL: a file store is named as file:///absolute/path, with three slashes")
    return path


def _unwritable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"cannot write to {path}: {error.strerror or error}; make it a folder that this user can write to, or name "
        "another one (DATA_DIR, ARTIFACTS_URL)"
    )


def _said(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # without the path, which is nothing to clients
    # obstore appends a dump of its own structures, settings among them.
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class FileStore:
    """A folder. An image in it has survived a loss of power once `put` returns.

    File, then name, then folder are synced, in this order. What is being written lies in `DATA_DIR/tmp`, or in `.tmp`
    inside the root when that is on another file system: only a rename within one is atomic.
    """

    threads = 8

    def __init__(self, root: Path, data_dir: Path) -> None:
        try:
            root.mkdir(parents=True, exist_ok=True)
            self._root = root.resolve(strict=True)
            self._top = self._root / TOP
            self._top.mkdir(exist_ok=True)
            _sync_folder(self._top)
            _sync_folder(self._root)
            for above in self._root.parents:
                with suppress(OSError):  # one that we may not even open was not made by us
                    _sync_folder(above)
        except OSError as error:
            raise _unwritable(root, error) from error
        self.folder = data_dir / "tmp"
        try:
            empty(self.folder)
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        if not self._can_rename_from(self.folder):
            self.folder = self._root / ".tmp"
            try:
                # Another service may share this root, so only what nobody can still be writing is removed.
                empty(self.folder, older_than=_STALE_SECONDS)
            except OSError as error:
                raise _unwritable(self.folder, error) from error
        # Folders whose own name is known to be on disk; beyond this many, one is just synced once more.
        self._synced: OrderedDict[str, None] = OrderedDict()

    def _can_rename_from(self, folder: Path) -> bool:
        """Tried, not concluded from device numbers: two bind mounts of one device refuse it too."""
        probe, landed = folder / f"{os.getpid()}.probe", self._top / f".{os.getpid()}.probe"
        try:
            probe.touch(0o600)
        except OSError as error:
            raise _unwritable(folder, error) from error
        try:
            probe.rename(landed)
        except OSError:
            probe.unlink(missing_ok=True)
            return False
        landed.unlink(missing_ok=True)
        return True

    def put(self, key: str, spool: Spool, content_type: str) -> None:  # noqa: ARG002 - the key's ending tells the type
        """See Store."""
        path = self._root / key
        try:
            temporary, file = spool.as_file()
            os.fsync(file)
            try:
                self._make(path.parent, known=path.parent.name in self._synced)
                new = not os.path.lexists(path)
                os.replace(temporary, path)  # noqa: PTH105 - Path.replace is this and a new Path
            except FileNotFoundError:  # the generation was purged in between
                self._make(path.parent, known=False)
                new = True
                os.replace(temporary, path)  # noqa: PTH105
            spool.moved()
            try:
                _sync_folder(path.parent)
            except OSError:
                if new:  # perhaps not on disk, so not kept; an older one of the same name is, and stays
                    path.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise StoreUnavailable(_said(error)) from error

    def _make(self, folder: Path, *, known: bool) -> None:
        if known:
            return
        try:
            folder.mkdir()
        except FileExistsError:
            if folder.is_symlink():
                raise
        # Also when it was there: who made it may not have synced it yet.
        _sync_folder(self._top)
        self._synced[folder.name] = None
        while len(self._synced) > 10_000:
            with suppress(KeyError):  # another thread was faster
                self._synced.popitem(last=False)

    def read(self, key: str, start: int, length: int) -> tuple[bytes, int]:
        """See Store."""
        file = self._open(key)
        try:
            size = os.fstat(file).st_size
            parts: list[bytes] = []
            while length > 0 and (part := os.pread(file, length, start)):
                parts.append(part)
                start += len(part)
                length -= len(part)
            return b"".join(parts) if len(parts) != 1 else parts[0], size
        except OSError as error:
            raise StoreUnavailable(_said(error)) from error
        finally:
            os.close(file)

    def _open(self, key: str) -> int:
        """A descriptor of the image. No link is followed below the root, neither a file's nor a folder's."""
        path = self._root / key
        try:
            folder = os.open(path.parent, _DIRECTORY)
            try:
                file = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
            finally:
                os.close(folder)
        except (FileNotFoundError, NotADirectoryError):
            raise OutputNotFound("no such image") from None
        except OSError as error:
            if path.is_symlink() or path.parent.is_symlink():
                raise OutputNotFound("no such image") from None
            raise StoreUnavailable(_said(error)) from error
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise OutputNotFound("no such image")
        return file

    def delete(self, key: str) -> None:
        """See Store."""
        path = self._root / key
        try:
            folder = os.open(path.parent, _DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise StoreUnavailable(_said(error)) from error
        try:
            with suppress(FileNotFoundError):
                os.unlink(path.name, dir_fd=folder)
            os.fsync(folder)
        except OSError as error:
            raise StoreUnavailable(_said(error)) from error
        finally:
            os.close(folder)
        self._remove_empty(path.parent)

    def purge(self, generation_id: UUID) -> int:
        """See Store."""
        path = self._top / str(generation_id)
        removed = 0
        try:
            folder = os.open(path, _DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return 0
        except OSError as error:
            raise StoreUnavailable(_said(error)) from error
        try:
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]
            for name in names:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
                    removed += 1
            os.fsync(folder)
        except OSError as error:
            raise StoreUnavailable(_said(error)) from error
        finally:
            os.close(folder)
        self._remove_empty(path)
        return removed

    def _remove_empty(self, folder: Path) -> None:
        """Remove the folder unless something lies in it. A put that is about to use it makes it again."""
        try:
            folder.rmdir()
            self._synced.pop(folder.name, None)
            _sync_folder(self._top)
        except OSError:
            return  # an empty folder does no harm

    def local_path(self, key: str) -> Path | None:
        """See Store."""
        os.close(self._open(key))
        return self._root / key


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
            raise StoreUnavailable(_said(error)) from error

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
            raise StoreUnavailable(_said(error)) from error

    def delete(self, key: str) -> None:
        """See Store."""
        try:
            obstore.delete(self._store, key)
        except FileNotFoundError:
            return
        except (BaseError, OSError, ValueError) as error:
            raise StoreUnavailable(_said(error)) from error

    def purge(self, generation_id: UUID) -> int:
        """See Store."""
        try:
            found = [one["path"] for some in obstore.list(self._store, f"{TOP}/{generation_id}") for one in some]
            if found:
                obstore.delete(self._store, found)
            return len(found)
        except (BaseError, OSError, ValueError) as error:
            raise StoreUnavailable(_said(error)) from error

    def local_path(self, key: str) -> Path | None:  # noqa: ARG002 - there are no files
        """See Store."""
        return None


def _pieces(spool: Spool) -> Iterator[bytes]:
    """The spooled image, piece by piece. Raises InterruptedError when it is no longer wanted: obstore then aborts."""
    for offset in range(0, spool.size, MEMORY_BYTES):
        if spool.stopped:
            raise InterruptedError("the put was stopped")
        yield spool.read_at(offset, MEMORY_BYTES)
