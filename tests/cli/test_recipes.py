"""Recipes: what made an image, written beside it, makes it again."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from runware_provider.simulator.pytest_plugin import ThreadedSimulator
from tests.cli.conftest import Command
from tests.e2e.processes import images_in


def cooked(simulated: Command, folder: Path, *options: str) -> Path:
    """The recipe of the first of two images."""
    line = ["generate", "a fox", "-n", "2", "--size", "256x256", "--field", "CFGScale=3.5", "--label", "order=7"]
    assert simulated(*line, "--recipe", "--out", "first", *options).code == 0
    return min((folder / "first").glob("*.json"))


def test_a_recipe_says_what_made_the_image_beside_it(simulated: Command, folder: Path) -> None:
    """Input exactly as it was sent, and the image's own seed, cost and hash."""
    path = cooked(simulated, folder)

    recipe = json.loads(path.read_bytes())
    image = path.with_suffix(".jpg").read_bytes()
    state = simulated("show", recipe["generation_id"], "--json").json
    output = next(each for each in state["outputs"] if each["id"] == recipe["output_id"])
    assert recipe["recipe"] == 1
    assert recipe["input"] == state["input"]
    assert recipe["input"]["CFGScale"] == 3.5
    assert recipe["metadata"] == {"order": "7"}
    assert (recipe["sha256"], recipe["size_bytes"]) == (sha256(image).hexdigest(), len(image))
    assert (recipe["seed"], recipe["cost_micros"]) == (output["seed"], output["cost_micros"])
    assert (recipe["model"], recipe["created_at"]) == ("runware:101@1", output["created_at"])


@pytest.mark.parametrize("suffix", [".json", ".jpg"])
def test_a_recipe_makes_the_same_image_again(simulated: Command, folder: Path, suffix: str) -> None:
    """One image of the two that were asked for, with its own seed; the image's name will do."""
    path = cooked(simulated, folder)

    again = simulated("generate", "--from", str(path.with_suffix(suffix)), "--out", "second", "--json")

    assert again.code == 0, again.err
    [image] = images_in(folder / "second")
    assert image.read_bytes() == path.with_suffix(".jpg").read_bytes()
    assert "numberResults" not in again.json["input"]


def test_options_change_what_a_recipe_says(simulated: Command, folder: Path) -> None:
    """Another prompt, more steps, three of them: the rest is as it was."""
    path = cooked(simulated, folder)

    again = simulated("generate", "a hare", "--from", str(path), "-n", "3", "--steps", "5", "--out", "second", "--json")

    seed = json.loads(path.read_bytes())["seed"]
    assert again.json["input"] == {
        "positivePrompt": "a hare",
        "model": "runware:101@1",
        "width": 256,
        "height": 256,
        "CFGScale": 3.5,
        "numberResults": 3,
        "steps": 5,
        "seed": seed,
    }


WRONG = [
    (b"{", "is not JSON"),
    (b"[" * 100_000, "is not JSON"),
    (b"[]", "no recipe"),
    (b'{"input": {}}', "no field `recipe`"),
    (b'{"recipe": 2, "input": {}}', "version 2; this release reads version 1"),
    (b'{"recipe": 1}', "has no `input`"),
    (b'{"recipe": 1, "input": []}', "has no `input`"),
    (b'{"recipe": 1, "input": {}, "seed": "x"}', "`seed` that is no whole number: 'x'"),
    (b'{"recipe": 1, "input": {}, "seed": true}', "`seed` that is no whole number"),
    (b'{"recipe": 1, "input": {}, "seed": -1}', "`seed` that is no whole number"),
    (b" " * (32 * 1024**2 + 1), "larger than 32 MiB"),
]


@pytest.mark.parametrize(("content", "words"), WRONG, ids=[words for _, words in WRONG])
def test_what_is_no_recipe_is_said_to_be_none(
    simulated: Command, folder: Path, runware_simulator: ThreadedSimulator, content: bytes, words: str
) -> None:
    """Exit code 2, the option, the file and what is wrong with it; nothing is asked for."""
    (folder / "recipe.json").write_bytes(content)

    finished = simulated("generate", "--from", "recipe.json")

    assert (finished.code, finished.out) == (2, "")
    assert "--from" in finished.err
    assert words in finished.err
    assert runware_simulator.ledger.totals.billed == 0


def test_a_recipe_that_is_not_there_is_named(command: Command) -> None:
    """As any file."""
    finished = command("generate", "--from", "nowhere.json", RUNWARE_API_KEY="simulated")

    assert finished.code == 2
    assert "--from nowhere.json cannot be read: No such file or directory" in finished.err


def test_a_recipe_with_fields_that_are_ours_is_refused_by_name(simulated: Command, folder: Path) -> None:
    """A file may come from anywhere: it says no more than an input may."""
    recipe: dict[str, Any] = {"recipe": 1, "input": {"positivePrompt": "x", "webhookURL": "http://example.com"}}
    (folder / "recipe.json").write_text(json.dumps(recipe))

    finished = simulated("generate", "--from", "recipe.json")

    assert finished.code == 2
    assert "webhookURL" in finished.err
