"""The form for a new generation: what stands in it, what is asked for by it, and whose field an error is."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from runware_provider.errors import ApiRejected, InvalidArgs
from runware_provider.types import CreateArgs, GenerationState, JsonObject
from runware_provider.words import explain

SIZES: Sequence[tuple[str, int, int]] = (
    ("Square", 1024, 1024),
    ("Portrait", 832, 1216),
    ("Landscape", 1216, 832),
    ("Tall", 768, 1344),
    ("Wide", 1344, 768),
)
"""About a megapixel each, in steps of 64, which every known model takes."""

FORMATS = ("JPG", "PNG", "WEBP")

DEFAULT_MODEL = "runware:101@1"

_NAMES: Mapping[str, str] = {
    "prompt": "positivePrompt",
    "negative": "negativePrompt",
    "model": "model",
    "width": "width",
    "height": "height",
    "number": "numberResults",
    "seed": "seed",
    "steps": "steps",
    "format": "outputFormat",
}
"""Of a field of the form, Runware's."""

_RUNWARES = frozenset(_NAMES.values())
_NUMBERS = {"width", "height", "number", "seed", "steps"}
FIELDS = (*_NAMES, "advanced", "labels")


@dataclass(frozen=True, slots=True)
class Form:
    """`given`: text by field. `problems`: what is wrong, by field; what is no field's stands under `form`.

    `key`: sent again, the same form makes the same generation. `kept`: Runware's fields that are too large for a form
    and are taken from the generation `source` when it is sent.
    """

    given: Mapping[str, str]
    problems: Mapping[str, str] = field(default_factory=dict)
    key: str = field(default_factory=lambda: str(uuid4()))
    source: str = ""
    kept: Sequence[str] = ()


def blank() -> Form:
    """What a new form says."""
    given = dict.fromkeys(FIELDS, "") | {"model": DEFAULT_MODEL, "number": "1", "width": "1024", "height": "1024"}
    return Form(given)


EDITABLE = 20_000
"""Characters of one field of Runware's that is put into the form; an image as text is not."""


def like(state: GenerationState) -> Form:
    """A form that asks for what `state` was asked for."""
    kept = [name for name, value in state.input.items() if name not in _RUNWARES and _length(value) > EDITABLE]
    rest = {name: value for name, value in state.input.items() if name not in kept}
    given = dict.fromkeys(FIELDS, "")
    for name, runwares in _NAMES.items():
        value = rest.get(runwares)
        if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            given[name] = str(rest.pop(runwares))
    given["number"] = given["number"] or "1"
    given["advanced"] = json.dumps(rest, ensure_ascii=False, indent=2) if rest else ""
    given["labels"] = "\n".join(f"{key}={value}" for key, value in state.metadata.items())
    return Form(given, source=str(state.id), kept=kept)


def read_form(sent: Mapping[str, str], source: JsonObject) -> tuple[Form, CreateArgs | None]:
    """What was sent, and what it asks for; None when something is wrong, which the form then says.

    `source`: the input that fields which are `kept` are taken from.
    """
    given = {name: sent.get(name, "").replace("\r\n", "\n") for name in FIELDS}
    problems: dict[str, str] = {}
    kept = list(filter(None, sent.get("kept", "").split(",")))
    gone = [name for name in kept if name not in source]
    if gone:
        problems["form"] = f"the generation that {', '.join(gone)} was to be taken from is no more: begin anew"
    asked = {name: source[name] for name in kept if name in source}
    asked |= _advanced(given["advanced"], problems)
    for name, runwares in _NAMES.items():
        text = given[name].strip()
        if not text:
            continue
        if runwares in asked:
            problems["advanced"] = f"{runwares} has a field of its own."
        if name in _NUMBERS:
            if not text.isascii() or not text.isdigit() or len(text) > 20:
                problems[name] = "This must be a whole number."
                continue
            asked[runwares] = int(text)
        else:
            asked[runwares] = text
    if asked.get("numberResults") == 1:
        del asked["numberResults"]
    if given["model"].strip() and ":" not in given["model"]:
        problems["model"] = "Choose one of the list, or give its AIR id, such as runware:101@1."
    if not given["prompt"].strip() and "positivePrompt" not in asked:
        problems["prompt"] = "Say what is to be pictured."
    labels = _labels(given["labels"], problems)
    key = sent.get("key", "")[:64]
    form = Form(given, problems, key or str(uuid4()), sent.get("from", "")[:36], kept)
    if problems:
        return form, None
    return form, CreateArgs(input=asked, metadata=labels, idempotency_key=f"form {form.key}")


def refused_by_us(form: Form, error: InvalidArgs) -> Form:
    """The form with what is wrong beside the fields."""
    problems: dict[str, str] = {}
    for where, message in error.issues:
        level, _, name = where.partition(".")
        place = "labels" if level == "metadata" else _place(name)
        problems[place] = message if place in _NAMES else f"{name or where}: {message}"
    return replace(form, problems=problems, key=str(uuid4()))


def refused_by_runware(form: Form, state: GenerationState) -> Form:
    """The form with Runware's own words beside the fields that it names."""
    error = state.error
    problems: dict[str, str] = {}
    for each in error.errors if isinstance(error, ApiRejected) else ():
        message = str(each.get("message") or each.get("code") or "refused")
        parameter = each.get("parameter")
        for name in parameter if isinstance(parameter, list) and parameter else [parameter]:
            place = _place(str(name)) if name else "form"
            problems[place] = f"{problems[place]} {message}" if place in problems else message
    if not problems and error is not None:
        problems["form"] = explain(error.model_dump(mode="json"))
    return replace(form, problems=problems, key=str(uuid4()))


def _place(runwares: str) -> str:
    return next((name for name, own in _NAMES.items() if own == runwares), "advanced" if runwares else "form")


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str) else len(json.dumps(value))


def _advanced(text: str, problems: dict[str, str]) -> JsonObject:
    if not text.strip():
        return {}
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        problems["advanced"] = f"This is not JSON: {error}."
        return {}
    if not isinstance(value, dict):
        problems["advanced"] = 'This must be an object, such as {"steps": 30}.'
        return {}
    return value


def _labels(text: str, problems: dict[str, str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for line in filter(None, (line.strip() for line in text.split("\n"))):
        key, equals, value = line.partition("=")
        if not equals or not key.strip():
            problems["labels"] = f"This must be KEY=VALUE, one a line, not {line[:60]!r}."
            return {}
        labels[key.strip()] = value.strip()
    return labels
