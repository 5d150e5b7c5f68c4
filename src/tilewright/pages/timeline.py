"""Timelines: one strip per unit of a machine, one colour per kind of work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ArgumentError
from .axes import Axis, Tick
from .kinds import KINDS, colour_of
from .wording import number, percent, seconds

__all__ = ["Span", "Strip", "Timeline", "timeline"]

_PIXELS = 1200
"""Assumed width of a strip: neighbouring spans thinner than one pixel are merged."""


@dataclass(frozen=True)
class Span:
    """One span of work: start and width in percent."""

    start: float
    width: float
    colour: str
    note: str


@dataclass(frozen=True)
class Strip:
    """The work of one unit, and the share of the time that it was busy."""

    name: str
    busy: str
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Timeline:
    """Strips over a common axis, and a legend with the colour and the total time of each kind of work."""

    caption: str
    strips: tuple[Strip, ...]
    ticks: tuple[Tick, ...]
    unit: str
    legend: tuple[tuple[str, str, str], ...]


def timeline(trace: Mapping[str, Any]) -> Timeline:
    """Lay out a trace as a timeline.

    Parameters
    ----------
    trace
        Trace from `Simulation.timeline`, with times in microseconds.

    Raises
    ------
    ArgumentError
        If the trace contains no events.
    """
    events = [event for event in trace.get("traceEvents", ()) if event["ph"] == "X"]
    if not events:
        raise ArgumentError("the trace contains no events; expected a trace from Simulation.timeline")
    names = {e["tid"]: e["args"]["name"] for e in trace["traceEvents"] if e["name"] == "thread_name"}
    end = max(event["ts"] + event["dur"] for event in events)
    unit, scale = next(
        ((u, s) for u, s in (("seconds", 1e6), ("milliseconds", 1e3)) if end >= s), ("microseconds", 1.0)
    )
    totals: dict[str, float] = {}
    for event in events:
        totals[event["cat"]] = totals.get(event["cat"], 0.0) + event["dur"]
    order = sorted(totals, key=lambda kind: KINDS.index(kind) if kind in KINDS else len(KINDS))
    return Timeline(
        caption=f"{seconds(end / 1e6)} from the first operation to the last. Hover over a span to see what it is.",
        strips=tuple(_strip(name, [e for e in events if e["tid"] == tid], end) for tid, name in sorted(names.items())),
        ticks=Axis(0.0, end).ticks(unit=scale),
        unit=unit,
        legend=tuple((kind, colour_of(kind), seconds(totals[kind] / 1e6)) for kind in order),
    )


def _strip(name: str, events: Sequence[Mapping[str, Any]], end: float) -> Strip:
    busy = sum(event["dur"] for event in events) / end
    spans = (
        Span(100 * start / end, 100 * length / end, colour_of(kind), note)
        for start, length, kind, note in _merged(events, end / _PIXELS)
    )
    return Strip(name, f"busy {percent(min(busy, 1.0))} of the time", tuple(spans))


def _merged(events: Sequence[Mapping[str, Any]], least: float) -> list[tuple[float, float, str, str]]:
    """Return the (start, length, kind, note) of each span to draw; thin neighbours are merged and described by the longest."""
    bars: list[tuple[float, float, str, str]] = []
    longest = 0.0
    for event in events:
        start, length, kind = event["ts"], event["dur"], event["cat"]
        note = f"{event['name']}, {kind}: {seconds(length / 1e6)}, {number(event['args']['cycles'])} cycles"
        if bars:
            before, thick, last, words = bars[-1]
            thin = max(thick, length) < least or (last == kind and min(thick, length) < least)
            if thin and start <= before + thick + least:
                if length > longest:
                    longest, last, words = length, kind, note
                bars[-1] = (before, start + length - before, last, words)
                continue
        longest = length
        bars.append((start, length, kind, note))
    return bars
