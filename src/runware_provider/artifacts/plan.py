"""What the keeping of images is set to."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from runware_provider.artifacts.bucket_access import BucketAccess


@dataclass(frozen=True, slots=True)
class Plan:
    """See `Artifacts.open`."""

    url: str
    data_dir: Path
    image_hosts: Sequence[str]
    max_image_bytes: int
    bucket_access: BucketAccess
    concurrency: int
    fetch_timeout: timedelta
    stall_timeout: timedelta
    ipv6: bool
