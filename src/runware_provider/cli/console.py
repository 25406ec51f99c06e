"""stdout and stderr: what a reader who leaves, a narrow terminal and a hostile character do to what is said there."""

import json
import os
import re
from contextlib import suppress
from typing import IO, Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

Part = str | tuple[str, str] | Text
"""Words, words with a style, or text that has its styles."""

NARROW = 24
"""Columns below which words are not set beside their label any more but under it."""


class _Stream(Console):
    """What is said is taken literally, and is only broken where we say so. `left`: its reader has gone."""

    left = False

    def __init__(self, *, stderr: bool) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def on_broken_pipe(self) -> None:
        """The reader left, as `head` does: the rest is said to nobody, and the exit code stays that of the job."""
        self.left = True
        discard(self.file)


out = _Stream(stderr=False)
err = _Stream(stderr=True)


def discard(stream: IO[str]) -> None:
    """Let what is and was written to a stream whose reader has left go nowhere, also at the exit."""
    with suppress(OSError, ValueError):  # a stream of a test has no descriptor
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def columns_of(stream: Console) -> int | None:
    """How wide the terminal is; None for a file or a pipe, where any line is as long as it has to be."""
    return stream.width if stream.file.isatty() else None


_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {0x7F: 0x2421}
_CONTROLS = _PICTURES | dict.fromkeys(range(0x80, 0xA0), 0xFFFD) | {ord("\t"): ord(" ")}


def clean(text: Text) -> Text:
    """`text` without characters that would command the terminal: a prompt or a label may be anybody's.

    Each is replaced by one that shows it, so that styles stay where they are.
    """
    if not text.plain.isprintable():
        text = text.copy()
        text.plain = text.plain.translate(_CONTROLS)
    return text


def line_of(value: Part | None) -> Text:
    """`value` on one line; a dash for None."""
    match value:
        case None:
            return Text("–")
        case Text():
            return clean(value)
        case (words, style):
            return clean(Text(words, style))
        case _:
            return clean(Text(" ".join(value.split())))


def fitted(value: str, columns: int) -> str:
    """`value` on one line of at most so many columns, for what moves; it ends in `…` where it was cut."""
    line = line_of(value).copy()
    line.truncate(max(columns, 1), overflow="ellipsis")
    return line.plain


def say(stream: Console, *parts: Part, label: Part = "") -> None:
    """One paragraph. On a terminal it is broken between words, and stays to the right of its `label`.

    A word is never broken: an id or a path must come whole out of a terminal that it is copied from.
    """
    text, head = clean(Text.assemble(*parts)), line_of(label).copy() if label else Text()
    columns = columns_of(stream)
    indent = head.cell_len
    if columns is not None and indent and columns - indent < NARROW:
        head.rstrip()
        if head:
            stream.print(head)
        head, indent = Text("    "), 4
    for line in text.split("\n", allow_blank=True):
        for piece in [line] if columns is None else _broken(line, max(columns - indent, 1)):
            stream.print(Text.assemble(head, piece))
            head = Text(" " * indent)


def _broken(text: Text, columns: int) -> list[Text]:
    """`text` in lines of at most `columns`, but for words that are longer."""
    cuts, used = [], 0
    for word in _WORD.finditer(text.plain):
        if used and used + cell_len(word[0].rstrip()) > columns:
            cuts.append(word.start())
            used = 0
        used += cell_len(word[0])
    lines = list(text.divide(cuts))
    for line in lines:
        line.rstrip()
    return lines


_WORD = re.compile(r" *[^ ]+ *| +")


def print_json(value: Any) -> None:
    """For scripts: plain, one document."""
    stream = out.file
    unicode = (getattr(stream, "encoding", None) or "").lower().replace("-", "") == "utf8"
    try:
        print(json.dumps(value, ensure_ascii=not unicode, indent=2), file=stream, flush=True)
    except BrokenPipeError:
        discard(stream)
