"""The picture of a sweep: all designs, and the front of those that no other beats."""

from typing import TYPE_CHECKING, Any, Literal

from ..errors import ArgumentError
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
    """Draw every design as a point, one colour for each value of a column, and the front as a dashed line.

    Parameters
    ----------
    report
        Of `tilewright.hardware.explore.explore`. Refused designs, and those without one of the two numbers, are left out.
    x, y
        Columns of the axes.
    ways
        Which way each is better.
    by
        Column that colours tell.
    panels
        Column that panels tell; one panel for all unless given.
    log_x, log_y
        Logarithmic axes.

    Raises
    ------
    ArgumentError
        If the report is of another kind, lacks a column, or no design has both numbers.
    """
    if report.kind != "explore":
        raise ArgumentError(f"this figure is of a report of explore, and one of kind {report.kind!r} was given")
    for name in (x, y, by, *([panels] if panels else [])):
        if name not in report.rows[0]:
            raise ArgumentError(f"the designs have no column {name!r}; they have {', '.join(report.rows[0])}")
    rows: list[Any] = [row for row in report.rows if row[x] is not None and row[y] is not None]
    if not rows:
        raise ArgumentError(f"no design has both {x} and {y}, so there is nothing to draw")
    groups: dict[str, list[Any]] = {}
    for row in rows:
        groups.setdefault(str(row[panels]) if panels else f"{len(rows)} designs", []).append(row)
    drawn = {title: _panel(inside, x, y, ways, by) for title, inside in groups.items()}
    return line_figure(drawn, x, y, log_x=log_x, log_y=log_y)


def _panel(
    rows: list[Any], x: str, y: str, ways: tuple[Literal["min", "max"], Literal["min", "max"]], by: str
) -> list[Series]:
    from ..hardware import pareto  # a room that few pages need

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
