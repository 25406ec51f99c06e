"""Runware's shapes, by Runware's own names: what callers may send, and what Runware delivers in all its variants.

Nothing here trusts a body. Whatever the bytes are, `parse_delivery` returns facts and never raises.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runware_provider.errors import InvalidArgs, excerpt, redact, scrub
from runware_provider.types import CreateArgs, Delivery, Fact, Failure, Invalid, JsonObject, Result

RAW_BYTES = 8_192
"""How much of one of Runware's items or bodies is kept."""

MAX_RESULTS = 100
"""A sane ceiling on `numberResults`; Runware's own limit depends on the model."""

MAX_DEPTH = 64
"""How deeply one of Runware's items may be nested to be kept as it is; encoders have limits of their own."""

MAX_ROWS = 500
"""Items that are read of one body: several times what any task has. Reading a megabyte of `{}` would take seconds."""

URL_CHARACTERS = 2_048
"""How much of an `imageURL` is kept; a longer one is not one of Runware's."""

RESERVED = frozenset(
    {"taskType", "taskUUID", "webhookURL", "deliveryMethod", "outputType", "includeCost", "uploadEndpoint"}
)
"""Fields that are ours to set. A caller who sends one is told so."""


class ImageInference(BaseModel):
    """The fields of `imageInference` that hold for every model; all others pass through untouched.

    Only what is true for all models is checked: Runware's answer speaks for the rest.
    """

    model_config = ConfigDict(extra="allow", strict=True)

    model: str = Field(min_length=1, max_length=256)
    positivePrompt: str | None = Field(None, max_length=100_000)
    negativePrompt: str | None = Field(None, max_length=100_000)
    width: int | None = Field(None, ge=1, le=65_536)
    height: int | None = Field(None, ge=1, le=65_536)
    steps: int | None = Field(None, ge=1, le=10_000)
    CFGScale: float | None = Field(None, ge=0, le=1_000)
    seed: int | None = Field(None, ge=0, lt=2**64)
    scheduler: str | None = Field(None, max_length=256)
    numberResults: int | None = Field(None, ge=1, le=MAX_RESULTS)
    outputFormat: Literal["JPG", "JPEG", "PNG", "WEBP"] | None = None
    outputQuality: int | None = Field(None, ge=1, le=100)
    strength: float | None = Field(None, ge=0, le=1)
    checkNSFW: bool | None = None
    ttl: int | None = Field(None, ge=60, description="Seconds that the image's address lives; Runware's minimum is 60.")


def check_create(args: CreateArgs) -> int:
    """Check what the caller sent and return the number of results it asks for.

    Raises InvalidArgs with every field that is wrong, named from the top (`input.width`).
    """
    issues = [
        (f"input.{name}", "is set by runware-provider; leave it out") for name in sorted(RESERVED & args.input.keys())
    ]
    expected = 1
    try:
        expected = ImageInference.model_validate(args.input).numberResults or 1
    except ValidationError as error:
        issues += [(".".join(map(str, ("input", *issue["loc"]))), issue["msg"]) for issue in error.errors()]
    if len(args.metadata) > 32:
        issues.append(("metadata", "has more than 32 labels"))
    issues += [
        (f"metadata.{excerpt(key, 40)}", "must be a label of 1 to 64 characters with a value of at most 512")
        for key, value in args.metadata.items()
        if not 1 <= len(key) <= 64 or len(value) > 512
    ]
    deep = False
    try:
        text = json.dumps([args.input, args.metadata], allow_nan=False)
        deep = _depth(text) > MAX_DEPTH
        # Lone surrogates cannot be sent to Runware as UTF-8, nor kept in most databases.
        json.dumps([args.input, args.metadata], ensure_ascii=False).encode()
    except UnicodeEncodeError:
        issues.append(("input", "holds a lone surrogate, which is no character"))
    except RecursionError:
        deep = True
    except (ValueError, TypeError) as error:
        issues.append(("input", f"is not JSON: {error}"))
    if deep:
        issues.append(("input", f"is nested more than {MAX_DEPTH} levels deep"))
    if issues:
        raise InvalidArgs(issues)
    return expected


