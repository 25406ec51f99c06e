"""What the options of `generate` and `batch` say about a request, in Runware's names."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from runware_provider.errors import InvalidArgs

_SIZE = re.compile(r"(\d{1,5})[x×](\d{1,5})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Fields:
    """The request as far as options give it: `input` has Runware's names, `labels` are the caller's own."""

    input: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)


def pairs(option: str, values: Sequence[str]) -> list[tuple[str, str]]:
    """KEY=VALUE options. Raises InvalidArgs."""
    for value in values:
        if "=" not in value[1:]:
            raise InvalidArgs([(option, f"must be KEY=VALUE, not {value!r}")])
    return [(key, rest) for key, _, rest in (value.partition("=") for value in values)]


def read_options(
    *,
    prompt: str | None = None,
    model: str | None = None,
    number: int | None = None,
    size: str | None = None,
    seed: int | None = None,
    negative: str | None = None,
    steps: int | None = None,
    format: str | None = None,
    fields: Sequence[str] = (),
    labels: Sequence[str] = (),
) -> Fields:
    """What was given; what was not is absent. Raises InvalidArgs that names the option."""
    options = {
        "model": model,
        "positivePrompt": prompt,
        "negativePrompt": negative,
        "seed": seed,
        "steps": steps,
        "outputFormat": format and format.upper(),
        "numberResults": number,
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if size is not None:
        match = _SIZE.fullmatch(size)
        if match is None:
            raise InvalidArgs([("--size", f"must be WIDTHxHEIGHT, for example 1024x768, not {size!r}")])
        given["width"], given["height"] = int(match[1]), int(match[2])
    for name, value in pairs("--field", fields):
        given[name] = read_value(value)
    return Fields(given, dict(pairs("--label", labels)))


def read_value(text: str) -> Any:
    """A value that was typed: JSON, or a word that needs no quotes."""
    try:
        return json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError):
        return text


def _refused(constant: str) -> Any:
    """NaN and the infinities are Python's idea of JSON, nobody else's."""
    raise ValueError(constant)
