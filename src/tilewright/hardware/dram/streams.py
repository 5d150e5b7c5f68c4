"""What is left of a DRAM's peak when a machine reads one long stream from it: the number that the cycle models take."""

from functools import cache

from .model import Dram
from .presets import preset

__all__ = ["long_stream"]

_LONG = 1 << 32
"""Bytes of a stream whose start and end do not matter."""


@cache
def long_stream(kind: str) -> tuple[float, float]:
    """Return the share of its peak that a kind of DRAM delivers to long reads, and the share of the time that it refreshes.

    Parameters
    ----------
    kind
        A name that `preset` knows.

    Raises
    ------
    ArgumentError
        If there is no such DRAM.

    Examples
    --------
    >>> delivered, refreshing = long_stream("lpddr4x")
    >>> round(delivered, 3), round(refreshing, 3)
    (0.918, 0.072)
    """
    memory = preset(kind)
    run = Dram(memory).stream(_LONG)
    return run.utilisation, run.stats.refreshes / int(memory.channels) * memory.cycles.tRFC / run.cycles
