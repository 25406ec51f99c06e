"""What this room needs of a place where images are kept, and the keys they are kept under.

All of it is blocking and runs in a thread, so that checking, writing and syncing one image is one hop, and so that a
put is never cancelled half-way (a cancelled multipart upload would stay behind on S3).
"""

import re
from datetime import timedelta
from pathlib import Path
from typing import Literal, Protocol
from uuid import UUID

from runware_provider.artifacts.spool import Spool
from runware_provider.errors import ConfigurationError, OutputNotFound

TOP = "generations"

NOBODY = UUID(int=0)
"""No generation has this id; what is put, or looked for, as a trial has."""

SignedMethod = Literal["GET", "HEAD"]

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_KEY = re.compile(rf"{TOP}/{_UUID}/{_UUID}-[0-9a-f]{{12}}\.[a-z]{{3,4}}")


def key_of(generation_id: UUID, output_id: UUID, sha256: str, extension: str) -> str:
    """Where the image lies. The same bytes of one output meet under one key; other bytes never overwrite them."""
    return f"{TOP}/{generation_id}/{output_id}-{sha256[:12]}.{extension}"


def condemned(name: str, output_id: UUID | None, kept: str | None) -> bool:
    """Whether a purge removes the object with this name, the last part of its key."""
    return (output_id is None or name.startswith(f"{output_id}-")) and name != (kept or "").rpartition("/")[2]


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

    large: int
    """How many images at once that are too large for their spool's memory."""

    def put(self, key: str, spool: Spool, content_type: str) -> None:
        """Keep the image, durably once this returns. All of it or nothing is there, whatever happens. Repeatable."""
        ...

    def read(self, key: str, start: int, length: int) -> tuple[bytes, int]:
        """At most `length` bytes from `start`, and the size of the whole. Raises OutputNotFound."""
        ...

    def delete(self, key: str) -> None:
        """Remove the image; no error when it is not there."""
        ...

    def purge(self, generation_id: UUID, *, output_id: UUID | None = None, kept: str | None = None) -> int:
        """Remove all images of the generation, or of one output, but `kept`; say how many there were."""
        ...

    def sign(self, key: str, method: SignedMethod, lifetime: timedelta) -> str | None:
        """An address at which anybody may have the image for so long; None when this store has no addresses."""
        ...

    def local_path(self, key: str) -> Path | None:
        """The image as a file, None when this store has no files. Raises OutputNotFound."""
        ...


def unwritable(path: Path, error: OSError) -> ConfigurationError:
    """What to tell the operator of `path`."""
    return ConfigurationError(
        f"cannot write to {path}: {error.strerror or error}; make it a folder that this user can write to, or name "
        "another one (DATA_DIR, ARTIFACTS_URL)"
    )


def said(error: BaseException) -> str:
    """The store's own message, in one line and without what is only the operator's."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # without the path, which is nothing to clients
    # obstore appends a dump of its own structures, settings among them.
    return (str(error).strip() or type(error).__name__).splitlines()[0]
