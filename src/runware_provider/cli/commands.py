"""Commands that look at generations or say one thing to them."""

import json
from typing import Any
from uuid import UUID

from rich.text import Text

from runware_provider.cli import render
from runware_provider.cli.connection import connected
from runware_provider.cli.render import out
from runware_provider.durable.owner import prepare
from runware_provider.errors import InvalidArgs
from runware_provider.settings import Settings


def pairs(option: str, values: list[str]) -> list[tuple[str, str]]:
    """KEY=VALUE options. Raises InvalidArgs."""
    for value in values:
        if "=" not in value[1:]:
            raise InvalidArgs([(option, f"must be KEY=VALUE, not {value!r}")])
    return [(key, rest) for key, _, rest in (value.partition("=") for value in values)]


def print_json(value: Any) -> None:
    """For scripts: plain, one document."""
    print(json.dumps(value, ensure_ascii=False, indent=2))


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


async def index(settings: Settings, filters: dict[str, Any], *, as_json: bool) -> None:
    """A page of the read model."""
    async with connected(settings, work=False) as api:
        page = await api.get("/v1/generations", **filters)
    if as_json:
        print_json(page)
        return
    if not page["items"]:
        out.print(
            "nothing found" if any(filters[name] for name in filters if name != "limit") else "no generations yet"
        )
        return
    made = render.table("created", "id", "status", "images", "cost", "model", "prompt", right=("cost",))
    for item in page["items"]:
        counts = item["counts"]
        status = render.status(item["status"])
        if item["error_code"]:
            status.append(f" {item['error_code']}")
        prompt = " ".join((item["prompt"] or "").split())
        made.add_row(
            render.when(item["created_at"]),
            item["id"],
            status,
            f"{counts['stored']}/{counts['expected']}",
            render.money(item["cost_micros"]),
            item["model"] or "–",
            Text(prompt if len(prompt) <= 40 else prompt[:39] + "…"),
        )
    out.print(made)
    if page["next_cursor"]:
        out.print(f"more: --cursor {page['next_cursor']}", style="dim")


async def models(settings: Settings, filters: dict[str, Any], *, as_json: bool) -> None:
    """A page of Runware's catalogue."""
    async with connected(settings, work=False) as api:
        page = await api.get("/v1/models", **filters)
    if as_json:
        print_json(page)
        return
    made = render.table("air", "name", "version", "category", "architecture")
    for model in page["results"]:
        cells = [model["air"], model["name"], model["version"], model["category"], model["architecture"]]
        made.add_row(*(Text(str(cell or "–")) for cell in cells))
    out.print(made)
    shown = page["offset"] + len(page["results"])
    if shown < page["total_results"]:
        out.print(f"{shown} of {page['total_results']}; more: --offset {shown}", style="dim")


async def retry(settings: Settings, id: str, *, as_json: bool) -> int:
    """Failed outputs once more; waits for what comes of it."""
    path = path_of(id)
    async with connected(settings, work=True) as api:
        await api.send("POST", f"{path}/retry")
        state = await _quiet(api, path)
    print_json(state) if as_json else render.generation(state)
    return 1 if state["counts"]["failed"] else 0


async def replay(settings: Settings, id: str | None, *, as_json: bool) -> int:
    """Projections once more; waits for one that was named."""
    path = None if id is None else path_of(id)
    async with connected(settings, work=True) as api:
        if id is None or path is None:
            answer = await api.send("POST", "/v1/replay", {"all_failed": True})
            failed = await _projected(api)
            answer["projection_failed"] = failed
            print_json(answer) if as_json else out.print(
                f"projected again: {answer['replayed']}" + (f"; still failing: {failed}" if failed else "")
            )
            return 1 if failed else 0
        await api.send("POST", f"{path}/replay")
        state = [state async for state in api.follow(id)][-1]
    print_json(state) if as_json else render.generation(state)
    return 1 if state["projection_error"] else 0


async def rebuild(settings: Settings, *, as_json: bool) -> int:
    """Everything once more."""
    async with connected(settings, work=True) as api:
        answer = await api.send("POST", "/v1/replay", {"everything": True})
        answer["projection_failed"] = failed = await _projected(api)
    print_json(answer) if as_json else out.print(
        f"projected anew: {answer['replayed']}" + (f"; failing: {failed}" if failed else "")
    )
    return 1 if failed else 0


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
    out.print(f"deleted {id}; its images are removed in 30 s, or at the service's next start")


async def reconcile(settings: Settings, id: str | None, *, unclaimed: bool, as_json: bool) -> None:
    """Ask Runware now."""
    if id is not None:
        path_of(id)
    async with connected(settings, work=True) as api:
        answer = await api.send("POST", "/v1/reconcile", {"generation_id": id, "unclaimed": unclaimed})
        await _tasks_done(api)
    if as_json:
        print_json(answer)
        return
    out.print(f"asked about {answer['asked']}, answered {answer['answered']}, changed {answer['changed']}")
    if unclaimed or answer["still_unclaimed"]:
        out.print(f"unclaimed deliveries: {answer['claimed']} found a home, {answer['still_unclaimed']} are left")


async def doctor(settings: Settings, *, deep: bool, as_json: bool) -> int:
    """What is wrong, and its remedy. 1 when anything failed."""
    async with connected(settings, work=False) as api:
        diagnosis = await api.get("/v1/doctor", deep="true" if deep else None)
    if as_json:
        print_json(diagnosis)
    else:
        made = render.table("check", "status", "detail")
        for check in diagnosis["checks"]:
            made.add_row(check["name"], Text(check["status"], style=_STYLES[check["status"]]), Text(check["detail"]))
        out.print(made)
        for check in diagnosis["checks"]:
            if check["remedy"]:
                out.print(Text.assemble((f"{check['name']}: ", "bold"), check["remedy"]))
    return 0 if diagnosis["healthy"] else 1


_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


async def migrate(settings: Settings, *, as_json: bool) -> None:
    """Bring the read model to the newest schema."""
    from runware_provider.projection import migrate as upgrade

    if settings.projection_url is None:
        prepare(settings.data_dir)
    applied = list(await upgrade(settings.projection_address))
    if as_json:
        print_json({"applied": applied})
    else:
        out.print(f"applied {', '.join(applied)}" if applied else "the schema is up to date")


async def _tasks_done(api: Any) -> dict[str, Any]:
    """Wait, at most a minute, until no task is left to perform."""
    import asyncio

    ready: dict[str, Any] = {}
    for _ in range(300):
        ready = await api.get("/readyz")
        if not any(count for kind, count in ready["tasks"].items() if kind != "Dispatch"):
            break
        await asyncio.sleep(0.2)
    return ready


async def _projected(api: Any) -> int:
    return int((await _tasks_done(api))["projection_failed"])


async def _quiet(api: Any, path: str) -> dict[str, Any]:
    await _tasks_done(api)
    state: dict[str, Any] = await api.get(path)
    return state
