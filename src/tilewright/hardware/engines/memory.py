"""The DRAM as engines see it: the bandwidth of long streams, and the share of time spent refreshing.

The loads and stores of an operation follow each other without a gap, so they are one long stream, which
`tilewright.hardware.dram` models. Its share of the peak is used if a machine names its kind of DRAM but states no
efficiency; its refreshes are used whenever the kind is named.
"""

from collections.abc import Mapping
from typing import TypeVar

from ..dram import long_stream
from ..machine.spec import AcceleratorSpec

__all__ = ["dram_bandwidth", "refresh_share", "refreshed"]

Count = TypeVar("Count", int, float)


def dram_bandwidth(spec: AcceleratorSpec) -> float:
    """Return the bytes per second that a chip's DRAM delivers to long streams."""
    memory = spec.dram
    share = 1.0
    if memory.efficiency is not None:
        share = float(memory.efficiency)
    elif memory.kind:
        share = long_stream(memory.kind)[0]
    return float(memory.bandwidth) * memory.instances * share


def refresh_share(spec: AcceleratorSpec) -> float:
    """Return the share of time that a chip's DRAM spends refreshing during long streams; 0 if its kind is not stated."""
    return long_stream(spec.dram.kind)[1] if spec.dram.kind else 0.0


def refreshed(spec: AcceleratorSpec, causes: Mapping[str, Count], waiting: str = "bandwidth") -> dict[str, Count]:
    """Return causes with the refreshing share of the wait for DRAM moved to ``"refresh"``; their sum is unchanged.

    Parameters
    ----------
    spec
        The machine.
    causes
        Cycles by cause. If they are whole numbers, the refreshes are rounded down.
    waiting
        The cause that counts the wait for DRAM. Default: ``"bandwidth"``.
    """
    whole = causes.get(waiting)
    if not whole:
        return dict(causes)
    part = type(whole)(whole * refresh_share(spec))
    return {**causes, waiting: whole - part, "refresh": part}