def _finite(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


_DECODER = json.JSONDecoder(parse_constant=str, parse_float=_finite)  # `json.loads` would make one for every text


_scan: Callable[[str, int], tuple[Any, int]] = _DECODER.scan_once  # type: ignore[attr-defined]  # the stubs lack it


def loads(text: bytes | str) -> Any:
    """JSON with what JSON cannot carry on made into strings: NaN, the infinities and numbers that overflow.

    Raises ValueError for anything that is not JSON, and for nesting or numbers beyond reason.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode(json.detect_encoding(text), "surrogatepass")
        elif text.startswith("\ufeff"):
            raise ValueError("it begins with a byte order mark")
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def bounded(raw: Any) -> Any:
    """Runware's item, fit to be kept: at most `RAW_BYTES` as ASCII JSON and `MAX_DEPTH` levels, else a marked excerpt.

    Lone surrogates become U+FFFD; our webhook's address and anybody's token are redacted.
    """
    text = json.dumps(raw)
    lowered = text.lower()
    if any(mark in lowered for mark in _SUSPICIOUS):
        clean = redact(scrub(json.dumps(raw, ensure_ascii=False)))
        raw = json.loads(clean, object_hook=_without_secrets)
        text = json.dumps(raw)
    if len(text) > RAW_BYTES or _depth(text) > MAX_DEPTH:
        return {"truncated": True, "excerpt": text[: RAW_BYTES // 2]}
    return raw


_SUSPICIOUS = ("\\ud", "webhookurl", "uploadendpoint", "token", "apikey", "api_key")
_SUSPICIOUS_WORDS = (*_SUSPICIOUS, "\\u", "\0")
"""Also escapes, which could spell any of the marks, and the zeros between UTF-16's characters."""


def _without_secrets(value: JsonObject) -> JsonObject:
    return {
        key: "[redacted]" if key in {"webhookURL", "apiKey", "uploadEndpoint"} else item for key, item in value.items()
    }


def _depth(text: str) -> int:
    """The nesting of `text`, 0 when it cannot be over the limit."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return 0
    depth = deepest = 0
    for mark in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if mark in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


_PROCESSING = frozenset({"processing", "pending", "queued", "running"})
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_BRACKET = re.compile(r"[\[\]{}]")
_IMAGE_UUID_IN_URL = re.compile(r"/([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12})\.")


def parse_delivery(body: bytes) -> Delivery:
    """Read one webhook body, whatever its shape: wrapped in `data` or `errors`, flat, one item or several.

    What is neither result, error nor `processing` becomes an `Invalid` fact. Never raises.
    """
    try:
        text = _harmless(body)
        return read_rows(loads(body)) if text is None else read_rows(_decoded(text), harmless=True)
    except (ValueError, RecursionError) as error:
        return Delivery((_invalid(body, f"body: not JSON that can be read ({error})"),))


def _harmless(body: bytes) -> str | None:
    """A body in which nothing can need cutting or cleaning, as is the rule: then its parts need no look of their own.

    It is ASCII, flat, without any of the marks, and so small that its numbers, written out, cannot make it too large.
    """
    if len(body) > RAW_BYTES // 5 or not body.isascii() or body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        return None
    text = body.decode("ascii")
    lowered = text.lower()
    for mark in _SUSPICIOUS_WORDS:  # in strings, for `in` takes long in bytes
        if mark in lowered:
            return None
    return text


def _decoded(text: str) -> Any:
    """As `loads`, in one step for what has no white space around it, as is the rule."""
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        return loads(text)
    return value if end == len(text) else loads(text)


def read_rows(value: Any, *, harmless: bool = False) -> Delivery:
    """Read a decoded body, or any part of one: an object, or a list of rows. `harmless`: see `_harmless`."""
    facts: list[Fact] = []
    processing = False
    for number, (row, is_error) in enumerate(_rows(value)):
        if number >= MAX_ROWS:
            facts.append(_invalid(value, f"body: has more than {MAX_ROWS} items, the rest was not read"))
            break
        if not isinstance(row, dict):
            facts.append(_invalid(row, "item: must be an object"))
        elif is_error or row.get("status") == "error" or (row.get("code") and not _url(row)):
            facts.append(_failure(row, harmless))
        elif isinstance(row.get("status"), str) and row["status"].lower() in _PROCESSING:
            processing = True
        else:
            facts.append(_result(row, harmless))
    return Delivery(tuple(facts), processing)


def _rows(value: Any) -> Iterator[tuple[Any, bool]]:
    """The rows of a body, each with whether it stood among the errors."""
    if isinstance(value, list):
        for row in value:
            yield row, False
    elif isinstance(value, dict) and ("data" in value or "errors" in value):
        for key in ("data", "errors"):
            rows = value.get(key)
            for row in rows if isinstance(rows, list) else [] if rows is None else [rows]:
                yield row, key == "errors"
    else:
        yield value, False


def _text(value: Any, harmless: bool, limit: int = 200) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    return value[:limit] if harmless else excerpt(value, limit)


def _url(row: Mapping[str, Any]) -> str | None:
    url = row.get("imageURL")
    if not isinstance(url, str) or not url:
        return None
    url = scrub(url[:URL_CHARACTERS])
    return url if url.isascii() else url[: URL_CHARACTERS // 12]  # a character may take twelve bytes of ASCII


def _result(row: JsonObject, harmless: bool) -> Fact:
    url = _url(row)
    image_uuid = _text(row.get("imageUUID"), harmless)
    if image_uuid is None and url is not None:
        # A paid image without an id of its own must still be kept: its address names it.
        found = _IMAGE_UUID_IN_URL.search(url)
        image_uuid = found[1] if found else "url-" + sha256(url.encode("utf-8", "replace")).hexdigest()[:32]
    if image_uuid is None:
        return _invalid(row, "item: has neither imageUUID nor imageURL, and is no error")
    return Result(_text(row.get("taskUUID"), harmless), image_uuid, url, row if harmless else bounded(row))


def _failure(row: JsonObject, harmless: bool) -> Failure:
    inner = row.get("error")
    code = row.get("code") or (inner.get("code") if isinstance(inner, dict) else inner)
    return Failure(
        _text(row.get("taskUUID"), harmless),
        _text(row.get("imageUUID"), harmless),
        _text(code, harmless, 100) or "unknown",
        row if harmless else bounded(row),
    )


def _invalid(raw: Any, issue: str) -> Invalid:
    data = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    text = excerpt(data.decode("utf-8", "replace"), RAW_BYTES)
    while len(json.dumps(text)) > RAW_BYTES:  # one character may take six bytes
        text = text[: len(text) // 2]
    return Invalid(sha256(data).hexdigest(), (issue,), text)
