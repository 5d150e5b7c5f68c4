"""The share of a DRAM's peak that one long stream reaches, as used by the cycle models."""

from functools import cache

from .model import Dram
from .presets import preset

__all__ = ["long_stream"]

_LONG = 1 << 32
"""Bytes of a stream long enough for its start and end not to matter."""


@cache
def long_stream(kind: str) -> tuple[float, float]:
    """Return the share of its peak that a kind of DRAM delivers to long reads, and the share of time it spends refreshing.

    Parameters
    ----------
    kind
        A name that `preset` accepts.

    Raises
    ------
    ArgumentError
        If the DRAM is unknown.

    Examples
    --------
    >>> delivered, refreshing = long_stream("lpddr4x")
    >>> round(delivered, 3), round(refreshing, 3)
    (0.918, 0.072)
    """
    memory = preset(kind)
    run = Dram(memory).stream(_LONG)
    return run.utilisation, run.stats.refreshes / int(memory.channels) * memory.cycles.tRFC / run.cycles
