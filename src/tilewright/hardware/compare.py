"""`compare`: one network on several machines, each next to the same network with dense weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ArgumentError
from ..patterns import Pattern
from ..records import Report
from .machine.spec import AcceleratorSpec
from .result import Fidelity
from .simulate import simulate
from .simulation import Simulation
from .workload import Workload

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`: runs of one network.

    Parameters
    ----------
    runs
        One run for each machine and batch size, machine by machine.
    dense
        The same runs with every weight dense.
    """

    runs: tuple[Simulation, ...]
    dense: tuple[Simulation, ...]

    def report(self) -> Report:
        """Return one row per run: time with its interval, speed-up over dense, throughput, energy and largest loss."""
        rows = tuple(_row(run, dense) for run, dense in zip(self.runs, self.dense, strict=True))
        first = self.runs[0]
        steps = [o for o in first.steps if o.is_product]
        macs, useful = sum(o.macs for o in steps), sum(o.useful for o in steps)
        summary: dict[str, object] = {
            "model": first.workload,
            "fidelity": first.fidelity,
            "operations": len(first.steps),
            "density of the work": useful / macs if macs else 1.0,
            **{f"not modelled, {name}": count for name, count in first.unmodelled.items()},
        }
        return Report("simulate", rows, summary)


def compare(
    model: Any,
    archs: Sequence[str | AcceleratorSpec],
    batches: Sequence[int] = (1,),
    *,
    example: Any = None,
    sequence: int | None = None,
    fidelity: Fidelity = "tiles",
    dtype: str | None = None,
    pattern: Pattern | str | None = None,
    interval: bool = True,
) -> Comparison:
    """Simulate a network on every machine at every batch size, as it is and with all its weights dense.

    Parameters
    ----------
    model, example, sequence, fidelity, dtype, pattern, interval
        As for `simulate`.
    archs
        The machines: names of presets, or specifications.
    batches
        Batch sizes, each split across the card's chips. Default: 1 only.

    Returns
    -------
    Comparison
        All runs; `report` lays them out one per row.

    Raises
    ------
    ArgumentError
        If no machine or no batch size is given, or for the reasons of `simulate`.

    Examples
    --------
    >>> comparison = compare("bert-base", ["a100", "s4"], [1, 8], pattern="2:4", interval=False)
    >>> [(row["accelerator"], row["batch"]) for row in comparison.report().rows]
    [('a100', 1), ('a100', 8), ('s4', 1), ('s4', 8)]
    """
    if not archs or not batches:
        raise ArgumentError("a comparison needs at least one accelerator and one batch")
    runs, dense = [], []
    for arch in archs:
        for batch in batches:
            run = simulate(
                model,
                arch,
                batch=batch,
                example=example,
                sequence=sequence,
                fidelity=fidelity,
                dtype=dtype,
                pattern=pattern,
                interval=interval,
            )
            net = Workload(run.workload, run.steps, -(-batch // int(run.spec.chips)), run.unmodelled).with_pattern(None)
            runs.append(run)
            dense.append(_again(net, run))
    return Comparison(tuple(runs), tuple(dense))


def _again(net: Workload, run: Simulation) -> Simulation:
    """Return the run of another network, given as one chip's share, on the machine of an existing run."""
    whole = net.with_batch(net.batch * int(run.spec.chips))
    return simulate(whole, run.spec, batch=run.batch, fidelity=run.fidelity, dtype=run.dtype, interval=False)


def _row(run: Simulation, dense: Simulation) -> dict[str, object]:
    low, high = run.interval or (run.seconds, run.seconds)
    losses = {cause: cycles for cause, cycles in run.causes.items() if cause != "useful"}
    worst = max(losses, key=lambda cause: losses[cause], default="")
    return {
        "accelerator": run.spec.name,
        "batch": run.batch,
        "dtype": run.dtype,
        "ms": run.seconds * 1e3,
        "ms, low": low * 1e3,
        "ms, high": high * 1e3,
        "over dense": dense.seconds / run.seconds if run.seconds else 1.0,
        "samples/s": run.throughput,
        "mJ/sample": run.joules / run.batch * 1e3,
        "watts": run.watts,
        "useful/peak": run.utilisation["useful"],
        "largest loss": f"{worst} {losses[worst] / run.cycles:.0%}" if worst else "",
    }
