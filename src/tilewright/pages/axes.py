"""Axes of a chart: the position of a value, in percent, and the round values to label."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .wording import digits

__all__ = ["Axis", "Tick"]


@dataclass(frozen=True)
class Tick:
    """A labelled position along an axis, in percent."""

    at: float
    text: str


@dataclass(frozen=True)
class Axis:
    """A map from values to percent, linear or logarithmic.

    Parameters
    ----------
    low, high
        Values at 0 and at 100 percent.
    logarithmic
        Whether the axis is logarithmic; both ends must be positive then.
    """

    low: float
    high: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of a value, between 0 and 100; values beyond an end are clamped to it."""
        low, high, value = self.low, self.high, min(max(value, self.low), self.high)
        if self.logarithmic:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        return 100 * (value - low) / (high - low) if high > low else 50.0

    def ticks(self, *, falling: bool = False, most: int = 5, unit: float = 1.0) -> tuple[Tick, ...]:
        """Return labels at round values.

        Parameters
        ----------
        falling
            Whether positions count from the far end, as for vertical axes on a page.
        most
            Approximate number of labels.
        unit
            Unit of the labels, in units of the axis.
        """
        values = self._logarithmic() if self.logarithmic else _round(self.low / unit, self.high / unit, most)
        scale = 1.0 if self.logarithmic else unit
        places = [(self(value * scale), digits(value)) for value in values]
        return tuple(Tick(100 - place if falling else place, text) for place, text in places)

    def _logarithmic(self) -> Sequence[float]:
        if self.high <= self.low:
            return [self.low]
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        steps = (1, 2, 5) if last - first <= 2 else (1,)
        values = [s * 10.0**e for e in range(first, last + 1) for s in steps]
        return [v for v in values if self.low <= v <= self.high] or [self.low, self.high]


def _round(low: float, high: float, most: int) -> list[float]:
    """Return the multiples of 1, 2 or 5 times a power of ten within a range, about `most` of them."""
    if high <= low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [float(f"{(first + i) * step:.10g}") for i in range(count)]
