"""The figure of a design sweep: all designs and their Pareto front."""

from typing import TYPE_CHECKING, Any, Literal

from ..errors import ArgumentError, unknown
from ..records import Report
from .figures import Series, line_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["pareto_figure"]


def pareto_figure(
    report: Report,
    x: str = "seconds",
    y: str = "area",
    *,
    ways: tuple[Literal["min", "max"], Literal["min", "max"]] = ("min", "min"),
    by: str = "pattern",
    panels: str | None = None,
    log_x: bool = True,
    log_y: bool = False,
) -> "Figure":
    """Draw every design as a point and the Pareto front as a dashed line.

    Parameters
    ----------
    report
        Report of `tilewright.hardware.explore.explore`. Rejected designs, and those without an `x` or `y` value, are omitted.
    x, y
        Columns for the axes.
    ways
        Whether lower (``"min"``) or higher (``"max"``) is better, for `x` and for `y`.
    by
        Column whose values get a colour each.
    panels
        Column whose values get a panel each. Default: one panel.
    log_x, log_y
        Whether the axis is logarithmic.

    Returns
    -------
    matplotlib.figure.Figure
        The figure, for `save_figure`.

    Raises
    ------
    ArgumentError
        If the report is of another kind or lacks a column, or no design has both values.
    """
    if report.kind != "explore":
        raise ArgumentError(f"expected a report of kind 'explore', got one of kind {report.kind!r}")
    for name in (x, y, by, *([panels] if panels else [])):
        if name not in report.rows[0]:
            raise ArgumentError(unknown("column", name, list(report.rows[0])))
    rows: list[Any] = [row for row in report.rows if row[x] is not None and row[y] is not None]
    if not rows:
        raise ArgumentError(f"nothing to draw: no design has both {x} and {y}")
    groups: dict[str, list[Any]] = {}
    for row in rows:
        groups.setdefault(str(row[panels]) if panels else f"{len(rows)} designs", []).append(row)
    series = {title: _panel(group, x, y, ways, by) for title, group in groups.items()}
    return line_figure(series, x, y, log_x=log_x, log_y=log_y)


def _panel(
    rows: list[Any], x: str, y: str, ways: tuple[Literal["min", "max"], Literal["min", "max"]], by: str
) -> list[Series]:
    from ..hardware import pareto  # imported here: few pages need this room

    front: list[Any] = sorted(pareto(rows, {x: ways[0], y: ways[1]}), key=lambda row: (row[x], row[y]))
    series = [
        Series(
            str(value),
            [row[x] for row in rows if row[by] == value],
            [row[y] for row in rows if row[by] == value],
            style="points",
        )
        for value in dict.fromkeys(row[by] for row in rows)
    ]
    return [*series, Series("front", [row[x] for row in front], [row[y] for row in front], style="dashed")]
