"""`generate`: submit, follow with one line an image, write the files."""

import asyncio
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from runware_provider.cli import FAILED, render
from runware_provider.cli.client import Api
from runware_provider.cli.connection import connected
from runware_provider.cli.console import err, fitted, print_json, say
from runware_provider.cli.fields import Fields
from runware_provider.cli.names import air_of
from runware_provider.cli.options import MODEL
from runware_provider.cli.recipes import SUFFIX, recipe_of, written
from runware_provider.errors import ConfigurationError
from runware_provider.settings import Settings
from runware_provider.words import explain


async def generate(settings: Settings, wish: Fields, folder: Path, *, recipe: bool, as_json: bool) -> int:
    """Make images and write them into `folder`. 0 when all came, 1 when any failed.

    `recipe`: write what made each image beside it.
    """
    expect_writable(folder)
    async with connected(settings, work=True) as api:
        model = await air_of(api, wish.input.get("model", MODEL))
        state = await _submitted(api, {"input": {**wish.input, "model": model}, "metadata": wish.labels})
        try:
            state = await _followed(api, state, show=not as_json)
            files = await _written(api, state, folder, recipe=recipe)
        except BaseException:
            _say_how_to_follow(api, state)
            raise
    if as_json:
        print_json({**state, "files": [str(file) for file in files.values()]})
    else:
        _report(state, files)
    return 0 if state["counts"]["stored"] >= state["counts"]["expected"] else FAILED


def expect_writable(folder: Path) -> None:
    """Before money is spent. Raises ConfigurationError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigurationError(f"--out {folder} cannot be used: {error.strerror}") from error


async def _submitted(api: Api, request: dict[str, Any]) -> dict[str, Any]:
    """The state of what was accepted. Ctrl-C waits for it, at most 5 s: what may cost money must not stay unnamed."""
    sending = asyncio.ensure_future(api.send("POST", "/v1/generations", request))
    try:
        state: dict[str, Any] = await asyncio.shield(sending)
    except asyncio.CancelledError:
        _say_how_to_follow(api, await sending)
        raise
    return state


def _say_how_to_follow(api: Api, state: dict[str, Any]) -> None:
    id = state["id"]
    if state["completed_at"]:
        words = f"generation {id} is complete, and its images are kept"
    elif api.passing:
        words = f"generation {id} is kept; it goes on when the service runs, or with: runware-provider reconcile {id}"
    else:
        words = f"generation {id} goes on while the service runs; follow it with: runware-provider watch {id}"
    say(err, words)
    say(err, f"see it with: runware-provider show {id}")


class Elapsed(ProgressColumn):
    """Seconds since a line began, or that it took."""

    def render(self, task: Task) -> Text:
        """As `12.3 s`."""
        seconds = task.finished_time if task.finished else task.elapsed
        return Text(f"{seconds or 0.0:5.1f} s", "dim")


async def _followed(api: Api, state: dict[str, Any], *, show: bool) -> dict[str, Any]:
    wide = 20 if err.width >= 80 else 8
    room = err.width - len("· image 20  12.3 s ") - wide - 1
    columns = (
        SpinnerColumn(finished_text="·"),
        TextColumn("image {task.fields[number]}", markup=False),
        BarColumn(wide),
        Elapsed(),
        TextColumn("{task.description}", markup=False),
    )
    # What is no terminal would get an empty line.
    hidden = not (show and err.is_interactive)
    with Progress(*columns, console=err, disable=hidden, transient=True) as progress:
        lines = [
            progress.add_task("sent to Runware", total=3, number=number + 1)
            for number in range(state["counts"]["expected"])
        ]
        async for state in api.follow(state["id"]):  # noqa: B020  each state replaces the one before
            for number, line in enumerate(lines):
                completed, words = _step(state, number)
                progress.update(line, completed=completed, description=fitted(words, room))
    return state


def _step(state: dict[str, Any], number: int) -> tuple[int, str]:
    """How far the image that fills one slot is, in steps of three and in words."""
    outputs = state["outputs"]
    if len(outputs) > state["counts"]["expected"]:  # an error of the task itself stands beside those of its images
        outputs = sorted(outputs, key=lambda output: output["type"] == "error")
    if number < len(outputs):
        output = outputs[number]
        if output["type"] == "error":
            return 3, f"failed: {explain(output['error'])}"
        return (3, "in the database") if state["projected_at"] and state["completed_at"] else (2, "stored")
    if state["completed_at"]:
        return 3, "did not come"
    delivered = sum(entry["event"] == "delivered" for entry in state["timeline"])
    if number < delivered:
        return 1, "fetching"
    words = {"queued": "waiting for Runware", "sending": "sending", "unknown": "asking whether Runware has it"}
    return 0, words.get(state["dispatch"], "being made")


async def _written(api: Api, state: dict[str, Any], folder: Path, *, recipe: bool) -> dict[str, Path]:
    files: dict[str, Path] = {}
    stored = [output for output in state["outputs"] if output["type"] == "success"]
    for number, output in enumerate(stored, 1):
        extension = output["key"].rpartition(".")[2]
        file = folder / f"{state['id']}-{number}.{extension}"
        await api.download(f"/v1/generations/{state['id']}/outputs/{output['id']}/content", file)
        if recipe:
            file.with_suffix(SUFFIX).write_bytes(written(recipe_of(state, output)))
        files[output["id"]] = file
    return files


def _report(state: dict[str, Any], files: dict[str, Path]) -> None:
    stored = [(str(files[output["id"]]), output) for output in state["outputs"] if output["id"] in files]
    if stored:
        render.pictures("file", stored)
    reasons = [explain(output["error"]) for output in state["outputs"] if output["type"] == "error"]
    for reason in dict.fromkeys(reasons):
        say(err, ("failed: ", "red"), reason)
    if state["error"] is not None:
        say(err, ("error: ", "red"), explain(state["error"]))
    if not files:
        say(err, f"no image came; see: runware-provider show {state['id']}")
