"""Figures of studies and validations as SVG files: lines with intervals, points against a reference, grouped bars.

They are drawn by matplotlib, which is imported only when a figure is made. The same data gives the same bytes.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, NotSupportedError, unknown
from ..records import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Series", "bar_figure", "line_figure", "save_figure", "scatter_figure"]

_COLOURS = (
    "#1b6ca8",
    "#d1495b",
    "#3a7d44",
    "#8d5a97",
    "#e08e45",
    "#4d5359",
    "#2a9d8f",
    "#9c6644",
    "#6c757d",
    "#b5179e",
    "#c9a227",
    "#111111",
)
_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "legend.frameon": False,
    "svg.hashsalt": "tilewright",
    "svg.fonttype": "none",
    "figure.max_open_warning": 0,
}
_MARKS = "osD^vPX*<>hp"


@dataclass(frozen=True)
class Series:
    """A series of points under one label.

    Parameters
    ----------
    label
        Label in the legend.
    x, y
        Coordinates of the points.
    low, high
        Ends of the interval of each `y`. Default: no intervals.
    style
        ``"line"``, ``"points"``, ``"dashed"`` (for a reference) or ``"both"``, line and points.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    style: str = "both"

    def __post_init__(self) -> None:
        if not len(self.x) == len(self.y) or len(self.low) not in (0, len(self.y)) or len(self.low) != len(self.high):
            raise ArgumentError(
                f"series {self.label!r} has {len(self.x)} x, {len(self.y)} y, {len(self.low)} low and {len(self.high)} high values; x and y "
                "must have the same length, and low and high that length or none"
            )


def line_figure(
    panels: Mapping[str, Sequence[Series]],
    x_title: str,
    y_title: str,
    *,
    log_x: bool = False,
    log_y: bool = False,
    columns: int = 3,
    references: Mapping[str, float] | None = None,
    y_limits: tuple[float, float] | None = None,
) -> "Figure":
    """Draw one panel per key, each with its series, on a common vertical scale.

    Parameters
    ----------
    panels
        Series of each panel, by title.
    x_title, y_title
        Titles of the axes, including units.
    log_x, log_y
        Whether the axis is logarithmic.
    columns
        Maximum number of panels side by side.
    references
        Horizontal lines by label, such as the dense model's score.
    y_limits
        Limits of the vertical axes. Points outside are not shown, so the text around the figure should say so. Default: automatic.
    """
    with _drawing(len(panels), columns) as (figure, axes):
        colours = _colours(series.label for shown in panels.values() for series in shown)
        for axis, (title, shown) in zip(axes, panels.items(), strict=True):
            axis.set_title(title)
            for series in shown:
                _draw(axis, series, *colours[series.label])
            for index, (label, value) in enumerate((references or {}).items()):
                axis.axhline(value, color="#4d5359", linewidth=0.9, linestyle=(":", "--", "-.")[index % 3], label=label)
            if log_x:
                axis.set_xscale("log", base=2)
                axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            if log_y:
                axis.set_yscale("log")
            axis.set_xlabel(x_title)
        axes[0].set_ylabel(y_title)
        if y_limits:
            axes[0].set_ylim(*y_limits)
        _legend(figure, axes)
        return figure


def scatter_figure(
    panels: Mapping[str, Sequence[Series]],
    x_title: str,
    y_title: str,
    *,
    tolerance: float | None = None,
    columns: int = 3,
) -> "Figure":
    """Draw a model against its reference on logarithmic axes, with the diagonal and a relative `tolerance` band around it."""
    with _drawing(len(panels), columns, share=False) as (figure, axes):
        colours = _colours(series.label for shown in panels.values() for series in shown)
        for axis, (title, shown) in zip(axes, panels.items(), strict=True):
            every = [value for series in shown for value in (*series.x, *series.y) if value > 0]
            low, high = 0.8 * min(every), 1.25 * max(every)
            axis.plot([low, high], [low, high], color="#4d5359", linewidth=0.9)
            if tolerance is not None:
                edges = [(1 - tolerance) * low, (1 - tolerance) * high], [(1 + tolerance) * low, (1 + tolerance) * high]
                axis.fill_between([low, high], *edges, color="#4d5359", alpha=0.1, label=f"within {tolerance:.0%}")
            for series in shown:
                _draw(axis, series, *colours[series.label])
            axis.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), xlabel=x_title, title=title)
        axes[0].set_ylabel(y_title)
        _legend(figure, axes)
        return figure


