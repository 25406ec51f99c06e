"""From a URL to the store that it names."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from obstore.store import MemoryStore, ObjectStore

from runware_provider.artifacts.buckets import SCHEMES, BucketAccess, open_bucket
from runware_provider.artifacts.file_store import FileStore
from runware_provider.artifacts.object_store import ObstoreStore
from runware_provider.artifacts.store import Store, unwritable
from runware_provider.errors import ConfigurationError


def open_store(url: str, data_dir: Path, access: BucketAccess) -> Store:
    """The store that `url` names. Blocking. Raises ConfigurationError."""
    scheme, found, _ = url.partition("://")
    if found and scheme in SCHEMES:
        bucket, name = open_bucket(url, access)
        return _obstore(bucket, name, data_dir)
    if access.given:
        raise ConfigurationError(
            f"{', '.join(access.given)}: set for a bucket, but ARTIFACTS_URL names none; set it to s3://bucket/prefix"
        )
    if found and scheme == "file":
        return FileStore(_root(url), data_dir)
    if found and scheme == "memory":
        return _obstore(MemoryStore(), "memory", data_dir)
    # Nothing of it is shown: an address that is written wrongly may begin with a password.
    raise ConfigurationError(
        f"ARTIFACTS_URL: not a kind of store; use file:///absolute/path, memory://, {', '.join(SCHEMES.values())}"
    )


def _obstore(store: ObjectStore, name: str, data_dir: Path) -> Store:
    try:
        return ObstoreStore(store, name, data_dir)
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
