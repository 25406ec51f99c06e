"""What `--help` prints: plain words, an option a line, whole on any terminal."""

import textwrap
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from runware_provider.cli.console import out

WIDEST = 100
"""Columns that are used at most: longer lines are hard to read."""

LEFT = 26
"""Columns of an option and its value; what a longer one is for stands under it."""

LEAST = 28
"""Columns that what it is for must have, else it stands under it."""


class Command(TyperCommand):
    """One command."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  it is printed, not formatted into one string
        """Print the help."""
        _print(_command(self, ctx))


class Group(TyperGroup):
    """All commands."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Print the help."""
        _print(_group(self, ctx))


Line = tuple[str, str]
"""Text and its style."""


def _print(lines: Iterable[Line]) -> None:
    for words, style in lines:
        out.print(Text(words, style))


def _command(command: Any, ctx: Any) -> Iterator[Line]:
    yield from _usage(command, ctx)
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.get_params(ctx) if each.param_type_name == "option"]
    if arguments:
        yield from _section("Arguments", [(_name(each), _meaning(each)) for each in arguments])
    for panel, members in _by_panel(options):
        yield from _section(panel or "Options", [(_name(each), _meaning(each)) for each in members])
    yield from _epilog(command.epilog)


def _group(group: Any, ctx: Any) -> Iterator[Line]:
    yield from _usage(group, ctx)
    commands = [group.commands[name] for name in group.list_commands(ctx)]
    for panel, members in _by_panel(commands):
        yield from _section(panel or "Commands", [(each.name, _first(each.help)) for each in members])
    options = [each for each in group.get_params(ctx) if each.param_type_name == "option"]
    yield from _section("Options", [(_name(each), _meaning(each)) for each in options])
    yield from _epilog(group.epilog)


def _by_panel(members: Iterable[Any]) -> Iterator[tuple[str | None, list[Any]]]:
    """In the order in which each is met first; what has none comes first."""
    listed = list(members)
    order = list(dict.fromkeys([None, *(_panel(each) for each in listed)]))
    listed.sort(key=lambda each: order.index(_panel(each)))
    for panel, found in groupby(listed, _panel):
        yield panel, list(found)


def _panel(each: Any) -> str | None:
    panel = getattr(each, "rich_help_panel", None)
    return panel if isinstance(panel, str) else None


def _usage(command: Any, ctx: Any) -> Iterator[Line]:
    pieces = " ".join(command.collect_usage_pieces(ctx)).replace("{FILE}", "FILE")
    yield from _wrapped(f"{ctx.command_path} {pieces}", 0)
    for paragraph in (command.help or "").split("\n\n"):
        yield "", ""
        yield from _wrapped(" ".join(paragraph.split()), 0)


def _section(title: str, rows: list[tuple[str, str]]) -> Iterator[Line]:
    yield "", ""
    yield title, "bold"
    left = min(max(len(name) for name, _ in rows), LEFT) + 4
    if _width() - left < LEAST:
        left = 6
    for name, words in rows:
        lines = [line for line, _ in _wrapped(words, left)] or [""]
        if len(name) + 4 <= left:
            lines[0] = f"  {name}".ljust(left) + lines[0].lstrip()
        else:
            yield f"  {name}", ""
        for line in lines:
            yield line.rstrip(), ""


def _epilog(text: str | None) -> Iterator[Line]:
    """Paragraphs; after `Examples:` each is a line for the shell."""
    if not text:
        return
    yield "", ""
    title, *rest = text.split("\n\n")
    if title != "Examples:":
        yield from _wrapped(" ".join(text.split()), 0)
        return
    yield "Examples", "bold"
    for line in rest:
        *before, last = [words for words, _ in _wrapped(f"$ {line.strip()}", 4, first=2, room=2)]
        for words in before:
            yield f"{words} \\", ""
        yield last, ""


def _wrapped(text: str, indent: int, *, first: int | None = None, room: int = 0) -> Iterator[Line]:
    wrapped = textwrap.wrap(
        text,
        max(_width() - room, 20),
        initial_indent=" " * (indent if first is None else first),
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    for line in wrapped:
        yield line, ""


def _width() -> int:
    return min(out.width, WIDEST)


def _name(parameter: Any) -> str:
    """`-n, --number N`, `--serve/--no-serve` or `ID`."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper()).strip("[]{}")
    names = ", ".join(sorted(parameter.opts, key=len))
    if parameter.secondary_opts:
        return "/".join([names, *parameter.secondary_opts])
    return names if parameter.is_flag or parameter.name == "help" else f"{names} {_value(parameter)}"


def _value(parameter: Any) -> str:
    kinds = {int: "N", float: "N", Path: "PATH"}
    kind = next((name for kind, name in kinds.items() if kind in _kinds(parameter)), "TEXT")
    return str(parameter.metavar or kind)


def _kinds(parameter: Any) -> tuple[Any, ...]:
    """The types that its value may have."""
    annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    return get_args(annotation) or (annotation,)


def _meaning(parameter: Any) -> str:
    """What it is for, within which limits, and what it is when it is not given."""
    notes = []
    least, most = getattr(parameter, "min", None), getattr(parameter, "max", None)
    if least is not None and most is not None and (least, most) != (0, 65535):
        notes.append(f"{least} to {most}")
    elif least:
        notes.append(f"at least {least}")
    if parameter.required:
        notes.append("required")
    elif parameter.show_default and parameter.default not in (None, False, "", (), []) and not parameter.is_flag:
        notes.append(f"default {parameter.default}")
    words = str(parameter.help or "").strip()
    return f"{words} ({'; '.join(notes)})" if notes else words


def _first(text: str | None) -> str:
    """The first sentences: what a list of commands has room for."""
    return " ".join((text or "").split("\n\n")[0].split())
