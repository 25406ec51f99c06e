"""A recipe: what made one image, as JSON beside it, and with which `generate --from` makes it again."""

import json
from pathlib import Path
from typing import Any

from runware_provider.errors import ConfigurationError, InvalidArgs

VERSION = 1

MAX_BYTES = 32 * 1024**2
"""Largest recipe that is read: that of the largest request."""

SUFFIX = ".json"


def recipe_of(state: dict[str, Any], output: dict[str, Any]) -> dict[str, Any]:
    """The recipe of one stored image of a generation."""
    return {
        "recipe": VERSION,
        "input": state["input"],
        "metadata": state["metadata"],
        "model": state["model"],
        "seed": output["seed"],
        "cost_micros": output["cost_micros"],
        "sha256": output["sha256"],
        "size_bytes": output["size_bytes"],
        "content_type": output["content_type"],
        "width": output["width"],
        "height": output["height"],
        "generation_id": state["id"],
        "output_id": output["id"],
        "task_uuid": state["task_uuid"],
        "image_uuid": output["image_uuid"],
        "created_at": output["created_at"],
        "asked_at": state["created_at"],
    }


def written(recipe: dict[str, Any]) -> bytes:
    """A recipe as its file has it: the same recipe is the same bytes."""
    return json.dumps(recipe, ensure_ascii=False, indent=2).encode() + b"\n"


def read_recipe(path: Path) -> dict[str, Any]:
    """The input that makes the image of a recipe again: its own, with its seed, and one image.

    An image stands for the recipe beside it. Raises InvalidArgs and ConfigurationError that name `--from`.
    """
    beside = path.with_suffix(SUFFIX)
    if path.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp"} and beside.exists():
        path = beside
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(f"--from {path} cannot be read: {error.strerror}") from error
    if len(text) > MAX_BYTES:
        raise _wrong(path, f"is larger than {MAX_BYTES // 1024**2} MiB, which no recipe is")
    try:
        recipe = json.loads(text)
    except (ValueError, RecursionError):
        raise _wrong(path, "is not JSON; a recipe is the .json file beside an exported image") from None
    if not isinstance(recipe, dict) or "recipe" not in recipe:
        raise _wrong(path, "is JSON, but no recipe: it has no field `recipe`")
    if recipe["recipe"] != VERSION:
        raise _wrong(path, f"is a recipe of version {recipe['recipe']!r}; this release reads version {VERSION}")
    given, seed = recipe.get("input"), recipe.get("seed")
    if not isinstance(given, dict):
        raise _wrong(path, "has no `input` with Runware's fields")
    if not (seed is None or (isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0)):
        raise _wrong(path, f"has a `seed` that is no whole number: {seed!r}")
    again = {name: value for name, value in given.items() if name != "numberResults"}
    return again if seed is None else {**again, "seed": seed}


def _wrong(path: Path, words: str) -> InvalidArgs:
    return InvalidArgs([("--from", f"{path} {words}")])
