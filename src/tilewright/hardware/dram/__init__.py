"""DRAM by events: banks with open rows, bank groups, refresh and bus turnaround; streams in far fewer steps than bursts.

`preset` returns a memory, `Dram` times requests and streams on it, and `long_stream` is what the cycle models use.
"""

from .channel import DramStats
from .model import Dram, DramRun, Requests
from .presets import DRAMS, preset
from .spec import TIMINGS, Cycles, DramSpec
from .streams import long_stream

__all__ = [
    "DRAMS",
    "TIMINGS",
    "Cycles",
    "Dram",
    "DramRun",
    "DramSpec",
    "DramStats",
    "Requests",
    "long_stream",
    "preset",
]
