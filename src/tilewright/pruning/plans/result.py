"""What a sensitivity scan measured, as values; its report is what it prints as."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ...patterns import Pattern
from ...records import Report

__all__ = ["DENSE", "Scan", "ScanPoint"]

DENSE = "dense"
"""Pattern text of a layer that is not pruned."""


@dataclass(frozen=True)
class ScanPoint:
    """One weight at one pattern, with all other weights unchanged.

    Parameters
    ----------
    name
        Name of the weight.
    shape
        Shape of the weight as it is stored.
    pattern
        The pattern; None is the dense weight.
    density
        Share of the elements that are kept; None if the weight cannot take the pattern.
    loss
        Mean loss over the batches; None if the weight cannot take the pattern.
    rise
        Increase of the loss over the dense model; None if the weight cannot take the pattern.
    bytes
        Size of the weight on disk; None if the weight cannot take the pattern.
    reason
        Why the weight cannot take the pattern; empty if it can.
    """

    name: str
    shape: tuple[int, ...]
    pattern: Pattern | None
    density: float | None = None
    loss: float | None = None
    rise: float | None = None
    bytes: int | None = None
    reason: str = ""

    @property
    def text(self) -> str:
        """The pattern as text, ``"dense"`` for none."""
        return DENSE if self.pattern is None else str(self.pattern)

    @property
    def elements(self) -> int:
        """Number of elements of the weight."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Scan:
    """A sensitivity scan: every weight dense and at every pattern.

    Parameters
    ----------
    points
        All measurements, weight by weight.
    dense_loss
        Mean loss of the dense model.
    patterns
        Number of patterns that were tried.
    batches
        Number of batches of each measurement.
    score
        Score that decided what each pattern keeps.
    cached
        Number of measurements that were read from the cache.
    """

    points: tuple[ScanPoint, ...]
    dense_loss: float
    patterns: int
    batches: int
    score: str
    cached: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scanned weights."""
        return tuple(dict.fromkeys(point.name for point in self.points))

    def measured(self) -> Iterator[tuple[ScanPoint, float]]:
        """Yield every point that was measured, with its increase of the loss."""
        for point in self.points:
            if point.rise is not None:
                yield point, point.rise

    def report(self) -> Report:
        """Return the scan as a report, with one row for each weight and pattern."""
        rows: list[dict[str, object]] = [
            {
                "name": point.name,
                "shape": list(point.shape),
                "pattern": point.text,
                "density": point.density,
                "loss": point.loss,
                "loss increase": point.rise,
                "bytes": point.bytes,
                "reason": point.reason,
            }
            for point in self.points
        ]
        summary: dict[str, object] = {
            "dense loss": self.dense_loss,
            "layers": len(self.names),
            "patterns": self.patterns,
            "batches": self.batches,
            "score": self.score,
            "from the cache": self.cached,
        }
        return Report("sensitivity", tuple(rows), summary, ok=bool(rows))

    def __str__(self) -> str:
        return str(self.report())
