"""`watch`: what happens to generations, as it happens; to all of them, or to some until they are settled."""

import asyncio
import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn
from rich.text import Text

from runware_provider.cli import FAILED
from runware_provider.cli.client import Api
from runware_provider.cli.commands import path_of
from runware_provider.cli.connection import connected, of_service
from runware_provider.cli.console import Part, columns_of, err, fitted, line_of, out, say
from runware_provider.cli.failures import Answered
from runware_provider.cli.generate import Elapsed
from runware_provider.cli.patience import Patience
from runware_provider.errors import InvalidArgs, StateUnavailable
from runware_provider.settings import Settings
from runware_provider.words import explain, money

MOST = 100
"""Generations that are followed by their ids at once; each holds a stream."""

REMEMBERED = 10_000
"""Generations of which it is known what was said last; beyond them a line may be said twice."""

WIDE = 140
"""Columns from which on a change is told on one line."""

RECENT = 50
"""Generations that are looked at again when news was lost."""


async def watch_all(settings: Settings, *, as_json: bool) -> int:
    """A line for each change of any generation, until Ctrl-C. Raises ConfigurationError when no service runs."""
    async with of_service(settings) as (api, _):
        news = _News(api, as_json=as_json)
        try:
            await Patience(api)(news.tell)
        except (asyncio.CancelledError, _ReaderLeft):
            return 0  # it is how this is meant to end
    return 0


class _ReaderLeft(Exception):
    """Nobody reads any more what would be said without end."""


class _News:
    """What is said about all generations."""

    def __init__(self, api: Api, *, as_json: bool) -> None:
        self._api = api
        self._as_json = as_json
        self._said: OrderedDict[str, str] = OrderedDict()
        self._began = datetime.now(UTC)
        self._connected = False

    async def tell(self) -> None:
        """Say what changes, until the service ends, which raises StateUnavailable or Answered."""
        changed: OrderedDict[str | None, None] = OrderedDict()
        woken = asyncio.Event()

        async def listen() -> None:
            async with aclosing(self._api.changes()) as changes:
                async for id in changes:
                    # Whoever changes often while we speak is asked about once. Too much: what is recent is asked about.
                    changed[None if len(changed) >= REMEMBERED else id] = None
                    woken.set()
            raise StateUnavailable("the service stopped")

        async def speak() -> None:
            while True:
                await woken.wait()
                woken.clear()
                while changed:
                    id, _ = changed.popitem(last=False)
                    await (self._again() if id is None else self._one(id))

        tasks = [asyncio.create_task(each) for each in (listen(), speak())]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _again(self) -> None:
        """The stream begins, or has lost something: what happened meanwhile is found in the list."""
        if not self._connected:
            self._connected = True
            say(err, "watching all generations; Ctrl-C ends it")
            return
        page = await self._api.get("/v1/generations", limit=RECENT)
        for item in reversed(page["items"]):
            if item["id"] in self._said or datetime.fromisoformat(item["created_at"]) >= self._began:
                await self._one(item["id"])

    async def _one(self, id: str) -> None:
        try:
            state = await self._api.get(f"/v1/generations/{id}")
        except Answered as error:
            if error.status != 404:
                raise
            if self._said.pop(id, None) is not None:
                _say({"id": id, "status": "deleted"}, "deleted", as_json=self._as_json)
            return
        words = standing(state)
        if self._said.get(id) == words:
            return
        self._said[id] = words
        self._said.move_to_end(id)
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        _say(state, words, as_json=self._as_json)
        if out.left:
            raise _ReaderLeft


