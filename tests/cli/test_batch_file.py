"""The file of a batch: what is read from it, and that every mistake is named by line and field."""

import csv
import io
import json
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runware_provider.cli import batch_file, batch_plan
from runware_provider.cli.batch_file import Line, Mistake, read_lines
from runware_provider.cli.batch_plan import check
from runware_provider.cli.fields import Fields
from runware_provider.errors import ConfigurationError, InvalidArgs

DEFAULTS = Fields({"model": "runware:101@1"}, {})


def wrote(folder: Path, name: str, content: str | bytes) -> Path:
    """A file with this content."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def lines(path: Path, defaults: Fields = DEFAULTS) -> list[Line]:
    """The requests of a file without mistakes."""
    check(path, defaults)
    return [line for line in read_lines(path, defaults) if isinstance(line, Line)]


def inputs(path: Path) -> list[dict[str, Any]]:
    """What is asked for."""
    return [line.input for line in lines(path)]


def refusal(path: Path) -> str:
    """What is said of a file that is not taken."""
    with pytest.raises((InvalidArgs, ConfigurationError)) as raised:
        check(path, DEFAULTS)
    return str(raised.value)


def test_json_lines_are_runwares_fields_and_labels(tmp_path: Path) -> None:
    """`prompt` is short for positivePrompt; empty lines are nothing; a line wins over what is said for all."""
    path = wrote(
        tmp_path,
        "prompts.jsonl",
        '\ufeff{"prompt": "a fox", "CFGScale": 3.5, "metadata": {"order": "7"}}\n\n'
        '  {"positivePrompt": "a hare", "model": "acme:1@1", "lora": [{"model": "a:1@1", "weight": 0.5}]}\r\n',
    )

    first, second = lines(path, Fields({"model": "runware:101@1", "steps": 4}, {"shop": "x", "order": "0"}))

    assert first == Line(
        1,
        {"model": "runware:101@1", "steps": 4, "CFGScale": 3.5, "positivePrompt": "a fox"},
        {"shop": "x", "order": "7"},
    )
    assert (second.number, second.input["model"], second.input["lora"][0]["weight"]) == (3, "acme:1@1", 0.5)


def test_cells_are_numbers_json_or_words(tmp_path: Path) -> None:
    """A prompt that is `42` stays a prompt, a seed that is 42 is a number, and an empty cell says nothing."""
    path = wrote(
        tmp_path,
        "prompts.csv",
        "prompt,seed,CFGScale,checkNSFW,scheduler,lora,metadata.order,metadata.note\n"
        '42,42,3.5,true,euler,"[{""model"": ""a:1@1""}]",007,\n'
        '"a ""red"" fox,\nat dusk",18446744073709551615,,,NaN,,,x\n',
    )

    first, second = lines(path)

    assert first.input == {
        "model": "runware:101@1",
        "positivePrompt": "42",
        "seed": 42,
        "CFGScale": 3.5,
        "checkNSFW": True,
        "scheduler": "euler",
        "lora": [{"model": "a:1@1"}],
    }
    assert first.labels == {"order": "007"}
    assert second.input["positivePrompt"] == 'a "red" fox,\nat dusk'
    assert (second.input["seed"], second.input["scheduler"]) == (2**64 - 1, "NaN")
    assert (first.number, second.number) == (2, 3)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "prompt;seed\na fox, red;7\n"),
        ("a.csv", "prompt\tseed\na fox, red\t7\n"),
        ("a.tsv", "prompt\tseed\na fox, red\t7\n"),
        ("a.csv", '\ufeffprompt,seed,\r\n"a fox, red",7,\r\n,,\r\n'),
        ("a.CSV", 'prompt,seed,width\n"a fox, red",7\n\n'),
    ],
)
def test_csv_comes_as_spreadsheets_write_it(tmp_path: Path, name: str, text: str) -> None:
    """Semicolons where the comma is the decimal sign, tabs, a byte order mark, empty columns and rows at the end."""
    assert inputs(wrote(tmp_path, name, text)) == [
        {"model": "runware:101@1", "positivePrompt": "a fox, red", "seed": 7}
    ]


MISTAKES = [
    ("a.jsonl", "{", "line 1: is not JSON"),
    ("a.jsonl", "[" * 100_000, "line 1: is nested too deep"),
    ("a.jsonl", '"a fox"', 'line 1: is not a JSON object, such as {"prompt": "a red fox"}'),
    ("a.jsonl", b'{"prompt": "\xff"}', "line 1: is not UTF-8"),
    ("a.jsonl", '{"prompt": "a", "prompt": "b"}', "line 1: prompt: is given twice"),
    ("a.jsonl", '{"prompt": "a", "positivePrompt": "b"}', "line 1: prompt: is the same as positivePrompt"),
    ("a.jsonl", '{"steps": 4}', "line 1: positivePrompt: is missing"),
    ("a.jsonl", '\n\n{"prompt": "a", "width": "wide"}', "line 3: width: Input should be a valid integer"),
    ("a.jsonl", '{"prompt": "a", "taskUUID": "x"}', "line 1: taskUUID: is set by runware-provider"),
    ("a.jsonl", '{"prompt": "a", "metadata": 7}', "line 1: metadata: must be an object"),
    ("a.jsonl", '{"prompt": "a", "metadata": {"n": 7}}', "line 1: metadata.n: must be a string"),
    ("a.jsonl", '{"prompt": "a", "metadata": {"n": "' + "x" * 513 + '"}}', "line 1: metadata.n: must be a label"),
    ("a.jsonl", '{"prompt": "a\\ud800"}', "a lone surrogate"),
    ("a.jsonl", '{"prompt": "a", "CFGScale": NaN}', "line 1: CFGScale"),
    ("a.jsonl", "", "has no requests"),
    ("a.csv", "", "has no requests"),
    ("a.csv", "prompt\n", "has no requests"),
    ("a.csv", "Prompt,seed\na fox,7\n", "has no column `prompt` in its header, which is Prompt, seed"),
    ("a.csv", "prompt,seed,seed\na fox,7,8\n", "has the column 'seed' twice"),
    ("a.csv", "prompt,,seed\na fox,7,8\n", "has a column without a name"),
    ("a.csv", "prompt,seed\na fox,seven\n", "row 2: seed: Input should be a valid integer"),
    ("a.csv", "prompt,seed\na fox\n,7\n", "row 3: positivePrompt: is missing"),
    ("a.csv", "prompt,seed\na fox, red,7\n", "row 2: has 3 cells, and the header 2"),
    ("a.csv", 'prompt,seed\n"a fox,7\n', "row 2 is not CSV"),
    ("a.csv", b"prompt\na fox\n\xff\n", "line 3 is not UTF-8"),
    ("a.csv", ",".join(f"c{number}" for number in range(300)), "more than 256 columns"),
    ("a.txt", "a fox", "is neither .jsonl (an object a line) nor .csv"),
]


@pytest.mark.parametrize(("name", "content", "words"), MISTAKES, ids=[words[:40] for _, _, words in MISTAKES])
def test_a_mistake_is_named_by_file_line_and_field(tmp_path: Path, name: str, content: str | bytes, words: str) -> None:
    """Whoever has ten thousand lines must not look for it."""
    path = wrote(tmp_path, name, content)

    said = refusal(path)

    assert words in said
    assert str(path) in said


def test_mistakes_are_told_together_but_not_without_end(tmp_path: Path) -> None:
    """Twenty lines, and how many there are beside."""
    path = wrote(tmp_path, "a.jsonl", '{"prompt": "good"}\n' + '{"prompt": 7}\n' * 1_000)

    said = refusal(path).splitlines()

    assert len(said) == 21
    assert "line 2: positivePrompt" in said[0]
    assert said[-1] == "and 980 more"


def test_a_line_a_row_a_file_and_its_models_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that comes from outside is read without end."""
    monkeypatch.setattr(batch_file, "MAX_LINE_BYTES", 1024**2)
    monkeypatch.setattr(batch_file, "MAX_LINES", 3)
    monkeypatch.setattr(batch_plan, "MAX_NAMES", 2)
    long = "x" * (1024**2 + 1)
    quoted = '"' + "x\n" * (1024**2 // 2 + 1) + '"'
    four = '{"prompt": "a"}\n' * 4

    assert "line 2 is longer than 1 MiB" in refusal(wrote(tmp_path, "a.jsonl", '{"prompt": "a"}\n' + long))
    assert "longer than 1 MiB" in refusal(wrote(tmp_path, "b.csv", "prompt\n" + long))
    assert "longer than 1 MiB" in refusal(wrote(tmp_path, "c.csv", "prompt\n" + quoted))
    assert "has more than 3 requests" in refusal(wrote(tmp_path, "d.jsonl", four))
    assert "has more than 3 requests" in refusal(wrote(tmp_path, "e.jsonl", "7\n" * 4))
    assert len(inputs(wrote(tmp_path, "f.jsonl", four[:-16]))) == 3
    named = "".join(json.dumps({"prompt": "a", "model": f"model {number}"}) + "\n" for number in range(3))
    assert "names more than 2 models" in refusal(wrote(tmp_path, "g.jsonl", named))


def test_a_cell_may_be_as_long_as_its_row(tmp_path: Path) -> None:
    """Python's CSV stops at 128 KiB, which a picture within a request is soon beyond."""
    path = wrote(tmp_path, "a.csv", f"prompt,seedImage\na,{'x' * 300_000}\n")

    assert len(inputs(path)[0]["seedImage"]) == 300_000


@pytest.mark.parametrize(("name", "words"), [("missing.csv", "No such file"), ("folder.csv", "is no file")])
def test_what_cannot_be_read_is_said_so(tmp_path: Path, name: str, words: str) -> None:
    """By its name."""
    (tmp_path / "folder.csv").mkdir()

    assert words in refusal(tmp_path / name)
    assert name in refusal(tmp_path / name)


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=40).filter(str.strip)


