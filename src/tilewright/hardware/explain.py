"""Where a speed-up went, which numbers a time rests on, and a run as a trace."""

from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError
from ..report import Report
from .result import CAUSES

if TYPE_CHECKING:
    from .result import Simulation

__all__ = ["assumptions", "timeline", "waterfall"]


def waterfall(sparse: "Simulation", dense: "Simulation") -> Report:
    """Return the steps from the cycles of one run to those of another: what fewer multiply-accumulates save, then each cause.

    Raises
    ------
    ArgumentError
        If the runs are of machines with different clocks, whose cycles cannot be compared.
    """
    if float(sparse.spec.clock) != float(dense.spec.clock):
        raise ArgumentError(
            f"{dense.spec.name} runs at {float(dense.spec.clock):g} Hz and {sparse.spec.name} at {float(sparse.spec.clock):g} Hz; a "
            "waterfall counts cycles of one clock"
        )
    before, after = dense.causes, sparse.causes
    saved = before.get("useful", 0) - after.get("useful", 0)
    now = dense.cycles
    rows: list[dict[str, object]] = [_step("dense", now, now, None, "cycles without the zeros left out")]
    for cause, meaning in CAUSES.items():
        change = after.get(cause, 0) - before.get(cause, 0)
        if not change:
            continue
        now += change
        share = None if cause == "useful" or not saved else change / saved
        name = "fewer multiply-accumulates" if cause == "useful" else cause
        rows.append(_step(name, change, now, share, meaning))
    rows.append(_step("sparse", now, now, None, "cycles with them left out"))
    ideal = dense.cycles - saved
    summary = {
        "accelerator": sparse.spec.name,
        "dense": f"{dense.workload} on {dense.spec.name}",
        "ideal speed-up": dense.cycles / ideal if ideal else 0.0,
        "speed-up": dense.cycles / sparse.cycles if sparse.cycles else 0.0,
    }
    return Report("waterfall", tuple(rows), summary)


def _step(name: str, change: int, after: int, share: float | None, meaning: str) -> dict[str, object]:
    return {"step": name, "cycles": change, "after": after, "of the ideal saving": share, "meaning": meaning}


def assumptions(run: "Simulation") -> Report:
    """Return the uncertain numbers that move the time of a run, the strongest first."""
    rows = tuple(
        {
            "number": effect.path,
            "value": effect.quantity.value,
            "unit": effect.quantity.unit,
            "low": effect.quantity.interval[0],
            "high": effect.quantity.interval[1],
            "provenance": effect.quantity.provenance,
            "seconds at low": effect.low,
            "seconds at high": effect.high,
            "source": effect.quantity.source,
        }
        for effect in run.effects
    )
    low, high = run.interval or (run.seconds, run.seconds)
    everything = list(run.spec.quantities())
    summary = {
        "accelerator": run.spec.name,
        "seconds": run.seconds,
        "seconds, low": low,
        "seconds, high": high,
        "carried through": run.interval is not None,
        **{
            f"numbers, {kind}": sum(q.provenance == kind for _, q in everything)
            for kind in ("sourced", "derived", "assumed")
        },
    }
    return Report("assumptions", rows, summary)


def timeline(run: "Simulation") -> dict[str, Any]:
    """Return the run in the trace format that Chrome's tracing and Perfetto read: microseconds, one track for each unit."""
    tracks = {"lanes": 1, "vector unit": 2}
    scale = 1e6 / float(run.spec.clock)
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": f"{run.workload} on {run.spec.name}"}},
        *({"ph": "M", "pid": 1, "tid": tid, "name": "thread_name", "args": {"name": n}} for n, tid in tracks.items()),
    ]
    for o in run.operations:
        length = o.cycles + o.hidden
        if not length:
            continue
        events.append(
            {
                "ph": "X",
                "pid": 1,
                "tid": tracks["lanes" if o.peak else "vector unit"],
                "name": o.name,
                "cat": o.kind,
                # What hides behind products began before they ended.
                "ts": max(0, o.start - o.hidden) * scale,
                "dur": length * scale,
                "args": {"cycles": o.cycles, "hidden cycles": o.hidden, "note": o.note, **o.causes},
            }
        )
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"clock": float(run.spec.clock)}}
