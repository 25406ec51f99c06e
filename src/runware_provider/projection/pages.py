"""From list arguments to parameters, from rows to what callers get; and the cursor, a row's place in the order."""

import base64
import binascii
import json
import re
import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from pydantic import TypeAdapter

from runware_provider.errors import InvalidArgs
from runware_provider.projection.queries import Shape
from runware_provider.projection.rows import LABELS, indexed, stored_time, text
from runware_provider.types import GenerationSummary, ListArgs

WORDS = 8
"""Words that a prompt may be searched for."""

_LIKE, _ESCAPED = re.compile(r"[\\%_]"), r"\\\g<0>"

_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SUMMARIES = TypeAdapter(list[GenerationSummary])
_CURSOR = struct.Struct(">Q16s")


def page_parameters(args: ListArgs) -> tuple[Shape, dict[str, str | int]]:
    """Which statement answers `args`, and its values. It gives one row too many when there is a next page.

    Raises InvalidArgs for a cursor that is none of ours, a time out of range, and more labels than a generation has.
    """
    if len(args.metadata) > LABELS:
        raise InvalidArgs([("metadata", f"at most {LABELS} labels can be asked for")])
    words = (args.prompt or "").split()
    if len(words) > WORDS:
        raise InvalidArgs([("prompt", f"at most {WORDS} words can be searched for")])
    values: dict[str, str | int] = {"limit": args.limit + 1}
    for number, word in enumerate(words):
        values[f"word{number}"] = f"%{_LIKE.sub(_ESCAPED, text(word, 1_024))}%"
    if args.error is not None:
        code = text(args.error, 64)
        values |= {"error_code": code, "error": f'%"{_LIKE.sub(_ESCAPED, code)}":%'}
    for number, (key, value) in enumerate(args.metadata.items()):
        values |= {f"key{number}": indexed(key), f"value{number}": indexed(value)}
    if args.status is not None:
        values["status"] = args.status
    if args.model is not None:
        values["model"] = indexed(args.model)
    if args.created_after is not None:
        values["created_after"] = _bound("created_after", args.created_after)
    # Both say "before this place"; the earlier one says it all, and an index is entered at one place.
    places = []
    if args.created_before is not None:
        # Rows have whole milliseconds: before .0005 means before .001. No id comes before the empty one.
        places.append((_bound("created_before", args.created_before, round_up=True), ""))
    if args.cursor is not None:
        places.append(_decode_cursor(args.cursor))
    if places:
        values["before_at"], values["before_id"] = min(places)
    shape = Shape(
        status="status" in values,
        model="model" in values,
        created_after="created_after" in values,
        before=bool(places),
        labels=len(args.metadata),
        words=len(words),
        error=args.error is not None,
    )
    return shape, values


def summaries(rows: Sequence[str]) -> list[GenerationSummary]:
    """The generations of `rows`, JSON texts, in their order; each with its artifacts in the order of their making."""
    items = _SUMMARIES.validate_json(f"[{','.join(rows)}]")
    for item in items:
        item.artifacts.sort(key=lambda artifact: (artifact.created_at, artifact.id))
    return items


def cursor_after(last: GenerationSummary) -> str:
    """The place just after `last`."""
    return _encode_cursor(last.created_at, last.id)


def cursor_at(rows: Sequence[str]) -> str | None:
    """The place just after the row that `queries.edge` gave; None when it gave none."""
    if not rows:
        return None
    row = json.loads(rows[0])
    return _encode_cursor(datetime.fromisoformat(row["created_at"]), UUID(row["id"]))


def _encode_cursor(created_at: datetime, id_: UUID) -> str:
    """32 characters that need no quoting in a URL."""
    milliseconds = (created_at - _EPOCH) // _MILLISECOND
    return base64.urlsafe_b64encode(_CURSOR.pack(milliseconds, id_.bytes)).decode()


def _decode_cursor(cursor: str) -> tuple[str, str]:
    try:
        packed = base64.b64decode(cursor, altchars=b"-_", validate=True)
        milliseconds, id_ = _CURSOR.unpack(packed)
        return stored_time(_EPOCH + milliseconds * _MILLISECOND), str(UUID(bytes=id_))
    except (binascii.Error, ValueError, struct.error, OverflowError):
        raise InvalidArgs([("cursor", "is not one that a page gave; leave it out for the first page")]) from None


def _bound(field: str, at: datetime, *, round_up: bool = False) -> str:
    try:
        utc = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        if round_up:
            utc += (_EPOCH - utc) % _MILLISECOND
        return stored_time(utc)
    except OverflowError:
        raise InvalidArgs([(field, "is out of range")]) from None
