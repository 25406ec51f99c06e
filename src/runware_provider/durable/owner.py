"""Who owns a data directory: one process at a time, told by a lock that ends with its process."""

import fcntl
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

from runware_provider.errors import ConfigurationError, DataDirInUse

LOCK = "lock"
_POLL = 0.05

DEATH_WAIT = 2.0
"""Seconds for which the owner's lock may outlive it: a process that it had begun notices its death, and goes."""

NODE_FOLDERS = "nodes"
NODES = 256
"""Processes that share a data directory at most."""


class Owner:
    """Holds the lock of a data directory. The lock file tells others the owner's pid and where it listens."""

    def __init__(self, data_dir: Path, descriptor: int) -> None:
        self.data_dir = data_dir
        self.descriptor = descriptor
        """Of the lock, to be passed on to a process that must be gone as well before another owns this."""
        self.announce(None)

    @classmethod
    def acquire(cls, data_dir: Path, *, wait: float = 0.0) -> "Owner":
        """Become the owner, waiting up to `wait` seconds for another to go.

        Raises DataDirInUse, which says who holds it, and ConfigurationError when the folder cannot be used.
        """
        prepare(data_dir)
        try:
            descriptor = os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(data_dir, error) from error
        began = time.monotonic()
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waited = time.monotonic() - began
                if waited < wait or (waited < DEATH_WAIT and _is_dead(read_owner(data_dir))):
                    time.sleep(_POLL)
                    continue
                os.close(descriptor)
                holder = read_owner(data_dir) or {}
                raise DataDirInUse(
                    f"{data_dir} is in use by process {holder.get('pid', 'unknown')}"
                    f"{' at ' + holder['url'] if holder.get('url') else ''}. Stop it first, or give this one another "
                    "RUNWARE_PROVIDER_DATA_DIR; several processes on one state need RUNWARE_PROVIDER_STATE_URL="
                    "postgresql://"
                ) from None
            except BaseException:
                os.close(descriptor)
                raise
            return cls(data_dir, descriptor)

    @classmethod
    def acquire_node(cls, data_dir: Path) -> "Owner":
        """Become the owner of a folder of one's own inside `data_dir`, which many processes share.

        Raises ConfigurationError.
        """
        for number in range(1, NODES + 1):
            try:
                return cls.acquire(data_dir / NODE_FOLDERS / str(number))
            except DataDirInUse:
                continue
        raise ConfigurationError(
            f"{data_dir} has {NODES} processes already: give this one another RUNWARE_PROVIDER_DATA_DIR"
        )

    def announce(self, socket: Path | None, url: str | None = None) -> None:
        """Tell other processes where to speak to this one."""
        content = json.dumps({"pid": os.getpid(), "socket": str(socket) if socket else None, "url": url}).encode()
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, content, 0)

    def release(self) -> None:
        """Let the next one have it. A second time does nothing."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.ftruncate(descriptor, 0)
            os.close(descriptor)


def _is_dead(owner: Mapping[str, object] | None) -> bool:
    """Whether the process that announced itself is no more; who has not yet announced himself is taken to live."""
    if owner is None:
        return False
    try:
        os.kill(int(str(owner["pid"])), 0)
    except ProcessLookupError:
        return True
    except (OSError, KeyError, ValueError):
        pass
    return False


def prepare(data_dir: Path) -> None:
    """Make the data directory, for its owner only. Raises ConfigurationError."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(data_dir, error) from error


def _unusable(data_dir: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"the data directory {data_dir} cannot be used: {error.strerror}. "
        "Set RUNWARE_PROVIDER_DATA_DIR to a folder that you may write to"
    )


def node_folders(data_dir: Path) -> list[Path]:
    """The folders of processes that share `data_dir`, those that are gone among them."""
    return sorted((data_dir / NODE_FOLDERS).glob("*"))


def read_owner(data_dir: Path) -> dict[str, str] | None:
    """What the present owner announced: `pid`, `socket`, `url`. None when there is none, or it has not yet."""
    try:
        return {key: value for key, value in json.loads((data_dir / LOCK).read_bytes()).items() if value is not None}
    except (OSError, ValueError):
        return None
