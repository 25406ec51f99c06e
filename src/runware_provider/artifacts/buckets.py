"""From an address such as s3://bucket/prefix, and the settings beside it, to the bucket.

What the settings leave out is left to obstore, which reads `AWS_*`, `GOOGLE_*` and `AZURE_*` of the environment and,
where there are no keys at all, asks for the role of the machine.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from runware_provider.artifacts.bucket_access import SCHEMES, BucketAccess
from runware_provider.artifacts.complaints import explain
from runware_provider.artifacts.store import NOBODY, TOP, said
from runware_provider.errors import ConfigurationError

MAX_PREFIX = 512
"""Characters. A key has at most 1,024 bytes, of which ours take 112."""

_RETRIES = 3
_RETRY_TIMEOUT = timedelta(seconds=30)
_FIRST_ASK = {"timeout": "3s"}
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_ACCOUNT = re.compile(r"[a-z0-9]{1,64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def open_bucket(url: str, access: BucketAccess) -> tuple[ObjectStore, str]:
    """The bucket that `url` names, and what to call it. Blocking.

    It is asked once, for at most a few seconds. Raises ConfigurationError when it says that the settings or the bucket
    must be changed; one that does not answer may be well again by the time it is needed.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket that is not closed
        raise ConfigurationError("ARTIFACTS_URL cannot be read as an address") from None
    if parts.scheme not in ("s3", "r2") and access.given:
        raise ConfigurationError(f"{', '.join(access.given)}: only s3:// and r2:// have a use for it")
    name, prefix, access = _named(parts, access)
    try:
        _ask(_made(parts.scheme, name, prefix, access, 0, _FIRST_ASK), name)
        return _made(parts.scheme, name, prefix, access, _RETRIES, {}), name
    except (BaseError, ValueError) as error:
        raise ConfigurationError(f"ARTIFACTS_URL: {said(error)}") from error


def _named(parts: SplitResult, access: BucketAccess) -> tuple[str, str, BucketAccess]:
    """Bucket, prefix, and the access with what the address itself says."""
    form = f"a bucket is named as {SCHEMES[parts.scheme]}"
    if "@" in parts.netloc:  # nothing of it is shown: it holds a password
        raise ConfigurationError(
            "ARTIFACTS_URL carries a user name or password; set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY instead"
        )
    if ":" in parts.netloc:
        raise ConfigurationError(f"ARTIFACTS_URL: {form}, and the address of its server is set as S3_ENDPOINT")
    name, path = unquote(parts.netloc), unquote(parts.path).strip("/")
    if parts.scheme == "r2":
        if not _ACCOUNT.fullmatch(name):
            raise ConfigurationError(f"ARTIFACTS_URL: {form}; the account's id is in Cloudflare's dashboard")
        endpoint = access.endpoint or f"https://{name}.r2.cloudflarestorage.com"
        access = replace(access, endpoint=endpoint, region=access.region or "auto")
        name, _, path = path.partition("/")
    if not _BUCKET.fullmatch(name) or parts.query or parts.fragment:
        raise ConfigurationError(f"ARTIFACTS_URL: {form}, without anything behind it")
    odd = path and any(part in ("", ".", "..") for part in path.split("/"))
    if odd or len(path) > MAX_PREFIX or _CONTROL.search(path):
        raise ConfigurationError(f"ARTIFACTS_URL: {form}, with a prefix of at most {MAX_PREFIX} characters")
    return name, path, access


def _made(
    scheme: str, name: str, prefix: str, access: BucketAccess, retries: int, config: Mapping[str, str]
) -> ObjectStore:
    options: dict[str, Any] = {
        "prefix": prefix or None,
        "retry_config": {"max_retries": retries, "retry_timeout": _RETRY_TIMEOUT},
        # Not as client options: they would replace those that obstore reads from AWS_ALLOW_HTTP and its like.
        "config": dict(config),
    }
    if scheme == "gs":
        return GCSStore(name, **options)
    if scheme == "az":
        return AzureStore(name, **options)
    if access.endpoint is not None:
        # By this name, because AWS_ENDPOINT_URL_S3 of the environment would win over any other.
        options["aws_endpoint_url_s3"] = access.endpoint
        options["virtual_hosted_style_request"] = False
        if access.endpoint.startswith("http://"):
            options["config"]["allow_http"] = "true"
    if access.region is not None:
        options["region"] = access.region
    if access.access_key_id is not None and access.secret_access_key is not None:
        # Not as options: an AWS_SESSION_TOKEN of the environment would be sent with keys that it does not belong to.
        keys = {
            "access_key_id": access.access_key_id.strip(),
            "secret_access_key": access.secret_access_key.get_secret_value().strip(),
            "token": None,
            "expires_at": None,
        }
        options["credential_provider"] = lambda: keys
    return S3Store(name, **options)


def _ask(store: ObjectStore, name: str) -> None:
    try:
        next(iter(obstore.list(store, f"{TOP}/{NOBODY}", chunk_size=1)), None)
    except (BaseError, OSError) as error:
        complaint = explain(error, name)
        if complaint.lasting:
            raise ConfigurationError(complaint.text) from error
