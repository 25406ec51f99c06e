"""The bundled catalogue of models, and the search over it.

`catalogue.json` holds public model names with their AIR ids; `popularity`, `price` (US dollars per megapixel) and
everything that is drawn from them are the simulator's own.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from runware_provider.simulator.pictures import Picture
from runware_provider.simulator.wire import JsonObject, Refused, error_object

MAX_LIMIT = 100
_INTERNAL = ("popularity", "price")
_LISTS = ("tags", "capabilities")
_ONE_OF: dict[str, tuple[str, ...]] = {
    "source": ("official", "community"),
    "category": ("checkpoint", "lora", "lycoris", "vae", "embeddings"),
    "visibility": ("public", "private", "favorite", "owned", "all"),
    "sort": (
        "_score",
        "popularity",
        "-popularity",
        "name",
        "-name",
        "addedUnixTimestamp",
        "-addedUnixTimestamp",
        "updatedDateUnixTimestamp",
        "-updatedDateUnixTimestamp",
    ),
}


@cache
def models() -> dict[str, JsonObject]:
    """The catalogue by AIR id; not to be changed."""
    rows: list[JsonObject] = json.loads(files(__package__).joinpath("catalogue.json").read_text("utf-8"))
    return {row["air"]: row for row in rows}


@cache
def hero_pictures() -> dict[str, Picture]:
    """The pictures behind `heroImage`, by the image id in its URL."""
    return {
        _hero_uuid(air): Picture(prompt=row["name"], model=air, seed=1, width=512, height=512)
        for air, row in models().items()
    }


def price_micros(model: str, width: int, height: int) -> int:
    """What one image of this size costs, in millionths of a US dollar; at least 1."""
    price = float(models().get(model, {}).get("price", 0.0019))
    return max(1, round(price * 1e6 * width * height / (1024 * 1024)))


def search(task: JsonObject, image_origin: str) -> JsonObject:
    """One page of models as `modelSearch` answers it. Raises `Refused` for a filter that is none."""
    limit = _number(task, "limit", 20, 1, MAX_LIMIT)
    offset = _number(task, "offset", 0, 0, 1_000_000)
    for parameter, allowed in _ONE_OF.items():
        value = task.get(parameter)
        if value is not None and value not in allowed:
            raise _refused(task, parameter, f"'{parameter}' must be one of {', '.join(allowed)}.")
    found = [row for row in models().values() if _matches(row, task)]
    found = _sorted(found, task)
    return {
        "taskType": "modelSearch",
        "taskUUID": task["taskUUID"],
        "totalResults": len(found),
        "results": [_shown(row, image_origin) for row in found[offset : offset + limit]],
    }


def _matches(row: JsonObject, task: JsonObject) -> bool:
    # Everything in the catalogue is public and owned by somebody else.
    if task.get("visibility") in ("private", "favorite", "owned"):
        return False
    for parameter in ("source", "category", "type", "architecture"):
        if task.get(parameter) is not None and row.get(parameter) != task[parameter]:
            return False
    if task.get("conditioning") is not None and task["conditioning"] not in row.get("conditioning", ()):
        return False
    if not all(set(_wanted(task, parameter)) <= set(row[parameter]) for parameter in _LISTS):
        return False
    words = task.get("search") or ""
    if not isinstance(words, str):
        raise _refused(task, "search", "'search' must be a string.")
    text = _text(row)
    return all(word in text for word in words.lower().split())


def _wanted(task: JsonObject, parameter: str) -> list[str]:
    """A filter that is a list; one string stands for a list of it."""
    wanted = task.get(parameter) or []
    if isinstance(wanted, str):
        return [wanted]
    if not isinstance(wanted, list) or not all(isinstance(item, str) for item in wanted):
        raise _refused(task, parameter, f"'{parameter}' must be a list of strings.")
    return wanted


def _sorted(rows: list[JsonObject], task: JsonObject) -> list[JsonObject]:
    order = task.get("sort") or "_score"
    if order.endswith("name"):
        return sorted(rows, key=lambda row: row["name"].lower(), reverse=order.startswith("-"))
    if order.endswith("Timestamp"):
        return rows[::-1] if order.startswith("-") else rows
    if order == "popularity":
        return sorted(rows, key=lambda row: row["popularity"])
    words = str(task.get("search") or "").lower().split()
    named = {row["air"]: any(word in row["name"].lower() for word in words) for row in rows}
    return sorted(rows, key=lambda row: (-named[row["air"]] if order == "_score" else 0, -row["popularity"]))


def _shown(row: JsonObject, image_origin: str) -> JsonObject:
    shown = {key: value for key, value in row.items() if key not in _INTERNAL}
    shown["heroImage"] = f"{image_origin}/image/ws/0/ii/{_hero_uuid(row['air'])}.jpg"
    shown["private"] = False
    shown["comment"] = ""
    return shown


def _text(row: JsonObject) -> str:
    return " ".join((row["name"], row["version"], row["air"], row["architecture"], *row["tags"])).lower()


def _hero_uuid(air: str) -> str:
    return str(uuid5(NAMESPACE_URL, f"urn:air:{air}"))


def _number(task: JsonObject, parameter: str, default: int, least: int, most: int) -> int:
    value: Any = task.get(parameter, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise _refused(
            task, parameter, f"'{parameter}' must be an integer between {least} and {most}.", min=least, max=most
        )
    return value


def _refused(task: JsonObject, parameter: str, message: str, **extra: object) -> Refused:
    return Refused(
        400,
        error_object(
            f"invalid{parameter[0].upper()}{parameter[1:]}",
            message,
            parameter=parameter,
            task_uuid=task["taskUUID"],
            task_type="modelSearch",
            **extra,
        ),
    )
