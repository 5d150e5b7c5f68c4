"""The interval of a time, from the intervals of a machine's numbers, and which of these numbers matter."""

from collections.abc import Callable
from dataclasses import dataclass

from ...errors import ArgumentError
from ..quantity import Quantity
from .spec import AcceleratorSpec

__all__ = ["Effect", "interval_of", "vary"]

_SILENT = ("energy.", "limits.")
"""Prefixes of the numbers that do not affect time."""

_ARRAY = ("rows", "columns", "costs.lanes")
"""The numbers whose product is the multiply-accumulates of a core."""


@dataclass(frozen=True)
class Effect:
    """The effect of one uncertain number on a time.

    Parameters
    ----------
    path, quantity
        The path and the value of the number.
    low, high
        Relative change of the time at the lower and at the upper end of the number's interval: 0.1 is 10% more time. None
        if no machine can be built there.
    """

    path: str
    quantity: Quantity
    low: float | None
    high: float | None

    @property
    def size(self) -> float:
        """The larger of the two changes in magnitude."""
        return max(abs(self.low or 0.0), abs(self.high or 0.0))


def interval_of(
    spec: AcceleratorSpec,
    quick: Callable[[AcceleratorSpec], float],
    exact: Callable[[AcceleratorSpec], float],
    value: float,
) -> tuple[tuple[float, float], tuple[Effect, ...]]:
    """Return the interval of a time, and the numbers that affect it, strongest first.

    Each uncertain number is first moved alone to both of its ends; then all are moved to their fast ends, and all to
    their slow ends.

    Parameters
    ----------
    spec
        The machine.
    quick
        Function from a machine to seconds, used while one number is moved.
    exact
        The same function at full fidelity, used while all are moved.
    value
        Seconds on the machine as it is, by `exact`.
    """
    base = quick(spec)
    effects = []
    for path, quantity in spec.quantities():
        if quantity.certain or path.startswith(_SILENT):
            continue
        low, high = (_at(spec, path, end, quick, base) for end in quantity.interval)
        effects.append(Effect(path, quantity, low, high))
    moving = sorted((effect for effect in effects if effect.size > 1e-9), key=lambda effect: -effect.size)
    corners = []
    for sign in (1, -1):
        machine = spec
        # The clock comes last, as it scales the on-chip bandwidths.
        for effect in sorted(moving, key=lambda effect: effect.path == "clock"):
            ends = zip((effect.low, effect.high), effect.quantity.interval, strict=True)
            moves = [(sign * (change or 0.0), end) for change, end in ends if change is not None]
            change, end = min(moves)
            if change < 0:
                machine = vary(machine, effect.path, end)
        corners.append(exact(machine))
    return (min(value, *corners), max(value, *corners)), tuple(moving)


def vary(spec: AcceleratorSpec, path: str, value: float) -> AcceleratorSpec:
    """Return the machine with one number replaced; if it is a side of an array, the multiply-accumulates scale with it.

    Raises
    ------
    ArgumentError
        If no such machine can be built.
    """
    before = float(dict(spec.quantities())[path])
    if path not in _ARRAY:
        return spec.with_quantity(path, value)
    macs = {dtype: float(rate) * value / before for dtype, rate in spec.macs.items()}
    changed = spec.with_quantity(path, value)
    for dtype, rate in macs.items():
        changed = changed.with_quantity(f"macs.{dtype}", rate)
    return changed


def _at(
    spec: AcceleratorSpec, path: str, value: float, seconds: Callable[[AcceleratorSpec], float], base: float
) -> float | None:
    try:
        return seconds(vary(spec, path, value)) / base - 1
    except ArgumentError:
        return None
