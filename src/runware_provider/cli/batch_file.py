"""The file of a batch: a request a line, as JSON or as CSV. Read twice, checked as a whole before anything is spent."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from stat import S_ISREG
from typing import Any

from runware_provider.cli.fields import Fields, read_value
from runware_provider.errors import ConfigurationError, InvalidArgs
from runware_provider.schemas import check_create
from runware_provider.types import CreateArgs

MAX_LINES = 100_000
"""Requests in one file."""

MAX_LINE_BYTES = 8 * 1024**2
"""Of one line of JSON, or of one row of CSV: a prompt and small images within it."""

MAX_COLUMNS = 256
"""Of a CSV."""

SHOWN = 20
"""Mistakes that are told at once."""

_JSON_LINES = {".jsonl", ".ndjson"}
_CSV = {".csv", ".tsv"}
_TEXTS = {"positivePrompt", "negativePrompt", "prompt", "model", "scheduler", "outputFormat"}
"""Columns whose cells are words, also where they look like numbers."""

_LABEL = "metadata."


@dataclass(frozen=True, slots=True)
class Line:
    """One request. `number`: of the line, or of the row in a spreadsheet, whose header is row 1."""

    number: int
    input: dict[str, Any]
    labels: dict[str, str]


class Mistake(Exception):
    """What is wrong with one line: its fields, by name, and what they must be."""

    def __init__(self, number: int, *fields: tuple[str, str]) -> None:
        self.number = number
        super().__init__("; ".join(f"{name}: {words}" if name else words for name, words in fields))


def read_lines(path: Path, defaults: Fields) -> Iterator[Line | Mistake]:
    """The requests of a file, one after the other; what a line does not say is taken from `defaults`.

    Lines are not checked yet as requests. Raises ConfigurationError for a file that cannot be read, and InvalidArgs
    for what is wrong with the whole of it.
    """
    kind = path.suffix.lower()
    if kind not in _JSON_LINES | _CSV:
        raise _wrong(path, "is neither .jsonl (an object a line) nor .csv (a header with Runware's fields)")
    count = 0
    for made in _json_lines(path) if kind in _JSON_LINES else _rows(path, kind):
        count += 1
        if count > MAX_LINES:
            raise _wrong(path, f"has more than {MAX_LINES:,} requests; divide it")
        yield made if isinstance(made, Mistake) else _completed(made, defaults)
    if not count:
        raise _wrong(path, "has no requests")


def checked(line: Line) -> Line:
    """`line`, when it can be asked for. Raises Mistake."""
    fields: list[tuple[str, str]] = []
    if "positivePrompt" not in line.input:
        fields.append(("positivePrompt", "is missing (`prompt` is the same); `__BLANK__` asks for none"))
    try:
        check_create(CreateArgs(input=line.input, metadata=line.labels))
    except InvalidArgs as error:
        fields += [(name.removeprefix("input."), words) for name, words in error.issues]
    if fields:
        raise Mistake(line.number, *fields)
    return line


def digest_of(line: Line) -> str:
    """What tells this request from every other, whatever line it stands on."""
    return sha256(json.dumps([line.input, line.labels], sort_keys=True).encode()).hexdigest()


class BadLines(InvalidArgs):
    """Mistakes of a file, of which the first are told; there are `count`."""

    def __init__(self, path: Path, mistakes: Sequence[Mistake], count: int) -> None:
        super().__init__([(f"{path}, {unit_of(path)} {each.number}", str(each)) for each in mistakes[:SHOWN]])
        self._more = count - len(self.issues)

    def __str__(self) -> str:
        lines = [f"{where}: {words}" for where, words in self.issues]
        return "\n".join([*lines, f"and {self._more:,} more"] if self._more > 0 else lines)


def unit_of(path: Path) -> str:
    """What a request of this file is found by."""
    return "row" if path.suffix.lower() in _CSV else "line"


def _completed(line: Line, defaults: Fields) -> Line | Mistake:
    given = dict(line.input)
    if "prompt" in given:
        if "positivePrompt" in given:
            return Mistake(line.number, ("prompt", "is the same as positivePrompt; give one of them"))
        given["positivePrompt"] = given.pop("prompt")
    return Line(line.number, {**defaults.input, **given}, {**defaults.labels, **line.labels})


def _json_lines(path: Path) -> Iterator[Line | Mistake]:
    with _opened(path) as file:
        number = 0
        while text := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(text) > MAX_LINE_BYTES:
                raise _wrong(path, f"line {number} is longer than {MAX_LINE_BYTES // 1024**2} MiB")
            text = text.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else text.strip()
            if text:
                yield _object(number, text)


def _object(number: int, text: bytes) -> Line | Mistake:
    try:
        made = json.loads(text.decode(), object_pairs_hook=_once)
    except UnicodeDecodeError:
        return Mistake(number, ("", "is not UTF-8"))
    except _Twice as error:
        return Mistake(number, (str(error), "is given twice"))
    except RecursionError:
        return Mistake(number, ("", "is nested too deep"))
    except ValueError as error:
        return Mistake(number, ("", f"is not JSON: {error}"))
    if not isinstance(made, dict):
        return Mistake(number, ("", "is not a JSON object, such as {'prompt': 'a red fox'}".replace("'", '"')))
    labels = made.pop("metadata", {})
    if not isinstance(labels, dict):
        return Mistake(number, ("metadata", "must be an object of labels"))
    wrong = [key for key, value in labels.items() if not isinstance(value, str)]
    if wrong:
        return Mistake(number, *((f"{_LABEL}{key}", "must be a string") for key in wrong[:SHOWN]))
    return Line(number, made, labels)


class _Twice(Exception):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return made


def _rows(path: Path, kind: str) -> Iterator[Line | Mistake]:
    with _opened(path) as file:
        csv.field_size_limit(MAX_LINE_BYTES)
        lines = _Lines(path, file)
        first = next(lines, "")
        if not first:
            return
        delimiter = "\t" if kind == ".tsv" else max(",;\t", key=first.count)
        rows = csv.reader(lines.again(first), delimiter=delimiter, strict=True)
        header: list[str] | None = None
        number = 0
        while True:
            number += 1
            lines.begin()
            try:
                cells = next(rows, None)
            except csv.Error as error:
                raise _wrong(path, f"row {number} is not CSV: {error}") from None
            if cells is None:
                return
            if header is None:
                header = _header(path, cells)
            elif any(cell.strip() for cell in cells):
                yield _row(number, header, cells)


class _Lines:
    """The lines of a CSV, of which no row may be longer than the limit."""

    def __init__(self, path: Path, file: Any) -> None:
        self._path, self._file = path, file
        self._number = self._size = 0
        self._first: str | None = None

    def begin(self) -> None:
        """A row begins."""
        self._size = 0

    def again(self, first: str) -> "_Lines":
        """Give the first line once more."""
        self._first = first
        return self

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        text = self._file.readline(MAX_LINE_BYTES + 1)
        if not text:
            raise StopIteration
        self._number += 1
        self._size += len(text)
        if self._size > MAX_LINE_BYTES:
            raise _wrong(self._path, f"the row at line {self._number} is longer than {MAX_LINE_BYTES // 1024**2} MiB")
        try:
            return str(text.decode("utf-8-sig" if self._number == 1 else "utf-8"))
        except UnicodeDecodeError:
            raise _wrong(self._path, f"line {self._number} is not UTF-8") from None


def _header(path: Path, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    if len(names) > MAX_COLUMNS:
        raise _wrong(path, f"has more than {MAX_COLUMNS} columns")
    for name in names:
        if not name:
            raise _wrong(path, "has a column without a name; the header holds Runware's fields, such as prompt")
        if names.count(name) > 1:
            raise _wrong(path, f"has the column {name!r} twice")
    if not {"prompt", "positivePrompt"} & set(names):
        raise _wrong(path, f"has no column `prompt` in its header, which is {', '.join(names)[:200] or 'empty'}")
    return names


def _row(number: int, header: list[str], cells: list[str]) -> Line | Mistake:
    if any(cell.strip() for cell in cells[len(header) :]):
        return Mistake(number, ("", f"has {len(cells)} cells, and the header {len(header)}; is a quote missing?"))
    given: dict[str, Any] = {}
    labels: dict[str, str] = {}
    for name, cell in zip(header, cells, strict=False):
        if not cell.strip():
            continue  # an empty cell says nothing
        if name.startswith(_LABEL):
            labels[name.removeprefix(_LABEL)] = cell
        else:
            given[name] = cell if name in _TEXTS else read_value(cell.strip())
    return Line(number, given, labels)


def _opened(path: Path) -> Any:
    try:
        if not S_ISREG(path.stat().st_mode):
            raise _wrong(path, "is no file; a batch is read more than once, so it cannot come through a pipe")
        return path.open("rb")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error


def _wrong(path: Path, words: str) -> InvalidArgs:
    return InvalidArgs([(str(path), words)])
