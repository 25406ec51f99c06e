"""Commands that look at generations or say one thing to them."""

import asyncio
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from uuid import UUID

from rich.text import Text

from runware_provider.cli import FAILED, TRY_AGAIN, render
from runware_provider.cli.client import LONG_WAIT, Api
from runware_provider.cli.connection import connected
from runware_provider.cli.console import err, out, print_json, say
from runware_provider.cli.layout import Column, records
from runware_provider.durable.owner import prepare
from runware_provider.errors import InvalidArgs
from runware_provider.settings import Settings

STANDSTILL = 60.0
"""Seconds without any progress after which a command no longer waits for tasks."""

_POLL = 0.2


def path_of(id: str, rest: str = "") -> str:
    """The API's path of a generation. Raises InvalidArgs for what is no id."""
    try:
        return f"/v1/generations/{UUID(id)}{rest}"
    except ValueError:
        raise InvalidArgs([("ID", f"{id!r} is not a generation's id; `runware-provider list` shows them")]) from None


async def show(settings: Settings, id: str, *, as_json: bool) -> None:
    """One generation."""
    path = path_of(id)
    async with connected(settings, work=False) as api:
        state = await api.get(path)
    print_json(state) if as_json else render.generation(state)


async def models(settings: Settings, filters: dict[str, Any], *, as_json: bool) -> None:
    """A page of Runware's catalogue."""
    async with connected(settings, work=False) as api:
        page = await api.get("/v1/models", **filters)
    if as_json:
        print_json(page)
        return
    shown = page["offset"] + len(page["results"])
    if not page["results"]:
        say(out, f"nothing found from --offset {shown} on" if page["total_results"] else "nothing found")
        return
    names = ["air", "name", "version", "category", "architecture"]
    columns = [Column(name, least=16 if name in {"name", "version"} else None) for name in names]
    records(out, columns, [[model[name] for name in names] for model in page["results"]])
    if shown < page["total_results"]:
        say(out, (f"{shown} of {page['total_results']}; more: --offset {shown}", "dim"))


async def retry(settings: Settings, id: str, *, as_json: bool) -> int:
    """Failed outputs once more; waits for what comes of it."""
    path = path_of(id)
    async with connected(settings, work=True) as api:
        await api.send("POST", f"{path}/retry")
        done = await _tasks_done(api)
        state = await api.get(path)
    print_json(state) if as_json else render.generation(state)
    return FAILED if state["counts"]["failed"] else done


async def replay(settings: Settings, id: str, *, as_json: bool) -> int:
    """The projection of one generation once more."""
    path = path_of(id)
    async with connected(settings, work=True) as api:
        await api.send("POST", f"{path}/replay")
        async for _ in api.follow(id):
            pass
        state = await api.get(path)
    print_json(state) if as_json else render.generation(state)
    return FAILED if state["projection_error"] else 0


async def replay_all(settings: Settings, *, everything: bool, as_json: bool) -> int:
    """All projections that failed once more, or all there are."""
    wish = "everything" if everything else "all_failed"
    async with connected(settings, work=True) as api:
        answer = await api.send("POST", "/v1/replay", {wish: True}, wait=LONG_WAIT)
        done = await _tasks_done(api)
        answer["projection_failed"] = failed = (await api.get("/readyz"))["projection_failed"]
    if as_json:
        print_json(answer)
    else:
        words = ("projected anew", "failing") if everything else ("projected again", "still failing")
        say(out, f"{words[0]}: {answer['replayed']}" + (f"; {words[1]}: {failed}" if failed else ""))
    return FAILED if failed else done


async def clear(settings: Settings, id: str, *, as_json: bool) -> None:
    """Clear projection_failed."""
    path = path_of(id, "/error")
    async with connected(settings, work=False) as api:
        state = await api.send("DELETE", path)
    print_json(state) if as_json else render.generation(state)


async def delete(settings: Settings, id: str) -> None:
    """Delete a generation."""
    path = path_of(id)
    async with connected(settings, work=True) as api:
        await api.send("DELETE", path)
        when = "at the service's next start" if api.passing else "in 30 s"
    say(out, f"deleted {id}; its images are removed {when}")
    say(out, f"until then it can be taken back: runware-provider undelete {id}")


