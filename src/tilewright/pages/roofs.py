"""Roofline charts: the speed of each operation and its operations per byte, under the limits of the machine."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ArgumentError
from ..records import Report
from .axes import Axis, Tick
from .charts import Cell, Table
from .kinds import colour_of
from .wording import amount, digits, fraction, number, percent

__all__ = ["Disc", "Roofline", "rooflines"]


@dataclass(frozen=True)
class Disc:
    """One operation, or several identical ones: position in percent, width in pixels, and description."""

    x: float
    y: float
    width: float
    colour: str
    note: str


@dataclass(frozen=True)
class Roofline:
    """The roofline of a machine, dense and for its sparsest pattern, as points in percent, and the discs under it."""

    machine: str
    dense: str
    sparsest: str
    discs: tuple[Disc, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    table: Table


def rooflines(reports: Sequence[Report]) -> tuple[Roofline, ...]:
    """Lay out one chart per machine, all with the same axes so that they can be compared.

    Parameters
    ----------
    reports
        Reports of `Simulation.roofline`. Operations without DRAM traffic are placed at the right edge.

    Raises
    ------
    ArgumentError
        If a report is of another kind, or there are no reports.
    """
    for report in reports:
        if report.kind != "roofline" or not report.rows:
            raise ArgumentError(
                f"expected a report of Simulation.roofline, got one of kind {report.kind!r} with {len(report.rows)} rows"
            )
    if not reports:
        raise ArgumentError("expected at least one report of Simulation.roofline, got none")
    rows: list[Any] = [row for report in reports for row in report.rows]
    roofs: list[Any] = [report.summary for report in reports]
    finite = [row["flops/byte"] for row in rows if math.isfinite(row["flops/byte"])] or [1.0]
    top = 2 * max(roof["flops/s, sparsest"] for roof in roofs)
    x = Axis(0.7 * min(finite), 4 * max(*finite, *(roof["flops/byte, ridge"] for roof in roofs)), logarithmic=True)
    y = Axis(0.5 * min(row["flops/s"] for row in rows), top, logarithmic=True)
    return tuple(_roofline(report, x, y) for report in reports)


def _roofline(report: Report, x: Axis, y: Axis) -> Roofline:
    roof: Mapping[str, Any] = report.summary
    rows: list[Any] = list(report.rows)
    dense, sparsest = roof["flops/s, dense"], roof["flops/s, sparsest"]
    discs = sorted((_disc(row, x, y) for row in rows), key=lambda disc: -disc.width)
    ticks = tuple(Tick(100 - y(10.0**e), amount(10.0**e)) for e in _powers(y))
    columns = (
        ("operation", False),
        ("how many", True),
        ("kind", False),
        ("density", True),
        ("operations per second", True),
        ("operations per byte of DRAM", True),
        ("share of cycles", True),
    )
    cells = tuple(
        (
            Cell(row["name"]),
            Cell.of(number(row["operations"]), row["operations"]),
            Cell(row["kind"]),
            Cell.of(fraction(row["density"]), row["density"]),
            Cell.of(amount(row["flops/s"], "op/s"), row["flops/s"]),
            Cell.of(_per_byte(row), row["flops/byte"] if math.isfinite(row["flops/byte"]) else 1e300),
            Cell.of(percent(row["share of cycles"]), row["share of cycles"]),
        )
        for row in rows
    )
    return Roofline(
        machine=f"{roof['accelerator']}, {roof['dtype']}, batch {roof['batch']}: {amount(dense, 'op/s')} dense, "
        f"{amount(roof['byte/s, DRAM'], 'B/s')} of DRAM",
        dense=_points(dense, roof["byte/s, DRAM"], x, y),
        sparsest=_points(sparsest, roof["byte/s, DRAM"], x, y) if sparsest != dense else "",
        discs=tuple(discs),
        x_ticks=tuple(Tick(x(10.0**e), digits(10.0**e)) for e in _powers(x)),
        y_ticks=ticks,
        table=Table("Operations under the roofs", columns, cells),
    )


def _points(level: float, bandwidth: float, x: Axis, y: Axis) -> str:
    """Return the points of a roof: the slope of the bandwidth, then the level of the lanes."""
    start = max(x.low, y.low / bandwidth)
    places = [(start, start * bandwidth), (max(start, level / bandwidth), level), (x.high, level)]
    return " ".join(f"{x(a):.2f},{100 - y(b):.2f}" for a, b in places)


def _disc(row: Mapping[str, Any], x: Axis, y: Axis) -> Disc:
    others = f" and {row['operations'] - 1} like it" if row["operations"] > 1 else ""
    note = (
        f"{row['name']}{others}, {row['kind']}: {amount(row['flops/s'], 'op/s')}, {_per_byte(row)} operations per byte, "
        f"{percent(row['share of cycles'])} of the cycles"
    )
    width = 7 + 30 * math.sqrt(row["share of cycles"])
    return Disc(x(row["flops/byte"]), 100 - y(row["flops/s"]), width, colour_of(row["kind"]), note)


def _per_byte(row: Mapping[str, Any]) -> str:
    value = row["flops/byte"]
    return amount(value) if math.isfinite(value) else "no traffic"


def _powers(axis: Axis) -> range:
    return range(math.ceil(math.log10(axis.low)), math.floor(math.log10(axis.high)) + 1)
