"""The parts of `advise`: which layers there are, what each loses, how long each takes, and which choice meets a limit."""

from .clocks import Clock, CpuClock, Latency, ModelClock
from .layers import Layer, layers_of, patterns_for, survey_network
from .limits import Found, meet
from .losses import offers

__all__ = [
    "Clock",
    "CpuClock",
    "Found",
    "Latency",
    "Layer",
    "ModelClock",
    "layers_of",
    "meet",
    "offers",
    "patterns_for",
    "survey_network",
]
