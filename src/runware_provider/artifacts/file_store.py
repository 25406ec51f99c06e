"""A folder as a store: our own writer, because what is paid for must survive a loss of power."""

import os
import stat
from collections import OrderedDict
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from runware_provider.artifacts.page_cache import RecentlyWritten
from runware_provider.artifacts.refusal import StoreUnavailable
from runware_provider.artifacts.spool import Spool, prepare
from runware_provider.artifacts.store import TOP, SignedMethod, condemned, said, unwritable
from runware_provider.artifacts.syncs import SharedSyncs, sync_folder
from runware_provider.errors import OutputNotFound

_STALE_SECONDS = 3_600.0
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class FileStore:
    """A folder. An image in it has survived a loss of power once `put` returns.

    File, then name, then folder are synced, in this order. What is being written lies in `DATA_DIR/tmp`, or in `.tmp`
    inside the root when that is on another file system: only a rename within one is atomic.
    """

    threads = 8
    large = 8

    def __init__(self, root: Path, data_dir: Path, *, fresh: bool = True) -> None:
        try:
            root.mkdir(parents=True, exist_ok=True)
            self._root = root.resolve(strict=True)
            self._top = self._root / TOP
            self._top.mkdir(exist_ok=True)
            sync_folder(self._top)
            sync_folder(self._root)
            for above in self._root.parents:
                with suppress(OSError):  # one that we may not even open was not made by us
                    sync_folder(above)
        except OSError as error:
            raise unwritable(root, error) from error
        self.folder = data_dir / "tmp"
        try:
            prepare(self.folder, fresh=fresh)
        except OSError as error:
            raise unwritable(self.folder, error) from error
        if not self._can_rename_from(self.folder):
            self.folder = self._root / ".tmp"
            try:
                # Another service may share this root, so only what nobody can still be writing is removed.
                prepare(self.folder, fresh=fresh, older_than=_STALE_SECONDS)
            except OSError as error:
                raise unwritable(self.folder, error) from error
        self._sync = SharedSyncs()
        self._written = RecentlyWritten()
        # Folders whose own name is known to be on disk; beyond this many, one is just synced once more.
        self._synced: OrderedDict[str, None] = OrderedDict()

    def _can_rename_from(self, folder: Path) -> bool:
        """Tried, not concluded from device numbers: two bind mounts of one device refuse it too."""
        probe, landed = folder / f"{os.getpid()}.probe", self._top / f".{os.getpid()}.probe"
        try:
            probe.touch(0o600)
        except OSError as error:
            raise unwritable(folder, error) from error
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
        folder = path.parent
        try:
            temporary, file = spool.as_file()
            # Before the file is synced: a file system with a journal then has both in one go, and the folder's own sync
            # has nothing left to wait for.
            made = folder.name not in self._synced and _make(folder)
            os.fsync(file)
            if made:
                self._sync_top(folder)
            try:
                new = not os.path.lexists(path)
                os.replace(temporary, path)  # noqa: PTH105 - Path.replace is this and a new Path
            except FileNotFoundError:  # the generation was purged in between
                _make(folder)
                self._sync_top(folder)
                new = True
                os.replace(temporary, path)  # noqa: PTH105
            spool.moved()
            try:
                self._sync(folder)
            except OSError:
                if new:  # perhaps not on disk, so not kept; an older one of the same name is, and stays
                    path.unlink(missing_ok=True)
                raise
            self._written.add(path, spool.size)
        except OSError as error:
            raise StoreUnavailable(said(error)) from error

    def _sync_top(self, folder: Path) -> None:
        """The name of `folder` is on disk once this returns."""
        self._sync(self._top)
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
            raise StoreUnavailable(said(error)) from error
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
            raise StoreUnavailable(said(error)) from error
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
            raise StoreUnavailable(said(error)) from error
        try:
            with suppress(FileNotFoundError):
                os.unlink(path.name, dir_fd=folder)
            os.fsync(folder)
        except OSError as error:
            raise StoreUnavailable(said(error)) from error
        finally:
            os.close(folder)
        self._remove_empty(path.parent)

    def purge(self, generation_id: UUID, *, output_id: UUID | None = None, kept: str | None = None) -> int:
        """See Store."""
        path = self._top / str(generation_id)
        removed = 0
        try:
            folder = os.open(path, _DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return 0
        except OSError as error:
            raise StoreUnavailable(said(error)) from error
        try:
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]
            for name in names:
                if not condemned(name, output_id, kept):
                    continue
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
                    removed += 1
            os.fsync(folder)
        except OSError as error:
            raise StoreUnavailable(said(error)) from error
        finally:
            os.close(folder)
        self._remove_empty(path)
        return removed

    def _remove_empty(self, folder: Path) -> None:
        """Remove the folder unless something lies in it. A put that is about to use it makes it again."""
        try:
            folder.rmdir()
            self._synced.pop(folder.name, None)
            sync_folder(self._top)
        except OSError:
            return  # an empty folder does no harm

    def sign(self, key: str, method: SignedMethod, lifetime: timedelta) -> str | None:  # noqa: ARG002
        """See Store."""
        return None

    def local_path(self, key: str) -> Path | None:
        """See Store."""
        os.close(self._open(key))
        return self._root / key


def _make(folder: Path) -> bool:
    """Make a generation's folder. True, also when it was there: who made it may not have synced it yet."""
    try:
        folder.mkdir()
    except FileExistsError:
        if folder.is_symlink():
            raise
    return True
