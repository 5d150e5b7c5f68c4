"""Advice: a pattern for every layer under a limit, from predicted losses and times on this CPU or a modelled machine."""

from .advisor import Advice, advise
from .clocks import Clock, CpuClock, Latency, ModelClock
from .layers import Layer, layers_of, patterns_for, survey_network
from .limits import Found, meet
from .losses import offers

__all__ = [
    "Advice",
    "Clock",
    "CpuClock",
    "Found",
    "Latency",
    "Layer",
    "ModelClock",
    "advise",
    "layers_of",
    "meet",
    "offers",
    "patterns_for",
    "survey_network",
]
