"""What came of a batch: for people at the end of it, for scripts in `report.json`."""

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.text import Text

from runware_provider.cli.batch_bar import duration
from runware_provider.cli.batch_file import unit_of
from runware_provider.cli.batch_journal import Entry, Journal
from runware_provider.cli.batch_plan import LABEL, Source
from runware_provider.cli.console import err, out, print_json, say
from runware_provider.errors import InvalidArgs
from runware_provider.words import money

NAME = "report.json"
SHOWN = 20
"""Failed requests that are told at the end; the file has all."""


@dataclass
class Report:
    """A run of a batch, from now on."""

    path: Path
    folder: Path
    journal: Journal
    source: Source
    retry_failed: bool
    began: float = field(default_factory=lambda: asyncio.get_running_loop().time())


def report(run: Report, stopped: str, *, passing: bool, as_json: bool) -> int:
    """Write the report and tell it; how many failed. `stopped`: why it came to an end before the end."""
    totals = _totals(run, stopped)
    if as_json:
        print_json({name: value for name, value in totals.items() if name != "shown"})
    else:
        _tell(run, totals)
    if stopped:
        _say_how_to_go_on(stopped, totals, passing=passing)
    failed: int = totals["failed"]
    return failed


def _totals(run: Report, stopped: str) -> dict[str, Any]:
    totals: dict[str, Any] = {
        "report": 1,
        "batch": run.journal.batch,
        "file": str(run.path),
        "folder": str(run.folder),
        "stopped": stopped or None,
        "seconds": round(asyncio.get_running_loop().time() - run.began, 1),
        "requests": run.source.count,
        **dict.fromkeys(("done", "failed", "open", "images", "cost_micros", "unpriced"), 0),
    }
    shown: list[tuple[int, Entry]] = []
    path = run.folder / NAME
    part = path.with_name(f".{NAME}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write('{"lines": [')
            mark = "\n"
            try:
                for key, line in run.source.requests(run.journal):
                    entry = run.journal.entries.get(key, Entry())
                    file.write(mark + json.dumps(_row(line.number, entry)))
                    mark = ",\n"
                    _add(totals, entry)
                    if entry.status == "failed" and len(shown) < SHOWN:
                        shown.append((line.number, entry))
            except InvalidArgs as error:  # the file was changed: what is known is told
                totals["stopped"] = stopped or str(error)
            file.write(f"\n],\n{json.dumps(totals)[1:]}\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return {**totals, "report_file": str(path), "shown": shown}


def _row(number: int, entry: Entry) -> dict[str, Any]:
    return {
        "line": number,
        "status": entry.status,
        "generation_id": entry.id,
        "files": [each.name for each in entry.files],
        "cost_micros": entry.cost_micros + entry.earlier_micros,
        **({"why": entry.why} if entry.status == "failed" else {}),
    }


def _add(totals: dict[str, Any], entry: Entry) -> None:
    totals[entry.status] += 1
    totals["images"] += len(entry.files)
    totals["cost_micros"] += entry.cost_micros + entry.earlier_micros
    totals["unpriced"] += entry.unpriced


def _tell(run: Report, totals: dict[str, Any]) -> None:
    words = [f"{totals['done']:,} of {totals['requests']:,} done"]
    words += [f"{totals[name]:,} {name}" for name in ("failed", "open") if totals[name]]
    cost = money(totals["cost_micros"])
    if totals["unpriced"]:
        cost += f", and what {totals['unpriced']:,} images cost, of which Runware did not say"
    lines = {
        "requests": ", ".join(words),
        "images": f"{totals['images']:,} in {run.folder}, each with its recipe",
        "cost": cost,
        "time": duration(totals["seconds"]),
        "report": totals["report_file"],
        "see them": f"runware-provider list --label {LABEL}={totals['batch']}",
    }
    for name, value in lines.items():
        say(out, value, label=(f"{name:<8}  ", "dim"))
    if not totals["failed"]:
        return
    out.print()
    unit = unit_of(run.path)
    for number, entry in totals["shown"]:
        say(out, (" ".join(entry.why.split())[:300], "red"), label=Text(f"{unit} {number}  "))
    if totals["failed"] > len(totals["shown"]):
        say(out, f"and {totals['failed'] - len(totals['shown']):,} more, in {totals['report_file']}")
    if not run.retry_failed:
        say(out, "mend the lines that were refused, and run the same command again")
        say(out, "to ask for the others anew, which costs money, add --retry-failed")


def _say_how_to_go_on(stopped: str, totals: dict[str, Any], *, passing: bool) -> None:
    left = totals["requests"] - totals["done"] - totals["failed"]
    say(err, ("stopped: ", "yellow"), f"{stopped}; {left:,} requests are not done")
    say(err, "the same command goes on from here, and pays for nothing twice")
    if not passing:
        say(err, "what was sent goes on while the service runs")
