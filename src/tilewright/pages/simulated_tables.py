"""The tables of a simulated run, with readable numbers and units."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..records import Report
from .charts import Cell, Table
from .wording import amount, digits, number, percent, seconds, signed, size, times

__all__ = ["assumptions", "operations", "times_table"]

Row = Mapping[str, Any]
Column = tuple[str, bool, Callable[[Row], Cell]]
"""Title of a column, whether it holds numbers, and the function from a row to its cell."""


def times_table(report: Report) -> Table:
    """Return one row per run: its time with the interval, throughput, energy and power."""
    columns: tuple[Column, ...] = (
        ("accelerator", False, lambda row: Cell(row["accelerator"])),
        ("batch", True, lambda row: _cell(number, row["batch"])),
        ("type", False, lambda row: Cell(row["dtype"])),
        ("time", True, lambda row: Cell.of(seconds(row["ms"] / 1e3), row["ms"], more=_within(row))),
        ("over dense", True, lambda row: _cell(times, row["over dense"])),
        ("samples per second", True, lambda row: Cell.of(digits(row["samples/s"], 4), row["samples/s"])),
        ("energy per sample", True, lambda row: Cell.of(amount(row["mJ/sample"] / 1e3, "J"), row["mJ/sample"])),
        ("power", True, lambda row: Cell.of(amount(row["watts"], "W"), row["watts"])),
        ("useful share of peak", True, lambda row: _cell(percent, row["useful/peak"])),
        ("largest loss", False, lambda row: Cell(row["largest loss"].replace("%", " %"))),
    )
    return _table("Time on each accelerator", columns, report.rows)


def operations(report: Report) -> Table:
    """Return one row per operation, from `Simulation.table`."""
    columns: tuple[Column, ...] = (
        ("operation", False, lambda row: Cell(row["name"], more=row["note"])),
        ("kind", False, lambda row: Cell(row["kind"])),
        ("cycles", True, lambda row: _cell(number, row["cycles"])),
        ("time", True, lambda row: Cell.of(seconds(row["us"] / 1e6), row["us"])),
        ("useful share of peak", True, lambda row: _cell(percent, row["useful/peak"])),
        ("issued share of peak", True, lambda row: _cell(percent, row["issued/peak"])),
        ("DRAM traffic", True, lambda row: Cell.of(size(row["DRAM bytes"]), row["DRAM bytes"])),
        ("largest loss", False, lambda row: Cell(row["largest loss"])),
        ("energy", True, lambda row: Cell.of(amount(row["uJ"] / 1e6, "J"), row["uJ"])),
    )
    return _table("Operation by operation", columns, report.rows)


def assumptions(report: Report) -> Table | None:
    """Return one row per number that the time depends on, largest effect first; None if there are none."""
    columns: tuple[Column, ...] = (
        ("number and its source", False, lambda row: Cell(row["number"], more=row["source"])),
        ("value", True, lambda row: Cell.of(_physical(row["value"], row["unit"]), row["value"])),
        ("range", True, lambda row: Cell.of(_range(row), row["low"])),
        ("provenance", False, lambda row: Cell(row["provenance"])),
        ("at the low end, time", True, lambda row: _effect(row["change of time at low"])),
        ("at the high end, time", True, lambda row: _effect(row["change of time at high"])),
    )
    return _table("What the time rests on", columns, report.rows) if report.rows else None


def _table(caption: str, columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    cells = tuple(tuple(cell(row) for _, _, cell in columns) for row in rows)
    return Table(caption, tuple((title, numeric) for title, numeric, _ in columns), cells)


def _cell(words: Callable[[Any], str], value: float) -> Cell:
    return Cell.of(words(value), value)


def _physical(value: float, unit: str | None) -> str:
    """Format a value in its unit: with a prefix for physical units, as plain digits for counts."""
    if unit in ("s", "Hz", "J", "W", "byte", "byte/s", "op/s", "J/bit", "V"):
        return amount(value, unit.replace("byte", "B"))
    text = digits(float(value), 4)
    return f"{text} {unit}{'' if value == 1 or unit not in ('cycle', 'bit') else 's'}" if unit else text


def _within(row: Row) -> str:
    return (
        f"{seconds(row['ms, low'] / 1e3)} to {seconds(row['ms, high'] / 1e3)}"
        if row["ms, low"] < row["ms, high"]
        else ""
    )


def _range(row: Row) -> str:
    return f"{_physical(row['low'], row['unit'])} to {_physical(row['high'], row['unit'])}"


def _effect(share: float | None) -> Cell:
    if share is None:
        return Cell("no such machine")
    return Cell.of("unchanged" if abs(share) < 5e-5 else signed(share, percent), share)
