"""What a service and the process that keeps its images tell each other: lines of JSON, and nothing that can be run."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import SecretStr, TypeAdapter

from runware_provider.artifacts.bucket_access import BucketAccess
from runware_provider.artifacts.plan import Plan
from runware_provider.artifacts.refusal import NotKept
from runware_provider.errors import OutputError
from runware_provider.types import Stored

READY = b"ready"
"""The first line from the process: it has opened the store."""

MAX_LINE = 1 << 20
"""Bytes. An address has 2,048 characters at most, an error's texts 2,000 each."""

_ERROR: TypeAdapter[OutputError] = TypeAdapter(OutputError)


class Lines:
    """Cuts what arrives into lines. Raises ValueError for one that is longer than `MAX_LINE`."""

    def __init__(self) -> None:
        self._rest = b""

    def cut(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            raise ValueError("a line without an end")
        return lines


class Broken(Exception):
    """What a keeper raised that is no outcome of an image: a defect, in words."""


def plan_line(plan: Plan) -> bytes:
    """The first line to the process. It has the bucket's secret: it is for a socket, never for a command line."""
    access = plan.bucket_access
    secret = access.secret_access_key
    return _line(
        [
            plan.url,
            str(plan.data_dir),
            list(plan.image_hosts),
            plan.max_image_bytes,
            [access.endpoint, access.region, access.access_key_id, secret.get_secret_value() if secret else None],
            plan.concurrency,
            plan.fetch_timeout.total_seconds(),
            plan.stall_timeout.total_seconds(),
            plan.ipv6,
        ]
    )


def read_plan(line: bytes) -> Plan:
    """See `plan_line`."""
    url, data_dir, hosts, size, (endpoint, region, key_id, secret), concurrency, fetch, stall, ipv6 = json.loads(line)
    access = BucketAccess(endpoint, region, key_id, SecretStr(secret) if secret is not None else None)
    times = timedelta(seconds=fetch), timedelta(seconds=stall)
    return Plan(url, Path(data_dir), hosts, size, access, concurrency, *times, ipv6)


def keep_line(number: int, generation_id: UUID, output_id: UUID, url: str, attempt: int) -> bytes:
    """Keep this image, and answer under `number`."""
    return _line([number, str(generation_id), str(output_id), url, attempt])


def stop_line(number: int) -> bytes:
    """Nobody waits for `number` any more; it is answered all the same, once nothing of it runs."""
    return _line([number])


def read_wish(line: bytes) -> tuple[int, tuple[UUID, UUID, str, int] | None]:
    """See `keep_line`; None: see `stop_line`."""
    number, *rest = json.loads(line)
    return (number, (UUID(rest[0]), UUID(rest[1]), rest[2], rest[3])) if rest else (number, None)


def stored_line(number: int, stored: Stored) -> bytes:
    """The image is kept."""
    return _line(
        [number, "stored", str(stored.output_id), stored.key, stored.content_type, stored.size_bytes, stored.sha256,
         stored.width, stored.height]
    )  # fmt: skip


def not_kept_line(number: int, refusal: NotKept) -> bytes:
    """The image is not kept."""
    wish = refusal.retry_after
    return _line([number, "not_kept", refusal.error.model_dump(mode="json"), wish.total_seconds() if wish else None])


def broken_line(number: int, error: BaseException) -> bytes:
    """Something else was raised."""
    return _line([number, "broken", f"{type(error).__name__}: {error}"[:2_000]])


def read_answer(line: bytes) -> tuple[int, Stored | Exception]:
    """What was answered under which number."""
    number, kind, *rest = json.loads(line)
    match kind:
        case "stored":
            return number, Stored(UUID(rest[0]), *rest[1:])
        case "not_kept":
            wish = timedelta(seconds=rest[1]) if rest[1] is not None else None
            return number, NotKept(_ERROR.validate_python(rest[0]), wish)
        case _:
            return number, Broken(rest[0])


def _line(values: list[Any]) -> bytes:
    return json.dumps(values).encode() + b"\n"
