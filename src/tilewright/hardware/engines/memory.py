"""What DRAM gives an engine: bytes a second of long streams, and the share of that time that goes into refreshing.

Loads and stores of an operation follow each other without a gap, which makes them one long stream: `tilewright.hardware.dram` has a
closed form of it. Its share of the peak holds where a machine names its kind of DRAM and states no share itself; the refreshes in it are
those of the kind either way.
"""

from collections.abc import Mapping
from typing import TypeVar

from ..dram import long_stream
from ..machine.spec import AcceleratorSpec

__all__ = ["dram_bandwidth", "refresh_share", "refreshed"]

Count = TypeVar("Count", int, float)


def dram_bandwidth(spec: AcceleratorSpec) -> float:
    """Return the bytes a second that long streams get from a chip's DRAM."""
    memory = spec.dram
    share = 1.0
    if memory.efficiency is not None:
        share = float(memory.efficiency)
    elif memory.kind:
        share = long_stream(memory.kind)[0]
    return float(memory.bandwidth) * memory.instances * share


def refresh_share(spec: AcceleratorSpec) -> float:
    """Return the share of the time of long streams in which a chip's DRAM refreshes; 0 where its kind is not stated."""
    return long_stream(spec.dram.kind)[1] if spec.dram.kind else 0.0


def refreshed(spec: AcceleratorSpec, causes: Mapping[str, Count], waiting: str = "bandwidth") -> dict[str, Count]:
    """Return causes with the part of waiting for DRAM in which it refreshes under a name of its own; their sum stays.

    Parameters
    ----------
    spec
        The machine.
    causes
        Cycles by cause; of whole ones the refreshes are rounded down.
    waiting
        The cause that holds the time in which DRAM is never idle.
    """
    whole = causes.get(waiting)
    if not whole:
        return dict(causes)
    part = type(whole)(whole * refresh_share(spec))
    return {**causes, waiting: whole - part, "refresh": part}
