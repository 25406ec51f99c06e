"""From a URL to the store that it names."""

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from runware_provider.artifacts.bucket_access import SCHEMES, BucketAccess
from runware_provider.artifacts.file_store import FileStore
from runware_provider.artifacts.store import Store, unwritable
from runware_provider.errors import ConfigurationError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

MEMORY = "memory://"


def open_store(url: str, data_dir: Path, access: BucketAccess, *, fresh: bool = True) -> Store:
    """The store that `url` names. Blocking. `fresh`: what lies in `data_dir/tmp` is removed.

    Raises ConfigurationError.
    """
    scheme, found, _ = url.partition("://")
    if found and scheme in SCHEMES:
        return _bucket(url, data_dir, access, fresh=fresh)
    if access.given:
        raise ConfigurationError(
            f"{', '.join(access.given)}: set for a bucket, but ARTIFACTS_URL names none; set it to s3://bucket/prefix"
        )
    if found and scheme == "file":
        return FileStore(_root(url), data_dir, fresh=fresh)
    if url.startswith(MEMORY):
        return _memory(data_dir, fresh=fresh)
    # Nothing of it is shown: an address that is written wrongly may begin with a password.
    raise ConfigurationError(
        f"ARTIFACTS_URL: not a kind of store; use file:///absolute/path, memory://, {', '.join(SCHEMES.values())}"
    )


# obstore is imported where it is needed: most services keep their images in a folder, and it takes 5 MB.


def _bucket(url: str, data_dir: Path, access: BucketAccess, *, fresh: bool) -> Store:
    from runware_provider.artifacts.buckets import open_bucket

    return _obstore(*open_bucket(url, access), data_dir, fresh=fresh)


def _memory(data_dir: Path, *, fresh: bool) -> Store:
    from obstore.store import MemoryStore

    return _obstore(MemoryStore(), "memory", data_dir, fresh=fresh)


def _obstore(store: "ObjectStore", name: str, data_dir: Path, *, fresh: bool) -> Store:
    from runware_provider.artifacts.object_store import ObstoreStore

    try:
        return ObstoreStore(store, name, data_dir, fresh=fresh)
    except OSError as error:
        raise unwritable(data_dir, error) from error


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
