"""Records on one line where there is room, and on several where there is not; nothing is cut in secret."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from runware_provider.cli.console import Part, columns_of, line_of

GAP = 2
INDENT = 2
"""Columns by which the second line of a record, and those after it, are set in."""


@dataclass(frozen=True, slots=True)
class Column:
    """What a record says about one thing.

    `least`: of words that may end in `…` on a terminal, how many columns must be left of them. None: whole, always.
    """

    name: str
    right: bool = False
    least: int | None = None


def records(stream: Console, columns: Sequence[Column], rows: Iterable[Sequence[Part | None]]) -> None:
    """Print `rows` under the names of their `columns`; None is a dash.

    On a terminal that is too narrow a record goes on in a second line, or as many as it takes, in the same order. What
    is not a terminal gets one line a record, and everything whole.
    """
    names = [Text(column.name, "bold") for column in columns]
    lines = [names, *([line_of(cell) for cell in row] for row in rows)]
    wide = [max(line[place].cell_len for line in lines) for place in range(len(columns))]
    shelves = _shelves(columns, wide, columns_of(stream))
    for line in lines:
        for number, shelf in enumerate(shelves):
            stream.print(_side_by_side(columns, line, shelf, INDENT if number else 0))


def _shelves(columns: Sequence[Column], full: Sequence[int], width: int | None) -> list[dict[int, int]]:
    """Which columns stand on which line of a record, and how wide each is."""
    least = [
        wide if column.least is None else min(wide, max(column.least, len(column.name)))
        for column, wide in zip(columns, full, strict=True)
    ]
    if width is None:
        return _packed(full, width)
    shelves = _packed(least, width)
    full = [min(wide, max(wanted, width - INDENT)) for wide, wanted in zip(full, least, strict=True)]
    uncut = _packed(full, width)
    if len(uncut) == len(shelves):
        return uncut
    for number, shelf in enumerate(shelves):
        spare = width - sum(shelf.values()) - GAP * (len(shelf) - 1) - (INDENT if number else 0)
        for place, wide in shelf.items():
            shelf[place] = max(wide, min(full[place], wide + spare))
            spare -= shelf[place] - wide
    return shelves


def _packed(needed: Sequence[int], width: int | None) -> list[dict[int, int]]:
    shelves: list[dict[int, int]] = [{}]
    used = 0
    for place, wide in enumerate(needed):
        if shelves[-1] and width is not None and used + GAP + wide > width:
            shelves.append({})
        used = used + GAP + wide if shelves[-1] else wide + (INDENT if len(shelves) > 1 else 0)
        shelves[-1][place] = wide
    return shelves


def _side_by_side(columns: Sequence[Column], line: Sequence[Text], shelf: dict[int, int], indent: int) -> Text:
    made = Text(" " * indent)
    for place, width in shelf.items():
        cell = line[place].copy()
        if columns[place].least is not None:
            cell.truncate(width, overflow="ellipsis")
        pad = " " * (width - cell.cell_len)
        made.append_text(Text.assemble(pad, cell) if columns[place].right else Text.assemble(cell, pad))
        made.append(" " * GAP)
    made.rstrip()
    return made
