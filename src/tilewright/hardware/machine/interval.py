"""From the intervals of a machine's numbers to the interval of a time, and which numbers matter."""

from collections.abc import Callable
from dataclasses import dataclass

from ...errors import ArgumentError
from ..quantity import Quantity
from .spec import AcceleratorSpec

__all__ = ["Effect", "interval_of", "vary"]

_SILENT = ("energy.", "limits.")
"""Numbers that no time depends on."""

_ARRAY = ("rows", "columns", "costs.lanes")
"""Numbers that the multiply-accumulates of a core are the product of."""


@dataclass(frozen=True)
class Effect:
    """What one uncertain number does to a time.

    Parameters
    ----------
    path, quantity
        The number.
    low, high
        Seconds over the seconds at its value, less one, at its lower and its upper end; None where no machine can be built there.
    """

    path: str
    quantity: Quantity
    low: float | None
    high: float | None

    @property
    def size(self) -> float:
        """The larger of both, without its sign."""
        return max(abs(self.low or 0.0), abs(self.high or 0.0))


def interval_of(
    spec: AcceleratorSpec,
    quick: Callable[[AcceleratorSpec], float],
    exact: Callable[[AcceleratorSpec], float],
    value: float,
) -> tuple[tuple[float, float], tuple[Effect, ...]]:
    """Return the interval of a time, and the numbers that move it, the strongest first.

    Each uncertain number is moved to both of its ends alone; then all to the ends that are fast, and all to those that are slow.

    Parameters
    ----------
    spec
        The machine.
    quick, exact
        Seconds on a machine: for moving one number, and for moving all.
    value
        Seconds on the machine as it is, of `exact`.
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
        for effect in sorted(moving, key=lambda effect: effect.path == "clock"):  # last: on-chip bandwidths go with it
            ends = zip((effect.low, effect.high), effect.quantity.interval, strict=True)
            moves = [(sign * (change or 0.0), end) for change, end in ends if change is not None]
            change, end = min(moves)
            if change < 0:
                machine = vary(machine, effect.path, end)
        corners.append(exact(machine))
    return (min(value, *corners), max(value, *corners)), tuple(moving)


def vary(spec: AcceleratorSpec, path: str, value: float) -> AcceleratorSpec:
    """Return the machine with another number; where that is a side of an array, its multiply-accumulates go with it.

    Raises
    ------
    ArgumentError
        If there is no such machine.
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
