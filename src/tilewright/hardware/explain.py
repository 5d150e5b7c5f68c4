"""Views of a run: where its speed-up went, which numbers its time depends on, and its trace."""

from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError
from ..records import Report
from .result import CAUSES

if TYPE_CHECKING:
    from .simulation import Simulation

__all__ = ["assumptions", "timeline", "waterfall"]


def waterfall(sparse: "Simulation", dense: "Simulation") -> Report:
    """Return the steps from a dense run's cycles to a sparse run's: the ideal saving, then what each cause takes back.

    Ideally all cycles shrink to the share of multiply-accumulates that is left. Each further step is the cycles of a
    cause beyond that share of its dense cycles. All steps are whole cycles and add up to the difference of the two runs.

    Raises
    ------
    ArgumentError
        If the machines have different clocks, so that their cycles cannot be compared, or the dense run multiplies nothing.
    """
    if float(sparse.spec.clock) != float(dense.spec.clock):
        raise ArgumentError(
            f"{dense.spec.name} runs at {float(dense.spec.clock):g} Hz and {sparse.spec.name} at {float(sparse.spec.clock):g} Hz; a "
            "waterfall compares cycles of one clock"
        )
    work, left = (sum(o.useful for o in run.operations) for run in (dense, sparse))
    if not work:
        raise ArgumentError(f"{dense.workload} multiplies nothing, so pruning has nothing to save")
    # Rounded down by cause, so that the sum is exact.
    ideal = {cause: cycles * left // work for cause, cycles in dense.causes.items()}
    after = sparse.causes
    now = sum(ideal.values())
    saved = dense.cycles - now
    rows = [
        _step("dense", dense.cycles, dense.cycles, None, "cycles with every weight dense"),
        _step("ideal saving", -saved, now, None, f"all cycles shrunk to {left / work:.4g} of the multiply-accumulates"),
    ]
    for cause, meaning in CAUSES.items():
        beyond = after.get(cause, 0) - ideal.get(cause, 0)
        if beyond:
            now += beyond
            rows.append(_step(cause, beyond, now, beyond / saved if saved else None, meaning))
    rows.append(_step("sparse", now, now, None, "cycles of the pruned network"))
    summary = {
        "accelerator": sparse.spec.name,
        "dense": f"{dense.workload} on {dense.spec.name}",
        "ideal speed-up": work / left if left else 0.0,
        "speed-up": dense.cycles / sparse.cycles if sparse.cycles else 0.0,
    }
    return Report("waterfall", tuple(rows), summary)


def _step(name: str, change: int, after: int, share: float | None, meaning: str) -> dict[str, object]:
    return {"step": name, "cycles": change, "after": after, "of the ideal saving": share, "meaning": meaning}


def assumptions(run: "Simulation") -> Report:
    """Return the uncertain numbers that affect the time of a run, strongest first."""
    rows = tuple(
        {
            "number": effect.path,
            "value": effect.quantity.value,
            "unit": effect.quantity.unit,
            "low": effect.quantity.interval[0],
            "high": effect.quantity.interval[1],
            "provenance": effect.quantity.provenance,
            "change of time at low": effect.low,
            "change of time at high": effect.high,
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
    """Return the run in the trace format of Chrome's tracing and Perfetto: microseconds, one track per unit."""
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
                # An operation that hides behind products starts before they end.
                "ts": max(0, o.start - o.hidden) * scale,
                "dur": length * scale,
                "args": {"cycles": o.cycles, "hidden cycles": o.hidden, "note": o.note, **o.causes},
            }
        )
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"clock": float(run.spec.clock)}}
