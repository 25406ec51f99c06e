"""`list`: pages of the read model as a table, as JSON or as CSV."""

import csv
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Literal

from runware_provider.cli import render
from runware_provider.cli.client import Api
from runware_provider.cli.connection import connected
from runware_provider.cli.console import discard, err, out, print_json, say
from runware_provider.cli.layout import Column, records
from runware_provider.settings import Settings
from runware_provider.words import money

Form = Literal["table", "json", "csv"]

LARGEST = 200
"""Rows of the API's largest page."""

PAGES = 50
"""Pages that are asked for at most to fill one of the command's: a filter may find little in each."""

_COLUMNS = (
    "id",
    "created_at",
    "completed_at",
    "status",
    "error_code",
    "model",
    "prompt",
    "expected",
    "stored",
    "failed",
    "cost_micros",
    "labels",
)


async def pages(
    api: Api, filters: dict[str, Any], *, limit: int = LARGEST, cursor: str | None = None
) -> AsyncGenerator[dict[str, Any], None]:
    """Page after page, until the last."""
    while True:
        page = await api.get("/v1/generations", **filters, limit=limit, cursor=cursor)
        yield page
        cursor = page["next_cursor"]
        if cursor is None:
            return


async def index(
    settings: Settings, filters: dict[str, Any], *, limit: int, cursor: str | None, everything: bool, form: Form
) -> None:
    """A page of the read model, or with `everything` all from `cursor` on."""
    async with connected(settings, work=False) as api:
        if everything:
            async with aclosing(pages(api, filters, cursor=cursor)) as stream:
                await _all(stream, form)
            return
        page = await _page(api, filters, limit, cursor)
    match form:
        case "json":
            print_json(page)
        case "csv":
            _write_csv(page["items"], header=True)
            if page["next_cursor"]:
                say(err, f"more: --cursor {page['next_cursor']}, or --all")
        case _:
            _table(page, asked=bool(filters or cursor))


async def _page(api: Api, filters: dict[str, Any], limit: int, cursor: str | None) -> dict[str, Any]:
    """As many rows as were asked for, if there are: the API's page may hold fewer and still not be the last."""
    items: list[dict[str, Any]] = []
    for _ in range(PAGES):
        page = await api.get("/v1/generations", **filters, limit=limit - len(items), cursor=cursor)
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None or len(items) >= limit:
            break
    return {"items": items, "next_cursor": cursor}


async def _all(stream: AsyncGenerator[dict[str, Any], None], form: Form) -> None:
    """Everything, of which never more than a page is in memory."""
    first = True
    if form == "json":
        _write('{\n  "items": [')
    async for page in stream:
        if form == "csv":
            _write_csv(page["items"], header=first)
            first = False
            continue
        for item in page["items"]:
            _write(("\n    " if first else ",\n    ") + json.dumps(item))
            first = False
    if form == "json":
        _write(("]" if first else "\n  ]") + ',\n  "next_cursor": null\n}\n')


def _write(text: str) -> None:
    try:
        out.file.write(text)
    except BrokenPipeError:
        discard(out.file)


class _Lines:
    """What `csv` writes to."""

    write = staticmethod(_write)


def _write_csv(items: list[dict[str, Any]], *, header: bool) -> None:
    rows = csv.writer(_Lines())  # lines end with CR LF, as RFC 4180 has it
    if header:
        rows.writerow(_COLUMNS)
    for item in items:
        row = {**item, **item["counts"], "labels": json.dumps(item["metadata"]) if item["metadata"] else None}
        rows.writerow([row[name] for name in _COLUMNS])


def _table(page: dict[str, Any], *, asked: bool) -> None:
    more = page["next_cursor"]
    if not page["items"]:
        if more:
            say(out, f"nothing found so far; go on: --cursor {more}")
        else:
            say(out, "nothing found" if asked else "no generations yet")
        return
    columns = [
        Column("id"),
        Column("created"),
        Column("status"),
        Column("images"),
        Column("cost", right=True),
        Column("model"),
        Column("prompt", least=20),
    ]
    rows = [
        (
            item["id"],
            render.when(item["created_at"]),
            render.status(item["status"], item["error_code"]),
            f"{item['counts']['stored']}/{item['counts']['expected']}",
            money(item["cost_micros"]),
            item["model"],
            item["prompt"],
        )
        for item in page["items"]
    ]
    records(out, columns, rows)
    if more:
        say(out, (f"more: --cursor {more}", "dim"))
