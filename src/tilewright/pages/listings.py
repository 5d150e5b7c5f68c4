"""The tables of a report: every layer, every record."""

import math
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ..records import Record
from .charts import Cell, Table
from .wording import TIMES, digits, fraction, inputs_text, number, percent, times

__all__ = ["LayerGroup", "all_records", "layer_groups", "layers", "pruned_density"]

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class LayerGroup:
    """Layers with the same shape, pattern and kernel, and the reason recorded for one of them."""

    names: tuple[str, ...]
    shape: str
    pattern: str
    density: float | None
    kernel: str
    ratios: tuple[float, ...]
    reason: str

    @property
    def kinds(self) -> tuple[str, ...]:
        """Distinct names with their numbers replaced by an asterisk."""
        return tuple(dict.fromkeys(_NUMBER.sub("*", name) for name in self.names))

    @property
    def speed(self) -> str:
        """Speed-up over dense: the median over layers, and the range."""
        if not self.ratios:
            return ""
        low, high = times(min(self.ratios)), times(max(self.ratios))
        return times(statistics.median(self.ratios)) + (f" ({low} to {high})" if low != high else "")


def layer_groups(records: Sequence[Record]) -> list[LayerGroup]:
    """Group layers by shape, pattern and kernel, largest group first; the reason is that of the layer with the median speed."""
    alike: dict[tuple[object, ...], list[Record]] = {}
    for record in {r.name: r for r in records if r.kind == "layer"}.values():
        key = (_shape(record.inputs.get("shape")), record.inputs.get("pattern"), record.extra.get("kernel"))
        alike.setdefault(tuple(map(str, key)), []).append(record)
    groups = []
    for members in alike.values():
        ordered = sorted(members, key=lambda r: _ratio(r) or 0.0)
        middle = ordered[len(ordered) // 2]
        densities = [d for r in members if isinstance(d := r.extra.get("density"), (int, float))]
        groups.append(
            LayerGroup(
                names=tuple(r.name for r in members),
                shape=_shape(middle.inputs.get("shape")),
                pattern=number(middle.inputs.get("pattern")),
                density=statistics.mean(densities) if densities else None,
                kernel=number(middle.extra.get("kernel")),
                ratios=tuple(ratio for r in members if (ratio := _ratio(r)) is not None),
                reason=number(middle.extra.get("reason")),
            )
        )
    return sorted(groups, key=lambda group: -len(group.names))


def pruned_density(records: Sequence[Record]) -> str:
    """Return the density of the pruned layers and their number, in words; empty if no record says."""
    layers = {r.name: r for r in records if r.kind == "layer"}.values()
    kept = total = count = 0.0
    for record in layers:
        weights, density = _weights(record.inputs.get("shape")), record.extra.get("density")
        if weights and isinstance(density, (int, float)) and density < 1:
            kept, total, count = kept + density * weights, total + weights, count + 1
    if not total:
        return ""
    share = kept / total
    return (
        f"{fraction(share)} of the weights kept in {count:.0f} of {len(layers)} layers (sparsity {percent(1 - share)})"
    )


def _density(density: object) -> Cell:
    if not isinstance(density, (int, float)):
        return Cell(number(density))
    return Cell(number(density), density, bar=min(max(density, 0.0), 1.0))


def _ratio(record: Record) -> float | None:
    ratio = record.extra.get("ratio")
    return float(ratio) if record.checked and isinstance(ratio, (int, float)) else None


def layers(records: Sequence[Record]) -> Table | None:
    """Return a table of all layers, by the last record of each, with a column of ratios if any were measured and checked."""
    latest = {r.name: r for r in records if r.kind == "layer"}
    if not latest:
        return None
    ratios = {name: r.extra.get("ratio") for name, r in latest.items() if r.checked}
    measured = any(isinstance(ratio, (int, float)) for ratio in ratios.values())
    rows = []
    for name, record in latest.items():
        density = record.extra.get("density")
        ratio = ratios.get(name)
        shape = record.inputs.get("shape")
        cells = [
            Cell(name),
            Cell.of(_shape(shape), _weights(shape)),
            Cell(number(record.inputs.get("pattern"))),
            _density(density),
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
    """Return a table of all records."""
    titles = ("kind", "name", "inputs", "seed", "n", "min", "median", "max", "unit", "checked")
    numeric = {"seed", "n", "min", "median", "max"}
    rows = tuple(
        (
            Cell(r.kind),
            Cell(r.name),
            Cell(inputs_text(dict(r.inputs))),
            Cell.of(number(r.seed), r.seed),
            Cell.of(number(r.n), r.n),
            *(Cell.of(digits(v), v) for v in (r.min, r.median, r.max)),
            Cell(r.unit),
            Cell(number(r.checked)),
        )
        for r in records
    )
    return Table("Every record", tuple((t, t in numeric) for t in titles), rows)


def _shape(shape: object) -> str:
    sides = _sides(shape)
    return f" {TIMES} ".join(map(number, sides)) if sides else number(shape)


def _weights(shape: object) -> int | None:
    sides = _sides(shape)
    return math.prod(sides) if sides else None


def _sides(shape: object) -> list[int]:
    """Return the shape of a weight, from a list or from text such as 384x768; empty if it is neither."""
    if isinstance(shape, str) and re.fullmatch(r"\d+(x\d+)*", shape):
        return [int(side) for side in shape.split("x")]
    return list(shape) if isinstance(shape, list) and all(isinstance(v, int) for v in shape) else []
