"""What a chart of the report shows, as values: bars in groups, curves, and the table behind each."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Bar", "BarChart", "BarGroup", "Cell", "Curve", "CurveChart", "Table", "Tick", "curve_chart"]

_MOST_POINTS = 400
_TABLE_ROWS = 20


@dataclass(frozen=True)
class Cell:
    """One cell of a table: its text, and what it sorts by where that is not the text."""

    text: str
    key: float | None = None
    bar: float | None = None

    @classmethod
    def of(cls, text: str, key: object = None) -> "Cell":
        """Make a cell that sorts by a number where there is one."""
        return cls(text, float(key) if isinstance(key, (int, float)) else None)


@dataclass(frozen=True)
class Table:
    """A table: titles with True where a column holds numbers, and rows of cells."""

    caption: str
    columns: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Bar:
    """One bar. `tone` is ``"accent"`` for the result, ``"behind"`` for one that loses to dense, ``"dense"``, else ``"plain"``."""

    label: str
    value: float
    text: str
    note: str = ""
    tone: str = "plain"
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class BarGroup:
    """Bars that share a scale: `full` is the value of a bar across the whole width."""

    title: str
    bars: tuple[Bar, ...]
    full: float
    mark: float | None = None

    def share(self, value: float) -> str:
        """Return where a value lies, in percent of the width."""
        return f"{100 * min(max(value / self.full, 0.0), 1.0):.2f}" if self.full > 0 else "0"


@dataclass(frozen=True)
class BarChart:
    """Groups of bars with a caption that says what a longer bar means, and the table behind them."""

    title: str
    caption: str
    groups: tuple[BarGroup, ...]
    table: Table
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tick:
    """A labelled position along an axis, in percent."""

    at: float
    text: str


@dataclass(frozen=True)
class Curve:
    """A line: its label, its points in percent of the plot (for drawing) and as text (for the readout)."""

    label: str
    points: str
    readout: str


@dataclass(frozen=True)
class CurveChart:
    """Lines over a common pair of axes."""

    title: str
    caption: str
    x_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    curves: tuple[Curve, ...]
    table: Table
    notes: tuple[str, ...] = field(default=())


def curve_chart(
    title: str, x_title: str, y_title: str, lines: Sequence[tuple[str, Sequence[float], Sequence[float]]]
) -> CurveChart:
    """Lay out lines ``(label, x values, y values)``; a span of more than ten makes the vertical axis logarithmic."""
    thin = [(label, *_thin(x, y)) for label, x, y in lines]
    every_x = [v for _, x, _ in lines for v in x]
    every_y = [v for _, _, y in thin for v in y]
    logarithmic = min(every_y) > 0 and max(every_y) > 10 * min(every_y)
    place_x = _Scale(min(every_x), max(every_x), False)
    place_y = _Scale(min(every_y) if logarithmic else min(0.0, *every_y, 0.0), max(every_y), logarithmic)
    curves = tuple(
        Curve(
            label=label,
            points=" ".join(f"{place_x(a):.2f},{100 - place_y(b):.2f}" for a, b in zip(x, y, strict=True)),
            readout=json.dumps([[round(place_x(a), 2), f"{a:g}", f"{b:.4g}"] for a, b in zip(x, y, strict=True)]),
        )
        for label, x, y in thin
    )
    averaged = any(len(x) > _MOST_POINTS for _, x, _ in lines)
    caption = f"{y_title.capitalize()}{' (logarithmic)' if logarithmic else ''} by {x_title}; lower is better."
    if averaged:
        caption += f" Each point is the mean of neighbouring steps: at most {_MOST_POINTS} points are drawn."
    return CurveChart(
        title=title,
        caption=caption,
        x_title=x_title,
        x_ticks=tuple(Tick(place_x(v), f"{v:g}") for v in place_x.ticks()),
        y_ticks=tuple(Tick(100 - place_y(v), f"{v:g}") for v in place_y.ticks()),
        curves=curves,
        table=_curve_table(title, x_title, y_title, lines),
    )


class _Scale:
    """Maps values to percent along an axis."""

    def __init__(self, low: float, high: float, logarithmic: bool) -> None:
        self.low, self.high, self.logarithmic = low, high, logarithmic

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        return 100 * (value - low) / (high - low) if high > low else 50.0

    def ticks(self) -> list[float]:
        """Return round values inside the axis: at most about six."""
        if self.high <= self.low:
            return [self.low]
        if self.logarithmic:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            steps = (1, 2, 5) if last - first <= 2 else (1,)
            values = [s * 10.0**e for e in range(first, last + 1) for s in steps]
            return [v for v in values if self.low <= v <= self.high] or [self.low, self.high]
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough)
        first_tick = math.ceil(self.low / step - 1e-9)
        count = math.floor(self.high / step + 1e-9) - first_tick + 1
        return [float(f"{(first_tick + i) * step:.10g}") for i in range(count)]


def _thin(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """Average runs of neighbouring points until few enough are left to draw."""
    width = -(-len(x) // _MOST_POINTS)
    if width == 1:
        return list(x), list(y)
    starts = range(0, len(x), width)
    return (
        [math.fsum(x[i : i + width]) / len(x[i : i + width]) for i in starts],
        [math.fsum(y[i : i + width]) / len(y[i : i + width]) for i in starts],
    )


def _curve_table(
    title: str, x_title: str, y_title: str, lines: Sequence[tuple[str, Sequence[float], Sequence[float]]]
) -> Table:
    """List a few evenly spaced points of each line, its ends among them."""
    rows = []
    for label, x, y in lines:
        last = len(x) - 1
        picked = sorted({round(i * last / (_TABLE_ROWS - 1)) for i in range(_TABLE_ROWS)}) if last else [0]
        rows += [(Cell(label), Cell.of(f"{x[i]:g}", x[i]), Cell.of(f"{y[i]:.4g}", y[i])) for i in picked]
    return Table(title, (("run", False), (x_title, True), (y_title, True)), tuple(rows))