async def watch(settings: Settings, ids: Sequence[str], *, as_json: bool) -> int:
    """Follow generations until all are settled: a line each on a terminal, else a line a change. 1 when any failed.

    Without a service the work is done here. Raises InvalidArgs.
    """
    for id in ids:
        path_of(id)
    wanted = list(dict.fromkeys(ids))
    if len(wanted) > MOST:
        raise InvalidArgs([("ID", f"are {len(wanted)}, and at most {MOST} are followed; without ids all are")])
    on_screen = err.is_interactive and not as_json
    columns = (
        SpinnerColumn(finished_text="·"),
        TextColumn("{task.fields[id]}"),
        Elapsed(),
        TextColumn("{task.description}"),
    )
    async with connected(settings, work=True) as api:
        with Progress(*columns, console=err, disable=not on_screen, transient=True) as progress:
            lines = {id: progress.add_task("", total=1, id=id if err.width >= 80 else f"…{id[-12:]}") for id in wanted}
            following = [
                asyncio.create_task(_followed(api, id, progress, lines[id], on_screen=on_screen, as_json=as_json))
                for id in wanted
            ]
            try:
                states = await asyncio.gather(*following)
            finally:
                for each in following:
                    each.cancel()
                await asyncio.gather(*following, return_exceptions=True)
    if on_screen:
        for state in states:
            _say(state, standing(state), as_json=False)
    return FAILED if any(state["counts"]["stored"] < state["counts"]["expected"] for state in states) else 0


async def _followed(
    api: Api, id: str, progress: Progress, line: TaskID, *, on_screen: bool, as_json: bool
) -> dict[str, Any]:
    """One generation's last state; what happens until then is said."""
    said = ""

    async def follow() -> dict[str, Any]:
        nonlocal said
        async for state in _states(api, id):
            words = standing(state)
            if words != said and not on_screen:
                _say(state, words, as_json=as_json)
            said = words
            room = err.width - len(progress.tasks[line].fields["id"]) - len("·  1234.5 s ")
            progress.update(line, description=fitted(words, room), completed=int(state["settled"]))
            if state["settled"]:
                return state
        raise StateUnavailable("the service stopped")

    return await Patience(api)(follow)


async def _states(api: Api, id: str) -> AsyncIterator[dict[str, Any]]:
    async with aclosing(api.follow(id)) as states:
        async for state in states:
            yield state


def standing(state: dict[str, Any]) -> str:
    """How it stands with a generation, in a few words."""
    counts = state["counts"]
    of = f"{counts['stored']} of {counts['expected']}"
    if state["status"] == "running":
        if counts["stored"]:
            return f"stored {of}"
        words = {"queued": "waiting for Runware", "sending": "sending", "unknown": "asking whether Runware has it"}
        return words.get(state["dispatch"], "being made")
    costs = [output["cost_micros"] for output in state["outputs"] if output["type"] == "success"]
    words_of = [f"{state['status']}, {of}"]
    if costs and None not in costs:
        words_of.append(money(sum(costs)))
    errors = [output["error"] for output in state["outputs"] if output["type"] == "error"]
    first = state["error"] or (errors[0] if errors else None)
    if first is not None:
        words_of.append(explain(first))
    elif state["projection_error"] is not None:
        words_of.append(explain(state["projection_error"]))
    return ", ".join(words_of)


def _say(state: dict[str, Any], words: str, *, as_json: bool) -> None:
    at = datetime.now(UTC)
    if as_json:
        names = (
            "id",
            "version",
            "status",
            "dispatch",
            "counts",
            "model",
            "metadata",
            "error",
            "created_at",
            "completed_at",
        )
        made = {"at": at.isoformat(timespec="milliseconds"), "what": words}
        try:
            print(json.dumps(made | {name: state[name] for name in names if name in state}), file=out.file, flush=True)
        except BrokenPipeError:
            out.on_broken_pipe()
        return
    style = {"completed": "green", "failed": "red"}.get(state["status"], "")
    time = Text.assemble((at.astimezone().strftime("%H:%M:%S"), "dim"), "  ")
    columns = columns_of(out)
    prompt = " ".join(str((state.get("input") or {}).get("positivePrompt") or "").split())
    if columns is None or columns >= WIDE:
        say(
            out,
            (words, style),
            *([(f"  {prompt[:60]}", "dim")] if prompt else []),
            label=time + Text(f"{state['id']}  "),
        )
    else:
        said = line_of(prompt).copy()
        said.truncate(max(columns - len(time) - len(state["id"]) - 2, 1), overflow="ellipsis")
        about: list[Part] = ["\n", state["id"]] + (["  ", said] if len(said) > 10 else [])
        say(out, (words, style), *about, label=time)
    out.file.flush()