@given(st.lists(st.tuples(WORDS, st.integers(0, 2**64 - 1), WORDS), min_size=1, max_size=5), st.sampled_from(",;\t"))
def test_whatever_is_written_is_read(rows: list[tuple[str, int, str]], delimiter: str) -> None:
    """Quotes, line ends, any language: what a CSV writer wrote, and what a JSON writer wrote, is the same request."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter)
    writer.writerows([("prompt", "seed", "metadata.a"), *rows])
    objects = [{"prompt": prompt, "seed": seed, "metadata": {"a": label}} for prompt, seed, label in rows]
    with TemporaryDirectory() as folder:
        table = wrote(Path(folder), "a.csv", text.getvalue())
        listed = wrote(Path(folder), "a.jsonl", "\n".join(json.dumps(each) for each in objects))

        assert [(each.input["positivePrompt"], each.input["seed"], each.labels["a"]) for each in lines(table)] == rows
        assert [(each.input, each.labels) for each in lines(table)] == [
            (each.input, each.labels) for each in lines(listed)
        ]


@given(st.binary(max_size=200), st.sampled_from(["a.csv", "a.tsv", "a.jsonl"]))
def test_any_bytes_are_requests_or_mistakes(content: bytes, name: str) -> None:
    """Never a traceback."""
    with TemporaryDirectory() as folder:
        path = wrote(Path(folder), name, content)
        with suppress(InvalidArgs):
            assert all(isinstance(each, Line | Mistake) for each in read_lines(path, DEFAULTS))
        with suppress(InvalidArgs):
            assert check(path, DEFAULTS).count > 0
