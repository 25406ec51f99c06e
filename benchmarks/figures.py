"""Figures with their spread, beside the bars that they are to meet."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal, Self

Sense = Literal["at least", "at most", "reported"]


@dataclass(frozen=True)
class Figure:
    """Several rounds of one measure. `bar` is what the median is compared with."""

    measure: str
    unit: str
    rounds: Sequence[float]
    sense: Sense = "reported"
    bar: float | None = None
    note: str = ""
    digits: int = 0

    @property
    def median(self) -> float:
        """What stands in the table."""
        return median(self.rounds)

    @property
    def ratio(self) -> float | None:
        """How far the bar is exceeded: 1 is just met, more is better."""
        if self.bar is None or not self.median:
            return None
        return self.median / self.bar if self.sense == "at least" else self.bar / self.median

    def row(self) -> list[str]:
        """As the table has it."""
        spread = f" ({self._text(min(self.rounds))} – {self._text(max(self.rounds))})" if len(self.rounds) > 1 else ""
        sign = {"at least": "≥", "at most": "≤", "reported": ""}[self.sense]
        bar = "reported" if self.bar is None else f"{sign} {self._text(self.bar)} {self.unit}".strip()
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        met = "" if self.ratio is None else ("yes" if self.ratio >= 1 else "NO")
        return [self.measure, bar, f"{self._text(self.median)} {self.unit}{spread}".strip(), ratio, met]

    def _text(self, value: float) -> str:
        return f"{value:,.{self.digits}f}"


@dataclass
class Report:
    """What one measure found, and what has to be said about it."""

    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __iadd__(self, other: "Report") -> Self:
        self.figures += other.figures
        self.notes += other.notes
        return self


def table(figures: Iterable[Figure]) -> str:
    """A Markdown table that is also readable as it is."""
    rows = [
        ["measure", "bar", "median (least – most)", "ratio", "met"],
        *(figure.row() for figure in figures),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
