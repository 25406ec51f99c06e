"""Geometry of the plots: bars of days stacked by model, and a row of small bars. Drawn by the templates as SVG."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from runware_provider.types import DayOfModel

WIDTH, HEIGHT = 720, 180
SERIES = 6
"""Models with a colour of their own; the rest is one series."""

REST = "others"


@dataclass(frozen=True, slots=True)
class Bar:
    """One rectangle. `series`: which colour; `title`: what it says."""

    x: float
    y: float
    width: float
    height: float
    series: int
    title: str


@dataclass(frozen=True, slots=True)
class SpendPlot:
    """`legend`: models in the order of their colours, with what each cost. `days`: label, place and total of each."""

    bars: Sequence[Bar]
    legend: Sequence[tuple[str, int]]
    days: Sequence[tuple[str, float, int]]
    most_micros: int


def spend_plot(rows: Sequence[DayOfModel], last: date, days: int) -> SpendPlot:
    """What was spent on each of the `days` up to `last`, by model."""
    by_model: Counter[str] = Counter()
    for row in rows:
        by_model[row.model or "unknown"] += row.cost_micros
    shown = [model for model, _ in by_model.most_common(SERIES)]
    legend = [(model, by_model[model]) for model in shown]
    if len(by_model) > SERIES:
        legend.append((REST, sum(by_model.values()) - sum(cost for _, cost in legend)))
    costs: dict[str, Counter[int]] = {}
    for row in rows:
        model = row.model or "unknown"
        series = shown.index(model) if model in shown else SERIES
        costs.setdefault(row.day, Counter())[series] += row.cost_micros
    names = [(last - timedelta(days=ago)).isoformat() for ago in reversed(range(days))]
    most = max((sum(costs.get(day, Counter()).values()) for day in names), default=0)
    step = WIDTH / days
    bars, labels = [], []
    for number, day in enumerate(names):
        top = float(HEIGHT)
        of_day = costs.get(day, Counter())
        for series in sorted(of_day):
            height = HEIGHT * of_day[series] / most if most else 0.0
            top -= height
            name = legend[series][0] if series < len(legend) else REST
            title = f"{day}: {name} ${of_day[series] / 1e6:.4f}"
            bars.append(Bar(_px(number * step + step * 0.15), _px(top), _px(step * 0.7), _px(height), series, title))
        labels.append((day, _px(number * step + step / 2), sum(of_day.values())))
    return SpendPlot(bars, legend, labels, most)


def minute_bars(counts: Sequence[int], width: int = 240, height: int = 40) -> Sequence[Bar]:
    """One bar a minute, the oldest first."""
    most = max(counts, default=0)
    step = width / max(len(counts), 1)
    bars = []
    for number, count in enumerate(counts):
        tall = height * count / most if most else 0.0
        title = f"{count} a minute, {len(counts) - 1 - number} min ago"
        bars.append(Bar(_px(number * step), _px(height - tall), _px(step * 0.8), _px(tall), 0, title))
    return bars


def _px(value: float) -> float:
    return round(value, 2)
