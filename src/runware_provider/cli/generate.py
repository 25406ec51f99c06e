"""`generate`: submit, follow with one line an image, write the files."""

import asyncio
import json
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from runware_provider.cli import FAILED, render
from runware_provider.cli.commands import pairs
from runware_provider.cli.connection import Api, connected
from runware_provider.cli.console import err, line_of, print_json, say
from runware_provider.errors import ConfigurationError, InvalidArgs
from runware_provider.settings import Settings

_SIZE = re.compile(r"(\d{1,5})[x×](\d{1,5})", re.IGNORECASE)


def read_input(
    prompt: str,
    model: str,
    *,
    number: int,
    size: str | None,
    seed: int | None,
    negative: str | None,
    steps: int | None,
    format: str | None,
    fields: Sequence[str],
    labels: Sequence[str],
) -> dict[str, Any]:
    """The request's body. Raises InvalidArgs that names the option."""
    given: dict[str, Any] = {"model": model, "positivePrompt": prompt}
    if size is not None:
        match = _SIZE.fullmatch(size)
        if match is None:
            raise InvalidArgs([("--size", f"must be WIDTHxHEIGHT, for example 1024x768, not {size!r}")])
        given["width"], given["height"] = int(match[1]), int(match[2])
    options = {"seed": seed, "negativePrompt": negative, "steps": steps, "outputFormat": format and format.upper()}
    given |= {name: value for name, value in options.items() if value is not None}
    if number > 1:
        given["numberResults"] = number
    for name, value in pairs("--field", list(fields)):
        try:
            given[name] = json.loads(value)
        except ValueError:
            given[name] = value  # a word needs no quotes
    return {"input": given, "metadata": dict(pairs("--label", list(labels)))}


async def generate(settings: Settings, request: dict[str, Any], folder: Path, *, as_json: bool) -> int:
    """Make images and write them into `folder`. 0 when all came, 1 when any failed."""
    _expect_writable(folder)
    async with connected(settings, work=True) as api:
        state = await _submitted(api, request)
        try:
            state = await _followed(api, state, show=not as_json)
            files = await _written(api, state, folder)
        except BaseException:
            _say_how_to_follow(api, state)
            raise
    if as_json:
        print_json({**state, "files": [str(file) for file in files.values()]})
    else:
        _report(state, files)
    return 0 if state["counts"]["stored"] >= state["counts"]["expected"] else FAILED


def _expect_writable(folder: Path) -> None:
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
        words = f"generation {id} goes on while the service runs"
    say(err, words)
    say(err, f"see it with: runware-provider show {id}")


async def _followed(api: Api, state: dict[str, Any], *, show: bool) -> dict[str, Any]:
    columns = (
        SpinnerColumn(),
        TextColumn("image {task.fields[number]}", markup=False),
        BarColumn(20),
        TextColumn("{task.description}", markup=False),
    )
    # What is no terminal would get an empty line.
    hidden = not (show and err.is_interactive)
    with Progress(*columns, TimeElapsedColumn(), console=err, disable=hidden, transient=True) as progress:
        lines = [
            progress.add_task("sent to Runware", total=3, number=number + 1)
            for number in range(state["counts"]["expected"])
        ]
        async for state in api.follow(state["id"]):  # noqa: B020  each state replaces the one before
            for number, line in enumerate(lines):
                completed, words = _step(state, number)
                progress.update(line, completed=completed, description=line_of(words).plain)
    return state


def _step(state: dict[str, Any], number: int) -> tuple[int, str]:
    """How far the image that fills one slot is, in steps of three and in words."""
    outputs = state["outputs"]
    if number < len(outputs):
        output = outputs[number]
        if output["type"] == "error":
            return 3, f"failed: {render.explain(output['error'])[:60]}"
        return (3, "in the database") if state["projected_at"] and state["completed_at"] else (2, "stored")
    delivered = sum(entry["event"] == "delivered" for entry in state["timeline"])
    if number < delivered:
        return 1, "fetching"
    words = {"queued": "waiting for Runware", "sending": "sending", "unknown": "asking whether Runware has it"}
    return 0, words.get(state["dispatch"], "being made")


async def _written(api: Api, state: dict[str, Any], folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    stored = [output for output in state["outputs"] if output["type"] == "success"]
    for number, output in enumerate(stored, 1):
        extension = output["key"].rpartition(".")[2]
        file = folder / f"{state['id']}-{number}.{extension}"
        await api.download(f"/v1/generations/{state['id']}/outputs/{output['id']}/content", file)
        files[output["id"]] = file
    return files


def _report(state: dict[str, Any], files: dict[str, Path]) -> None:
    stored = [(str(files[output["id"]]), output) for output in state["outputs"] if output["id"] in files]
    if stored:
        render.pictures("file", stored)
    for output in state["outputs"]:
        if output["type"] == "error":
            say(err, ("failed: ", "red"), render.explain(output["error"]))
    if state["error"] is not None:
        say(err, ("error: ", "red"), render.explain(state["error"]))
    if not files:
        say(err, f"no image came; see: runware-provider show {state['id']}")
