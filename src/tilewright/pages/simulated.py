"""The page of simulated runs: times, rooflines, timelines, waterfalls of cycles, and the assumptions behind them."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .charts import Bar, BarChart, BarGroup, Table
from .page import render
from .roofs import Roofline, rooflines
from .simulated_tables import assumptions, operations, times_table
from .timeline import Timeline, timeline
from .waterfall import Waterfall, waterfall
from .wording import amount, digits, percent, seconds, times

if TYPE_CHECKING:
    from ..hardware import Comparison, Simulation

__all__ = ["simulation_page"]

_FIDELITIES = {
    "roofline": "lanes at full rate and DRAM at full bandwidth, a bound that the other levels never beat",
    "analytical": "tile shapes, waves, pipelines, imbalance and overlap, in closed form",
    "tiles": "the same tiles, simulated one by one through loader, lanes and storer with their buffers",
}


@dataclass(frozen=True)
class _Run:
    """One run in the form that the template needs."""

    key: str
    title: str
    facts: dict[str, str]
    roofline: Roofline
    timeline: Timeline
    waterfall: Waterfall | None
    operations: Table
    assumptions: Table | None


def simulation_page(comparison: "Comparison", *, command: str = "", pattern: str | None = None) -> str:
    """Render simulated runs of one network as a self-contained HTML page.

    Parameters
    ----------
    comparison
        Result of `tilewright.hardware.compare`.
    command
        Command that makes the page again. Default: not shown.
    pattern
        Pattern that every weight was pruned to for the simulation. Default: the weights were simulated as they are.

    Examples
    --------
    >>> from tilewright.hardware import compare
    >>> page = simulation_page(compare("bert-base", ["s4"], interval=False))
    >>> page.startswith("<!doctype html>")
    True
    """
    report = comparison.report()
    roofs = rooflines([run.roofline() for run in comparison.runs])
    runs = [_run(run, dense, roof) for run, dense, roof in zip(comparison.runs, comparison.dense, roofs, strict=True)]
    first = comparison.runs[0]
    contents = [("time", "Time"), *((run.key, run.title) for run in runs), ("reading", "How to read this")]
    return render(
        "simulated.html.j2",
        title=f"{first.workload} on {', '.join(dict.fromkeys(run.spec.name for run in comparison.runs))}",
        headline=_headline(comparison),
        facts=_facts(comparison, command, pattern),
        contents=contents,
        chart=_chart(comparison, times_table(report)),
        runs=runs,
        fidelity=first.fidelity,
        fidelities=_FIDELITIES,
    )


def _headline(comparison: "Comparison") -> str:
    """Return one sentence with the time of the first batch on each machine, compared with dense."""
    first = comparison.runs[0]
    parts = []
    for run, dense in zip(comparison.runs, comparison.dense, strict=True):
        if run.batch == first.batch:
            ratio = dense.seconds / run.seconds if run.seconds else 1.0
            over = (
                f"{times(ratio)} the speed of its dense form"
                if run.cycles != dense.cycles
                else "as long as its dense form"
            )
            parts.append(f"{seconds(run.seconds)} on {run.spec.name} ({over})")
    samples = "one sample" if first.batch == 1 else f"{first.batch:,} samples"
    listed = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    return f"{first.workload}, {samples}: {listed}."


def _facts(comparison: "Comparison", command: str, pattern: str | None) -> dict[str, str]:
    summary, first = comparison.report().summary, comparison.runs[0]
    missing = {
        key.removeprefix("not modelled, "): value for key, value in summary.items() if key.startswith("not modelled")
    }
    facts = {
        "Kind": "Simulated: no hardware was run. Each accelerator is a model built from published, derived and assumed numbers.",
        "Network": f"{first.workload}, {len(first.steps):,} operations",
        "Not modelled": ", ".join(f"{value} of {key}" for key, value in missing.items()),
        "Pattern": f"{pattern}, as if every weight that can take this pattern were pruned to it"
        if pattern
        else "as the weights are",
        "Work left": f"{percent(float(str(summary['density of the work'])))} of the dense multiply-accumulates",
        "Accelerators": ", ".join(dict.fromkeys(f"{run.spec.name} ({run.dtype})" for run in comparison.runs)),
        "Batch": ", ".join(dict.fromkeys(f"{run.batch:,}" for run in comparison.runs)),
        "Fidelity": f"{first.fidelity}: {_FIDELITIES[first.fidelity]}",
        "Command": command,
    }
    return {title: text for title, text in facts.items() if text}


def _chart(comparison: "Comparison", table: Table) -> BarChart:
    """Chart the time of every run next to that of its dense form, one group per batch."""
    groups: dict[int, list[Bar]] = {}
    spread = False
    for run, dense in zip(comparison.runs, comparison.dense, strict=True):
        bars = groups.setdefault(run.batch, [])
        low, high = run.interval or (run.seconds, run.seconds)
        spread |= low < high
        ratio = dense.seconds / run.seconds if run.seconds else 1.0
        within = f" ({seconds(low)} to {seconds(high)})" if low < high else ""
        note = f"{times(ratio)} dense{within}"
        tone = "accent" if ratio >= 1 else "behind"
        bars.append(Bar(f"{run.spec.name}, {run.dtype}", run.seconds, seconds(run.seconds), note, tone, low, high))
        if run.cycles != dense.cycles:
            bars.append(Bar(f"{run.spec.name}, dense", dense.seconds, seconds(dense.seconds), "reference", "dense"))
    caption = "Time of a batch. Shorter is faster." + (
        " The thin line spans the times that result if the underlying numbers lie elsewhere in their ranges."
        if spread
        else ""
    )
    full = max(bar.high or bar.value for bars in groups.values() for bar in bars)
    charts = tuple(BarGroup(f"Batch of {batch:,}", tuple(bars), full) for batch, bars in groups.items())
    return BarChart("Time", caption, charts, table)


def _run(run: "Simulation", dense: "Simulation", roof: Roofline) -> _Run:
    title = f"{run.spec.name}, batch {run.batch:,}"
    return _Run(
        key=f"run-{run.spec.name}-{run.batch}".replace(".", "-").replace(" ", "-"),
        title=title,
        facts=_run_facts(run),
        roofline=roof,
        timeline=timeline(run.timeline()),
        waterfall=waterfall(run.waterfall(dense)) if run.cycles != dense.cycles else None,
        operations=operations(run.table()),
        assumptions=assumptions(run.assumptions()),
    )


def _run_facts(run: "Simulation") -> dict[str, str]:
    roof, rests = run.roofline().summary, run.assumptions().summary
    counts = Counter({kind: int(str(rests.get(f"numbers, {kind}", 0))) for kind in ("sourced", "derived", "assumed")})
    return {
        "Time": f"{seconds(run.seconds)}, {run.cycles:,} cycles",
        "Throughput": f"{digits(run.throughput, 4)} samples per second",
        "Energy": f"{amount(run.joules / run.batch, 'J')} per sample, {amount(run.watts, 'W')}",
        "Dense peak": amount(float(str(roof["flops/s, dense"])), "op/s"),
        "DRAM": amount(float(str(roof["byte/s, DRAM"])), "B/s"),
        "Rests on": ", ".join(f"{count} {kind}" for kind, count in counts.items()) + " numbers",
    }
