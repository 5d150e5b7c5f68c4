"""Waterfalls of cycles: a dense run, the ideal saving of sparsity, and every cause that takes some of it back."""

from dataclasses import dataclass
from typing import Any

from ..errors import ArgumentError
from ..records import Report
from .charts import Cell, Table
from .wording import number, signed, times

__all__ = ["Step", "Waterfall", "waterfall"]


@dataclass(frozen=True)
class Step:
    """One bar: start and width in percent; `tone` is ``"whole"``, ``"good"`` or ``"bad"``."""

    label: str
    start: float
    width: float
    tone: str
    value: str
    note: str
    meaning: str


@dataclass(frozen=True)
class Waterfall:
    """Bars from dense to sparse, in order, with a caption and the table behind them."""

    caption: str
    steps: tuple[Step, ...]
    table: Table


def waterfall(report: Report) -> Waterfall:
    """Lay out the steps from a dense run to a sparse one.

    Parameters
    ----------
    report
        Report of `Simulation.waterfall`.

    Raises
    ------
    ArgumentError
        If the report is of another kind.
    """
    if report.kind != "waterfall" or not report.rows:
        raise ArgumentError(
            f"expected a report of Simulation.waterfall, got one of kind {report.kind!r} with {len(report.rows)} rows"
        )
    rows: list[Any] = list(report.rows)
    full = max(max(row["after"], row["after"] - row["cycles"]) for row in rows) or 1
    steps = tuple(_step(row, full, whole=index in (0, len(rows) - 1)) for index, row in enumerate(rows))
    ratio, ideal = (float(str(report.summary[key])) for key in ("speed-up", "ideal speed-up"))
    columns = (
        ("step", False),
        ("cycles", True),
        ("cycles after it", True),
        ("share of the ideal saving", True),
        ("meaning", False),
    )
    caption = (
        f"Sparse is {times(ratio)} as fast as dense; the ideal, if all cycles shrank with the multiply-accumulates, is {times(ideal)}. "
        "The steps show the ideal saving and how much of it each cause takes back."
    )
    cells = tuple(
        (
            Cell(step.label),
            Cell.of(step.value, row["cycles"]),
            Cell.of(number(row["after"]), row["after"]),
            Cell(step.note),
            Cell(step.meaning),
        )
        for step, row in zip(steps, rows, strict=True)
    )
    return Waterfall(caption, steps, Table("Cycles from dense to sparse", columns, cells))


def _step(row: Any, full: float, *, whole: bool) -> Step:
    start, end = (0, row["after"]) if whole else sorted((row["after"], row["after"] - row["cycles"]))
    return Step(
        label=row["step"],
        start=100 * start / full,
        width=100 * (end - start) / full,
        tone="whole" if whole else "good" if row["cycles"] < 0 else "bad",
        value=number(row["cycles"]) if whole else signed(row["cycles"], number),
        note=_share(row["of the ideal saving"]),
        meaning=row["meaning"],
    )


def _share(share: float | None) -> str:
    if share is None:
        return ""
    return "0 %" if abs(share) < 5e-5 else signed(share, lambda value: f"{100 * value:.2f} %")
