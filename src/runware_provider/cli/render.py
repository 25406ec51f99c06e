"""What people see: one generation, money and sizes in plain words."""

from datetime import datetime
from typing import Any

from rich.text import Text

from runware_provider.cli.console import out, say
from runware_provider.cli.layout import Column, records
from runware_provider.words import explain, money, size

_COLOURS = {"completed": "green", "failed": "red", "running": "yellow"}


def when(time: str | None) -> str:
    """A time of the wire in this machine's zone."""
    return "–" if time is None else datetime.fromisoformat(time).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def status(value: str, error_code: str | None = None) -> Text:
    """A status in its colour, and why it is what it is."""
    return Text(f"{value} {error_code}" if error_code else value, style=_COLOURS.get(value, ""))


def field(name: str, value: str, style: str = "") -> None:
    """One thing that is known, beside its name."""
    say(out, (value, style), label=(f"  {name:<11}  ", "dim"))


def generation(state: dict[str, Any]) -> None:
    """One generation with its outputs and both levels of errors."""
    counts = state["counts"]
    say(out, "generation ", (state["id"], "bold"), "  ", status(state["status"]))
    labels = " ".join(f"{key}={value}" for key, value in state["metadata"].items())
    fields = {
        "model": state["model"],
        "prompt": state["input"].get("positivePrompt"),
        "images": f"{counts['stored']} of {counts['expected']} stored, {counts['failed']} failed",
        "created": when(state["created_at"]),
        "completed": when(state["completed_at"]),
        "in database": when(state["projected_at"]),
        "labels": labels or None,
    }
    for name, value in fields.items():
        if value is not None:
            field(name, str(value))
    error, projection_error = state["error"], state["projection_error"]
    for each in (error, projection_error if projection_error != error else None):
        if each is not None:
            field("error", explain(each), "red")
    _outputs(state["outputs"])


def _outputs(outputs: list[dict[str, Any]]) -> None:
    stored = [output for output in outputs if output["type"] == "success"]
    if stored:
        out.print()
        pictures("output", [(output["id"], output) for output in stored])
    failed = [output for output in outputs if output["type"] == "error"]
    if failed:
        out.print()
    for output in failed:
        say(out, (explain(output["error"]), "red"), label=f"{output['id']}  ")


def pictures(title: str, shown: list[tuple[str, dict[str, Any]]]) -> None:
    """Stored images, each under the name that it is shown by: its id, or its file."""
    columns = [
        Column(title),
        Column("size", right=True),
        Column("pixels"),
        Column("cost", right=True),
        Column("seed"),
        Column("type"),
    ]
    records(
        out,
        columns,
        [
            (
                name,
                size(output["size_bytes"]),
                f"{output['width']}×{output['height']}",
                money(output["cost_micros"]),
                None if output["seed"] is None else str(output["seed"]),
                output["content_type"],
            )
            for name, output in shown
        ],
    )
