"""Records and paragraphs: whole for whoever copies, within the terminal for whoever reads."""

import io
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from runware_provider.cli.console import say
from runware_provider.cli.layout import Column, records

WORDS = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=60)
ROWS = st.lists(st.tuples(WORDS, WORDS, WORDS, WORDS), min_size=1, max_size=4)
COLUMNS = [Column("id"), Column("cost", right=True), Column("prompt", least=12), Column("seed")]


class Screen(io.StringIO):
    """A terminal, or a file."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        """What a command asks."""
        return self.terminal


def screen(columns: int | None) -> tuple[Console, Screen]:
    """A console on a terminal of so many columns, or on a file."""
    file = Screen(terminal=columns is not None)
    return Console(file=file, width=columns or 80, color_system=None, markup=False, emoji=False, soft_wrap=True), file


def printed(rows: Sequence[Sequence[str | None]], columns: int | None) -> list[str]:
    """The lines that records make."""
    console, file = screen(columns)
    records(console, COLUMNS, rows)
    return file.getvalue().splitlines()


def said(text: str, columns: int | None, label: str = "") -> list[str]:
    """The lines that a paragraph makes."""
    console, file = screen(columns)
    say(console, text, label=(label, "dim"))
    return file.getvalue().splitlines()


@given(rows=ROWS, columns=st.integers(20, 200))
def test_nothing_but_words_that_may_be_cut_is_cut_and_that_shows(
    rows: list[tuple[str, str, str, str]], columns: int
) -> None:
    """Every value is on one line, in its order; a line that is too wide holds that value alone."""
    lines = printed(rows, columns)

    per_record, rest = divmod(len(lines), len(rows) + 1)
    assert rest == 0
    for number, row in enumerate(rows, 1):
        record = lines[number * per_record : (number + 1) * per_record]
        for place, value in enumerate(row):
            assert any(value in line for line in record) or (place == 2 and any("…" in line for line in record))
        for line in record:
            assert cell_len(line) <= columns or line.strip() in row


@given(rows=ROWS)
def test_a_file_gets_one_line_a_record_with_all_of_it(rows: list[tuple[str, str, str, str]]) -> None:
    """Whatever a terminal would do to it."""
    lines = printed(rows, None)

    assert len(lines) == len(rows) + 1
    for row, line in zip(rows, lines[1:], strict=True):
        assert line.split() == list(row)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (40, ["id          cost  prompt            seed", "0123456789    $1  a lighthouse at…     7"]),
        (
            30,
            ["id          cost", "  prompt                seed", "0123456789    $1", "  a lighthouse at dusk     7"],
        ),
    ],
)
def test_what_has_no_room_stands_on_the_next_line(columns: int, expected: list[str]) -> None:
    """In the same order, under a head that is broken alike; when there are more lines anyhow, words are not cut."""
    console, file = screen(columns)
    places = [Column("id"), Column("cost", right=True), Column("prompt", least=12), Column("seed", right=True)]
    records(console, places, [("0123456789", "$1", "a lighthouse at dusk", "7")])

    assert file.getvalue().splitlines() == expected


def test_what_is_not_known_is_a_dash_and_a_prompt_of_many_lines_one_line() -> None:
    """A record is a record."""
    assert printed([("a", None, "one\n two\tthree", "d")], None)[1].split("  ")[-2:] == ["one two three", "d"]
    assert "–" in printed([("a", None, "b", "d")], None)[1]


@given(
    words=st.lists(WORDS, min_size=1, max_size=20),
    columns=st.integers(10, 100),
    label=st.sampled_from(["", "a label "]),
)
def test_a_paragraph_is_broken_between_words_only(words: list[str], columns: int, label: str) -> None:
    """An id or a path in the middle of a sentence is copied whole."""
    lines = said(" ".join(words), columns, label)

    assert " ".join(lines).split() == [*label.split(), *words]
    for line in lines:
        assert cell_len(line) <= columns or len(line.removeprefix(label).split()) == 1


def test_a_paragraph_stays_beside_its_label_and_keeps_its_own_lines() -> None:
    """Where there is room; else it is set below."""
    text = "one two three four five\nsix"

    assert said(text, 36, "prompt      ") == ["prompt      one two three four five", "            six"]
    assert said(text, 30, "prompt      ") == ["prompt", "    one two three four five", "    six"]
    assert said(text, None, "prompt      ") == ["prompt      one two three four five", "            six"]


def test_control_characters_are_shown_and_not_sent() -> None:
    """They would move the cursor, change the title, or worse."""
    [line] = said("a\x1b[2Jb\x9b31mc\x7fd\te", None)

    assert line == "a␛[2Jb\ufffd31mc␡d e"
