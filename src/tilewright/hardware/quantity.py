"""`Quantity`: a number of a machine, with its source and its uncertainty."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import ArgumentError, unknown

__all__ = ["Provenance", "Quantity", "assumed", "derived", "sourced"]

Provenance = Literal["sourced", "derived", "assumed"]
"""Stated by a public source, computed from such statements, or chosen here because no source states it."""


@dataclass(frozen=True)
class Quantity:
    """One number of an accelerator.

    Parameters
    ----------
    value
        The number.
    unit
        Its unit, such as ``"Hz"``, ``"byte/s"``, ``"cycle"`` or ``"MAC/cycle"``; empty for a count.
    provenance
        ``"sourced"``, ``"derived"`` or ``"assumed"``.
    source
        The document that states it, the step that derives it, or the reason for assuming it.
    low, high
        Ends of the interval it lies in. Default: None, for a number that is exact on that side.

    Raises
    ------
    ArgumentError
        If a number is not finite, the value lies outside the interval, or the source is empty.

    Examples
    --------
    >>> clock = assumed(1.0e9, "Hz", "half way between two published parts", low=0.9e9, high=1.1e9)
    >>> float(clock), clock.interval, clock.certain
    (1000000000.0, (900000000.0, 1100000000.0), False)
    """

    value: float
    unit: str
    provenance: Provenance
    source: str
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.provenance not in get_args(Provenance):
            raise ArgumentError(unknown("provenance", self.provenance, get_args(Provenance)))
        if not self.source.strip():
            raise ArgumentError(
                f"the quantity {self.value} {self.unit} has no source; say where it comes from, or why it is assumed"
            )
        low, high = self.interval
        if not all(map(math.isfinite, (self.value, low, high))) or not low <= self.value <= high:
            raise ArgumentError(
                f"a quantity must be finite and inside its interval, got {self.value} {self.unit} in {low} to {high}"
            )

    @property
    def interval(self) -> tuple[float, float]:
        """The lowest and the highest possible value."""
        return (
            self.value if self.low is None else self.low,
            self.value if self.high is None else self.high,
        )

    @property
    def certain(self) -> bool:
        """True if the interval is a single value."""
        low, high = self.interval
        return low == high

    def __float__(self) -> float:
        return float(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __str__(self) -> str:
        low, high = self.interval
        width = "" if self.certain else f" ({low:g} to {high:g})"
        return f"{self.value:g} {self.unit}{width} [{self.provenance}: {self.source}]"


def sourced(value: float, unit: str, source: str, *, low: float | None = None, high: float | None = None) -> Quantity:
    """Return a quantity that a public source states."""
    return Quantity(value, unit, "sourced", source, low, high)


def derived(value: float, unit: str, source: str, *, low: float | None = None, high: float | None = None) -> Quantity:
    """Return a quantity computed from what public sources state; `source` shows how."""
    return Quantity(value, unit, "derived", source, low, high)


def assumed(value: float, unit: str, source: str, *, low: float | None = None, high: float | None = None) -> Quantity:
    """Return a quantity that no source states; `source` says why this value."""
    return Quantity(value, unit, "assumed", source, low, high)
