"""What people see: tables, one generation, money and sizes in plain words."""

import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 250
"""Columns of what is not a terminal: nobody wants a log or a pipe wrapped at 80."""

out = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else WIDE, soft_wrap=True)

_WHOLE = frozenset({"id", "output", "file", "created", "cost", "images", "size", "seed", "value"})
_COLOURS = {"completed": "green", "failed": "red", "running": "yellow"}


def money(micros: int | None) -> str:
    """`$0.0038`; a dash for a cost that Runware did not say."""
    return "–" if micros is None else f"${micros / 1_000_000:.6f}".rstrip("0").ljust(5, "0")


def size(count: int) -> str:
    """Bytes as people read them."""
    number = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"


def when(time: str | None) -> str:
    """A time of the wire in this machine's zone."""
    return "–" if time is None else datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def status(value: str) -> Text:
    """A status in its colour."""
    return Text(value, style=_COLOURS.get(value, ""))


def table(*columns: str, right: Iterable[str] = ()) -> Table:
    """An empty table without a box; ids, files and times are never cut, for people copy them."""
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(
            column,
            justify="right" if column in right else "left",
            no_wrap=True,
            overflow="ignore" if column in _WHOLE else "ellipsis",
            min_width=36 if column == "id" else None,
        )
    return made


def generation(state: dict[str, Any]) -> None:
    """One generation with its outputs and both levels of errors."""
    counts = state["counts"]
    head = Text.assemble("generation ", (state["id"], "bold"), "  ", status(state["status"]))
    out.print(head)
    fields = {
        "model": state["model"],
        "prompt": state["input"].get("positivePrompt"),
        "images": f"{counts['stored']} of {counts['expected']} stored, {counts['failed']} failed",
        "created": when(state["created_at"]),
        "completed": when(state["completed_at"]),
        "in database": when(state["projected_at"]),
    }
    labels = " ".join(f"{key}={value}" for key, value in state["metadata"].items())
    if labels:
        fields["metadata"] = labels
    for name, value in fields.items():
        if value is not None:
            out.print(Text.assemble((f"  {name:<12}", "dim"), str(value)))
    for error in (state["error"], state["projection_error"]):
        if error is not None and (error is state["error"] or error != state["error"]):
            out.print(Text.assemble(("  error       ", "dim"), (explain(error), "red")))
    if state["outputs"]:
        out.print()
        out.print(outputs(state["outputs"]))


def outputs(items: list[dict[str, Any]]) -> Table:
    """Outputs, one a line."""
    made = table("output", "size", "pixels", "seed", "cost", "what", right=("size", "cost"))
    for item in items:
        if item["type"] == "success":
            pixels = f"{item['width']}×{item['height']}"
            made.add_row(
                item["id"],
                size(item["size_bytes"]),
                pixels,
                str(item["seed"] or "–"),
                money(item["cost_micros"]),
                item["content_type"],
            )
        else:
            made.add_row(item["id"], "–", "–", "–", "–", Text(explain(item["error"]), style="red"))
    return made


def explain(error: dict[str, Any]) -> str:
    """One error of either level in plain words."""
    match error["code"]:
        case "http_error":
            return f"Runware answered HTTP {error['status']} after {error['attempts']} attempts: {error['body'][:200]}"
        case "network_error":
            return f"Runware could not be reached ({error['attempts']} attempts): {error['reason']}"
        case "api_rejected" | "webhook_error":
            words = [str(each.get("message") or each.get("code") or each) for each in error["errors"]]
            return "Runware says: " + ("; ".join(words) or "no reason")
        case "timeout":
            return f"{error['received']} of {error['expected']} results came in time; later ones are still kept"
        case "projection_failed":
            return f"stored, but the database refused it: {error['message']} (mend it, then replay)"
        case "fetch_failed":
            what = f"HTTP {error['status']}" if error["status"] else error["reason"]
            return f"the image could not be fetched: {what} ({error['attempts']} attempts)"
        case "content_rejected":
            return f"not kept ({error['reason']}): {error['message']}"
        case "storage_failed":
            return f"the object store refused it: {error['message']}"
        case "validation":
            return "an unknown delivery: " + "; ".join(error["issues"])
        case code:
            return str(code)