def bar_figure(
    groups: Mapping[str, Mapping[str, float]],
    y_title: str,
    *,
    intervals: Mapping[str, Mapping[str, tuple[float, float]]] | None = None,
    references: Mapping[str, float] | None = None,
    stacked: bool = False,
    width: float = 9.0,
) -> "Figure":
    """Draw groups of bars.

    Parameters
    ----------
    groups
        Height of each bar, by group and then by label.
    y_title
        Title of the vertical axis, including units.
    intervals
        (low, high) of each bar, by group and then by label. Default: no intervals.
    references
        Horizontal lines by label.
    stacked
        Whether the bars of a group are stacked rather than side by side.
    width
        Width of the figure, in inches.
    """
    labels = list(dict.fromkeys(label for bars in groups.values() for label in bars))
    with _drawing(1, 1, width=width) as (figure, (axis,)):
        step = 0.8 if stacked else 0.8 / len(labels)
        bottoms = [0.0] * len(groups)
        for index, label in enumerate(labels):
            heights = [bars.get(label, math.nan) for bars in groups.values()]
            shift = 0 if stacked else (index - (len(labels) - 1) / 2) * step
            places = [place + shift for place in range(len(groups))]
            colour = _COLOURS[index % len(_COLOURS)]
            axis.bar(places, heights, step * 0.92, bottom=bottoms if stacked else None, color=colour, label=label)
            if stacked:
                bottoms = [b + (0 if math.isnan(h) else h) for b, h in zip(bottoms, heights, strict=True)]
            for place, height, group in zip(places, heights, groups, strict=True):
                if intervals and label in intervals.get(group, {}):
                    low, high = intervals[group][label]
                    axis.errorbar(
                        place, height, [[max(0, height - low)], [max(0, high - height)]], color="#222", linewidth=1
                    )
        for label, value in (references or {}).items():
            axis.axhline(value, color="#4d5359", linewidth=0.9, linestyle=":", label=label)
        axis.set_xticks(
            range(len(groups)),
            list(groups),
            rotation=20 if len(groups) > 6 else 0,
            ha="right" if len(groups) > 6 else "center",
        )
        axis.set_ylabel(y_title)
        axis.grid(visible=False, axis="x")
        _legend(figure, [axis])
        return figure


def save_figure(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Write a figure to a file; the suffix of the path (``.svg``, ``.png``) selects the format."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _styled(), replacing(target) as file:
        metadata = {"Date": None} if target.suffix == ".svg" else {}
        figure.savefig(file, bbox_inches="tight", dpi=150, metadata=metadata)
        if target.suffix == ".svg":
            file.write_text("".join(f"{line.rstrip()}\n" for line in file.read_text().splitlines()))


@contextmanager
def _styled() -> Iterator[None]:
    try:
        import matplotlib as mpl
    except ImportError:
        raise NotSupportedError(
            "figures need matplotlib, which is not installed: pip install 'tilewright[studies]'"
        ) from None
    with mpl.rc_context(_STYLE):
        yield


@contextmanager
def _drawing(
    panels: int, columns: int, *, width: float = 0.0, share: bool = True
) -> Iterator[tuple["Figure", list[Any]]]:
    if panels < 1:
        raise ArgumentError("a figure needs at least one panel, got none")
    with _styled():
        from matplotlib.figure import Figure

        across = min(columns, panels)
        down = -(-panels // across)
        figure = Figure(figsize=(width or max(5.5, 3.6 * across), 3.3 * down), layout="constrained")
        grid = figure.subplots(down, across, squeeze=False, sharey=share)
        axes = list(grid.flat)
        for spare in axes[panels:]:
            spare.set_visible(False)
        yield figure, axes[:panels]


def _colours(labels: Iterator[str]) -> dict[str, tuple[str, str]]:
    return {
        label: (_COLOURS[index % len(_COLOURS)], _MARKS[index % len(_MARKS)])
        for index, label in enumerate(dict.fromkeys(labels))
    }


def _draw(axis: Any, series: Series, colour: str, mark: str) -> None:
    line = {"line": "-", "points": "", "dashed": "--", "both": "-"}.get(series.style)
    if line is None:
        raise ArgumentError(
            f"series {series.label!r}: {unknown('style', series.style, ('line', 'points', 'dashed', 'both'))}"
        )
    marker = mark if series.style in ("points", "both") else ""
    axis.plot(
        series.x,
        series.y,
        linestyle=line or "none",
        color=colour,
        marker=marker,
        markersize=4.5,
        linewidth=1.4,
        label=series.label,
    )
    if len(series.low):
        if line:
            axis.fill_between(series.x, series.low, series.high, color=colour, alpha=0.15, linewidth=0)
        else:
            below = [max(0.0, y - low) for y, low in zip(series.y, series.low, strict=True)]
            above = [max(0.0, high - y) for y, high in zip(series.y, series.high, strict=True)]
            axis.errorbar(series.x, series.y, [below, above], fmt="none", color=colour, linewidth=1)


def _legend(figure: "Figure", axes: Sequence[Any]) -> None:
    handles: dict[str, Any] = {}
    for axis in axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if len(handles) > 1:
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(4, len(handles)))
