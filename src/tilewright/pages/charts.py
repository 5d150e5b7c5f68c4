"""The content of a chart as values: groups of bars, curves, and the table behind each."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .axes import Axis, Tick
from .wording import digits

__all__ = ["Bar", "BarChart", "BarGroup", "Cell", "Curve", "CurveChart", "Line", "Table", "curve_chart"]

_MOST_POINTS = 400
_MOST_DOTS = 40
_TABLE_ROWS = 20


@dataclass(frozen=True)
class Cell:
    """A table cell: its text, an optional sort key, the length of an inline bar, and a second line."""

    text: str
    key: float | None = None
    bar: float | None = None
    more: str = ""

    @classmethod
    def of(cls, text: str, key: object = None, more: str = "") -> "Cell":
        """Make a cell that sorts by `key` if that is a number, else by its text."""
        return cls(text, float(key) if isinstance(key, (int, float)) else None, more=more)


@dataclass(frozen=True)
class Table:
    """A table: for each column its title and whether it holds numbers, and rows of cells."""

    caption: str
    columns: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Bar:
    """A bar. `tone` is ``"accent"`` for a result, ``"behind"`` for one slower than dense, ``"dense"``, or ``"plain"``."""

    label: str
    value: float
    text: str
    note: str = ""
    tone: str = "plain"
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class BarGroup:
    """Bars on a common scale; `full` is the value of a full-width bar."""

    title: str
    bars: tuple[Bar, ...]
    full: float
    mark: float | None = None
    note: str = ""

    def share(self, value: float) -> str:
        """Return the position of a value, in percent of the width."""
        return f"{100 * min(max(value / self.full, 0.0), 1.0):.2f}" if self.full > 0 else "0"


@dataclass(frozen=True)
class BarChart:
    """Groups of bars, a caption that says what a longer bar means, and the table behind them."""

    title: str
    caption: str
    groups: tuple[BarGroup, ...]
    table: Table


@dataclass(frozen=True)
class Curve:
    """A line: its label, its points in percent of the plot (for drawing) and as text (for the readout)."""

    label: str
    points: str
    readout: str

    @property
    def dots(self) -> list[list[str]]:
        """The points to draw as dots; empty if there are too many to tell apart."""
        places = [point.split(",") for point in self.points.split()]
        return places if len(places) <= _MOST_DOTS else []


@dataclass(frozen=True)
class CurveChart:
    """Lines over common axes, each with its title and unit."""

    title: str
    caption: str
    x_title: str
    y_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    curves: tuple[Curve, ...]
    table: Table
    marks: tuple[Tick, ...] = ()


Line = tuple[str, Sequence[float], Sequence[float]]
"""Label, x values, y values."""


def curve_chart(
    title: str, x_title: str, y_title: str, lines: Sequence[Line], *, better: str = "", marks: Mapping[str, float] = {}
) -> CurveChart:
    """Lay out lines; the vertical axis is logarithmic if the values span more than a factor of ten.

    Parameters
    ----------
    title, x_title, y_title
        Titles of the chart and its axes, including units.
    lines
        Lines, each with equally many x and y values.
    better
        ``"lower"`` or ``"higher"``, for the caption. Default: not stated.
    marks
        Reference levels by label, drawn as horizontal lines.
    """
    thin = [(label, *_thin(x, y)) for label, x, y in lines]
    every_x = [v for _, x, _ in lines for v in x]
    every_y = [v for _, _, y in thin for v in y] + list(marks.values())
    logarithmic = min(every_y) > 0 and max(every_y) > 10 * min(every_y)
    place_x = Axis(min(every_x), max(every_x))
    place_y = Axis(min(every_y) if logarithmic else min(0.0, *every_y, 0.0), max(every_y), logarithmic)
    curves = tuple(
        Curve(
            label=label,
            points=" ".join(f"{place_x(a):.2f},{100 - place_y(b):.2f}" for a, b in zip(x, y, strict=True)),
            readout=json.dumps([[round(place_x(a), 2), digits(a), digits(b, 4)] for a, b in zip(x, y, strict=True)]),
        )
        for label, x, y in thin
    )
    averaged = any(len(x) > _MOST_POINTS for _, x, _ in lines)
    caption = f"{y_title[:1].upper()}{y_title[1:]}{' (logarithmic)' if logarithmic else ''} by {x_title}"
    caption += f"; {better} is better." if better else "."
    if averaged:
        caption += f" Each point is the mean of neighbouring steps; at most {_MOST_POINTS} points are drawn."
    return CurveChart(
        title=title,
        caption=caption,
        x_title=x_title,
        y_title=y_title,
        x_ticks=place_x.ticks(),
        y_ticks=place_y.ticks(falling=True),
        curves=curves,
        table=_curve_table(title, x_title, y_title, lines),
        marks=tuple(Tick(100 - place_y(value), f"{label}: {digits(value, 4)}") for label, value in marks.items()),
    )


def _thin(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """Average runs of neighbouring points so that few enough are left to draw."""
    width = -(-len(x) // _MOST_POINTS)
    if width == 1:
        return list(x), list(y)
    starts = range(0, len(x), width)
    return (
        [math.fsum(x[i : i + width]) / len(x[i : i + width]) for i in starts],
        [math.fsum(y[i : i + width]) / len(y[i : i + width]) for i in starts],
    )


def _curve_table(title: str, x_title: str, y_title: str, lines: Sequence[Line]) -> Table:
    """Return a table of a few evenly spaced points of each line, including both ends."""
    rows = []
    for label, x, y in lines:
        last = len(x) - 1
        picked = sorted({round(i * last / (_TABLE_ROWS - 1)) for i in range(_TABLE_ROWS)}) if last else [0]
        rows += [(Cell(label), Cell.of(digits(x[i]), x[i]), Cell.of(digits(y[i], 4), y[i])) for i in picked]
    return Table(title, (("run", False), (x_title, True), (y_title, True)), tuple(rows))
