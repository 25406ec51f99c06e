"""What a batch is going to do: its requests, each under a key that stays its own when the file changes around it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runware_provider.cli.batch_file import SHOWN, BadLines, Line, Mistake, checked, digest_of, read_lines
from runware_provider.cli.batch_journal import Journal
from runware_provider.cli.fields import Fields
from runware_provider.cli.names import is_air
from runware_provider.errors import InvalidArgs

MAX_NAMES = 50
"""Different names of models in one file, each of which is searched once. AIR ids are not counted."""

LABEL = "batch"
"""The label under which everything of a batch is found."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was checked as a whole: how many requests, and which names of models are in it."""

    path: Path
    defaults: Fields
    count: int
    names: frozenset[str]

    def requests(self, journal: Journal) -> Iterator[tuple[str, Line]]:
        """Each request with its key. Raises InvalidArgs when the file is no longer the one that was checked.

        The key follows from what is asked for and from how often that was asked for before in the file: lines may be
        added, moved and taken away, and none of the others becomes another request.
        """
        seen: Counter[str] = Counter()
        try:
            for line in read_lines(self.path, self.defaults):
                if isinstance(line, Mistake):
                    raise line
                model = checked(line).input["model"]
                labels = {LABEL: journal.batch, **line.labels} if len(line.labels) < 32 else line.labels
                line = Line(line.number, {**line.input, "model": journal.models.get(model, model)}, labels)
                digest = digest_of(line)[:32]
                seen[digest] += 1
                yield f"{digest}-{seen[digest]}", line
        except Mistake as mistake:
            raise InvalidArgs([(str(self.path), f"was changed while it was at work ({mistake})")]) from None


def check(path: Path, defaults: Fields) -> Source:
    """Read a file as a whole. Raises InvalidArgs with every line that is wrong, of which the first are told."""
    mistakes: list[Mistake] = []
    count = wrong = 0
    names: set[str] = set()
    for line in read_lines(path, defaults):
        try:
            if isinstance(line, Mistake):
                raise line
            model = checked(line).input["model"]
        except Mistake as mistake:
            wrong += 1
            if len(mistakes) < SHOWN:
                mistakes.append(mistake)
            continue
        count += 1
        if not is_air(model):
            names.add(model)
            if len(names) > MAX_NAMES:
                raise InvalidArgs([(str(path), f"names more than {MAX_NAMES} models; give AIR ids, with a colon")])
    if mistakes:
        raise BadLines(path, mistakes, wrong)
    return Source(path, defaults, count, frozenset(names))
