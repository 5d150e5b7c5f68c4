"""The tables of a report: every layer, every record."""

import math
from collections import Counter
from collections.abc import Sequence

from .charts import Cell, Table
from .records import Record
from .wording import TIMES, inputs_text, number, times

__all__ = ["all_records", "kernel_counts", "layers"]


def layers(records: Sequence[Record]) -> Table | None:
    """List every layer once, the last record of it standing; a column of ratios only where some were measured and checked."""
    mine = {r.name: r for r in records if r.kind == "layer"}
    if not mine:
        return None
    ratios = {name: r.extra.get("ratio") for name, r in mine.items() if r.checked}
    measured = any(isinstance(ratio, (int, float)) for ratio in ratios.values())
    rows = []
    for name, record in mine.items():
        density = record.extra.get("density")
        ratio = ratios.get(name)
        shape = record.inputs.get("shape")
        cells = [
            Cell(name),
            Cell.of(_shape(shape), _weights(shape)),
            Cell(number(record.inputs.get("pattern"))),
            Cell(
                number(density), *([density, min(max(density, 0.0), 1.0)] if isinstance(density, (int, float)) else [])
            ),
            Cell(number(record.extra.get("kernel"))),
            Cell.of(times(ratio) if isinstance(ratio, (int, float)) else "", ratio),
            Cell(number(record.extra.get("reason"))),
        ]
        rows.append(tuple(cells if measured else cells[:5] + cells[6:]))
    columns = [
        ("layer", False),
        ("shape", True),
        ("pattern", False),
        ("density", True),
        ("kernel", False),
        ("vs dense", True),
        ("reason", False),
    ]
    return Table("Layers", tuple(columns if measured else columns[:5] + columns[6:]), tuple(rows))


def all_records(records: Sequence[Record]) -> Table:
    """List every record as it was read."""
    titles = ("kind", "name", "inputs", "seed", "n", "min", "median", "max", "unit", "checked")
    numeric = {"seed", "n", "min", "median", "max"}
    rows = tuple(
        (
            Cell(r.kind),
            Cell(r.name),
            Cell(inputs_text(dict(r.inputs))),
            Cell.of(number(r.seed), r.seed),
            Cell.of(number(r.n), r.n),
            *(Cell.of(f"{v:.6g}", v) for v in (r.min, r.median, r.max)),
            Cell(r.unit),
            Cell(number(r.checked)),
        )
        for r in records
    )
    return Table("Every record", tuple((t, t in numeric) for t in titles), rows)


def _shape(shape: object) -> str:
    return f" {TIMES} ".join(number(v) for v in shape) if isinstance(shape, list) else number(shape)


def _weights(shape: object) -> int | None:
    if not isinstance(shape, list) or not all(isinstance(v, int) for v in shape):
        return None
    return math.prod(shape)


def kernel_counts(records: Sequence[Record]) -> list[tuple[str, int]]:
    """Count the layers by the kernel that runs them, most common first."""
    chosen = {r.name: number(r.extra.get("kernel")) for r in records if r.kind == "layer"}
    return Counter(k or "none" for k in chosen.values()).most_common()
