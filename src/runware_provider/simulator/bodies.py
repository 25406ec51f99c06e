"""Bodies: every shape in which a result or an error was seen to come, and the ones that are no use to anybody."""

from runware_provider.simulator.faults.delivery import WebhookErrorShape, WebhookShape
from runware_provider.simulator.faults.rule import Malformed, Poison
from runware_provider.simulator.wire import JsonObject, encode

DEPTH = 20_000
_DEEP = "deep-nesting-goes-here"
_POISON: dict[Poison, JsonObject] = {
    "nul": {"positivePrompt": "before\u0000after"},
    "lone_surrogate": {"positivePrompt": "before\ud83dafter"},
    "nan": {"cost": float("nan")},
    "infinity": {"cost": float("inf")},
    "huge_number": {"seed": 10**99},
    "deep": {"extra": _DEEP},
}


def result_body(items: list[JsonObject], shape: WebhookShape, *, status: bool = False) -> JsonObject:
    """A webhook's body with results; `flat` holds the first one only."""
    if status:
        items = [item if "status" in item else {**item, "status": "success"} for item in items]
    return items[0] if shape == "flat" else {"data": items}


def error_body(error: JsonObject, shape: WebhookErrorShape) -> JsonObject:
    """A webhook's body with one error; `error` carries its taskUUID."""
    task: JsonObject = {key: error[key] for key in ("taskType", "taskUUID", "imageUUID") if key in error}
    bare = {key: value for key, value in error.items() if key not in task}
    match shape:
        case "errors":
            return {"errors": [error]}
        case "errors_and_data":
            return {"data": [], "errors": [error]}
        case "flat":
            return {**task, "status": "error", **bare}
        case "flat_object":
            return {**task, "status": "error", "error": bare}
        case "data":
            return {"data": [{**task, "status": "error", "error": bare}]}


def poisoned(item: JsonObject, kind: Poison) -> JsonObject:
    """A real item with one field that breaks parsers and databases; must go through `encode_poisoned`."""
    return {**item, **_POISON[kind]}


def encode_poisoned(body: object) -> bytes:
    """JSON of a body with poisoned items; deep nesting is put in by hand, because no encoder would write it."""
    return encode(body).replace(b'"%s"' % _DEEP.encode(), b"[" * DEPTH + b"]" * DEPTH)


def malformed(kind: Malformed, body: object) -> bytes:
    """What comes instead of `body`."""
    match kind:
        case "not_json":
            return b"<html><body><h1>502 Bad Gateway</h1></body></html>"
        case "empty":
            return b""
        case "not_utf8":
            return b'{"data":[{"taskType":"imageInference","taskUUID":"\xff\xfe\xfa"}]}'
        case "cut":
            whole = encode(body)
            return whole[: len(whole) // 2]
        case "new_shape":
            return encode({"version": 2, "result": {"tasks": [{"state": "done", "payload": body}]}})
        case "null":
            return b"null"
        case "number":
            return b"9" * 100
        case "deep":
            return b"[" * DEPTH + b"]" * DEPTH
