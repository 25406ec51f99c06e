"""From a URL to the store that it names."""

from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

from obstore.exceptions import BaseError
from obstore.store import MemoryStore, from_url

from runware_provider.artifacts.file_store import FileStore
from runware_provider.artifacts.object_store import ObstoreStore
from runware_provider.artifacts.store import Store, said, unwritable
from runware_provider.errors import ConfigurationError


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
        raise ConfigurationError(f"ARTIFACTS_URL: {said(error)}") from error
    except OSError as error:
        raise unwritable(data_dir, error) from error
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
