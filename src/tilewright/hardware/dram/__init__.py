"""DRAM by events: banks with open rows, refresh, bank groups, turning the bus; sequential streams without walking every burst.

`preset` gives a memory, `Dram` times requests and streams on it, `long_stream` is what the cycle models take.
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
