"""Records of the same measurement combined, over several seeds or runs."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..records import Record

__all__ = ["Measured", "best_dense", "by_inputs", "unchecked"]


@dataclass(frozen=True)
class Measured:
    """Records of one measurement, combined."""

    records: tuple[Record, ...]

    @property
    def median(self) -> float:
        """Median of the medians."""
        return statistics.median(r.median for r in self.records)

    @property
    def min(self) -> float:
        """Smallest sample."""
        return min(r.min for r in self.records)

    @property
    def max(self) -> float:
        """Largest sample."""
        return max(r.max for r in self.records)

    @property
    def n(self) -> int:
        """Number of samples."""
        return sum(r.n for r in self.records)

    @property
    def seeds(self) -> int:
        """Number of different seeds."""
        return len({r.seed for r in self.records})


def by_inputs(records: Iterable[Record], *keys: str) -> dict[tuple[object, ...], Measured]:
    """Group records by some of their inputs, in order of first appearance; a missing input counts as None."""
    groups: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        key = tuple(_hashable(record.inputs.get(k)) for k in keys)
        groups.setdefault(key, []).append(record)
    return {key: Measured(tuple(group)) for key, group in groups.items()}


def best_dense(records: Iterable[Record]) -> tuple[str, Measured] | None:
    """Return the name and the measurements of the dense engine with the smallest median; None without dense records."""
    dense = by_inputs((r for r in records if r.inputs.get("model") == "dense"), "engine")
    if not dense:
        return None
    (engine,), measured = min(dense.items(), key=lambda item: item[1].median)
    return str(engine), measured


def unchecked(records: Iterable[Record]) -> int:
    """Return the number of timings that are omitted because their results were not checked."""
    return sum(r.kind in ("latency", "kernel") and not r.checked for r in records)


def _hashable(value: object) -> object:
    return str(value) if isinstance(value, (list, dict, Mapping)) else value