async def undelete(settings: Settings, id: str, *, as_json: bool) -> None:
    """Take a delete back."""
    path = path_of(id, "/undelete")
    async with connected(settings, work=True) as api:
        state = await api.send("POST", path)
    print_json(state) if as_json else render.generation(state)


async def reconcile(settings: Settings, id: str | None, *, unclaimed: bool, as_json: bool) -> int:
    """Ask Runware now."""
    if id is not None:
        path_of(id)
    async with connected(settings, work=True) as api:
        wish = {"generation_id": id, "unclaimed": unclaimed}
        answer = await api.send("POST", "/v1/reconcile", wish, wait=LONG_WAIT)
        done = await _tasks_done(api)
    if as_json:
        print_json(answer)
        return done
    say(out, f"asked about {answer['asked']}, answered {answer['answered']}, changed {answer['changed']}")
    if unclaimed or answer["still_unclaimed"]:
        say(out, f"unclaimed deliveries: {answer['claimed']} found a home, {answer['still_unclaimed']} are left")
    return done


async def doctor(settings: Settings, *, deep: bool, as_json: bool) -> int:
    """What is wrong, and its remedy. 1 when anything failed."""
    async with connected(settings, work=False) as api:
        diagnosis = await api.get("/v1/doctor", deep="true" if deep else None, wait=LONG_WAIT)
    if as_json:
        print_json(diagnosis)
        return 0 if diagnosis["healthy"] else FAILED
    checks = diagnosis["checks"]
    wide = max(len(check["name"]) for check in checks)
    for check in checks:
        head = Text.assemble((f"{check['status']:<4}", _STYLES[check["status"]]), f"  {check['name']:<{wide}}  ")
        say(out, check["detail"], label=head)
        if check["remedy"]:
            say(out, ("remedy: ", "bold"), check["remedy"], label=Text(" " * head.cell_len))
    return 0 if diagnosis["healthy"] else FAILED


_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


async def migrate(settings: Settings, *, as_json: bool) -> None:
    """Bring state and read model to the newest schema."""
    from runware_provider.context import d1_access
    from runware_provider.durable.engines import migrate_state
    from runware_provider.projection import migrate as upgrade

    applied: list[str] = []
    if settings.many_nodes:
        applied += ["state"] if await migrate_state(settings.state_address) else []
    elif settings.projection_url is None:
        prepare(settings.data_dir)
    applied += await upgrade(settings.projection_address, d1=d1_access(settings))
    if as_json:
        print_json({"applied": applied})
    else:
        say(out, f"applied {', '.join(applied)}" if applied else "the schema is up to date")


def write_migrations(folder: Path, *, as_json: bool) -> None:
    """The read model's migrations as files, for a tool that applies them."""
    from runware_provider.projection import write_migrations as write

    written = [str(path) for path in write(folder)]
    if as_json:
        print_json({"written": written})
    else:
        for path in written:
            say(out, path)


async def _tasks_done(api: Api) -> int:
    """Wait until no task is left to perform: 0.

    A database or a bucket that is away would hold this up for ever, and a busy service never rests: when the fewest
    that were seen have not become fewer for a minute, that is said, and the answer is the exit code of trying again.
    """
    now = asyncio.get_running_loop().time
    fewest, since = None, now()
    with err.status("at work") if err.is_interactive else nullcontext() as shown:
        while True:
            tasks = (await api.get("/readyz"))["tasks"]
            left = sum(count for kind, count in tasks.items() if kind != "Dispatch")
            if not left:
                return 0
            if fewest is None or left < fewest:
                fewest, since = left, now()
            elif now() - since > STANDSTILL:
                break
            if shown is not None:
                shown.update(f"at work: {left} left")
            await asyncio.sleep(_POLL)
    say(
        err,
        f"not all is done ({left} left); it goes on while the service runs, and `runware-provider doctor` says more",
    )
    return TRY_AGAIN
