"""The result of simulating one operation: cycles by cause, work, bytes and joules."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..errors import ArgumentError, unknown

__all__ = ["CAUSES", "Fidelity", "OperationResult"]

Fidelity = Literal["roofline", "analytical", "tiles"]

CAUSES: Mapping[str, str] = {
    "useful": "cycles that the kept multiply-accumulates would take with every lane busy",
    "density step": "zeros multiplied: the next density that the selectors support is above the weight's own, or a dense run is faster",
    "padding": "edges of tiles and groups that hold no work",
    "fill and drain": "pipelines and arrays filling and emptying",
    "index": "fetching and decoding positions",
    "imbalance": "lanes, cores and chips waiting for the fullest one",
    "issue": "instructions or small products that keep the lanes below their rate",
    "on-chip bandwidth": "lanes waiting for on-chip memories",
    "bandwidth": "lanes waiting for DRAM",
    "refresh": "DRAM refreshing",
    "vector": "the vector unit, softmax included, where it does not overlap with the lanes",
    "launch": "starting an operation",
}
"""Where cycles go, by cause. The causes of an operation add up to its cycles exactly."""


@dataclass(frozen=True)
class OperationResult:
    """One operation on one machine.

    Parameters
    ----------
    name, kind
        Name and kind of the operation.
    cycles
        Cycles from its start to its end.
    causes
        Cycles by cause (see `CAUSES`), whole numbers whose sum is `cycles`.
    start
        Cycle at which it started. Default: 0.
    useful, issued, peak
        Multiply-accumulates with kept weights; those the lanes executed, padding included; and those all lanes could have
        done in these cycles. ``useful <= issued <= peak``.
    bytes
        Bytes moved, by level of memory: ``"dram"``, ``"l2"``, ...
    joules
        Energy by part: ``"mac"``, ``"dram"``, ``"vector"``, ``"static"``, ...
    note
        How it was run: tile shape, the executed n:m, or why it ran dense.
    hidden
        Cycles that it overlapped with earlier operations before its start; not part of `cycles`. Default: 0.

    Raises
    ------
    ArgumentError
        If a cause is unknown, the causes do not add up to the cycles, or the multiply-accumulates are not in order.
    """

    name: str
    kind: str
    cycles: int
    causes: Mapping[str, int]
    start: int = 0
    useful: int = 0
    issued: int = 0
    peak: int = 0
    bytes: Mapping[str, int] = field(default_factory=dict)
    joules: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    hidden: int = 0

    def __post_init__(self) -> None:
        strange = sorted(set(self.causes) - set(CAUSES))
        if strange:
            raise ArgumentError(f"{self.name}: {unknown('cause', strange[0], CAUSES)}")
        if sum(self.causes.values()) != self.cycles:
            raise ArgumentError(
                f"{self.name}: causes add up to {sum(self.causes.values())} cycles, but the operation took {self.cycles}"
            )
        if not self.useful <= self.issued <= self.peak:
            raise ArgumentError(
                f"{self.name}: multiply-accumulates must satisfy useful <= issued <= peak, got {self.useful}, {self.issued}, "
                f"{self.peak}"
            )
