"""A simulated network: its totals, and the views of its operations."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..records import Report
from .explain import assumptions, timeline, waterfall
from .machine.interval import Effect
from .machine.spec import AcceleratorSpec
from .result import CAUSES, Fidelity, OperationResult
from .roofline import report
from .workload import Operation

__all__ = ["Simulation"]


@dataclass(frozen=True, eq=False)
class Simulation:
    """The result of `simulate`.

    Parameters
    ----------
    spec
        The machine.
    workload
        Name of the network.
    batch
        Size of the whole batch.
    dtype
        Data type of weights and activations.
    fidelity
        Level of the simulation.
    operations
        The result of each operation in the order they ran: cycles, work and bytes of one chip, joules of the whole card.
    cycles
        Cycles of the whole network for one chip's share of the batch.
    interval
        Lowest and highest seconds over the intervals of the machine's numbers; None if they were not propagated.
    steps
        The operations that were run, in the same order.
    effects
        The uncertain numbers that affect the time, strongest first.
    unmodelled
        Steps of the model that are not in the time, by name, with how often each occurs.
    """

    spec: AcceleratorSpec
    workload: str
    batch: int
    dtype: str
    fidelity: Fidelity
    operations: tuple[OperationResult, ...]
    cycles: int
    interval: tuple[float, float] | None = None
    steps: tuple[Operation, ...] = ()
    effects: tuple[Effect, ...] = ()
    unmodelled: Mapping[str, int] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Time of one batch, in seconds."""
        return self.cycles / float(self.spec.clock)

    @property
    def throughput(self) -> float:
        """Samples per second, batch after batch."""
        return self.batch / self.seconds

    @property
    def joules(self) -> float:
        """Energy of one batch on the whole card, in joules."""
        return sum(sum(operation.joules.values()) for operation in self.operations)

    @property
    def watts(self) -> float:
        """Mean power of the whole card, in watts."""
        return self.joules / self.seconds if self.cycles else 0.0

    @property
    def causes(self) -> dict[str, int]:
        """Cycles of all operations by cause (see `CAUSES`)."""
        return {cause: total for cause in CAUSES if (total := sum(o.causes.get(cause, 0) for o in self.operations))}

    @property
    def bytes(self) -> dict[str, int]:
        """Bytes moved by one chip, by level of memory."""
        levels = dict.fromkeys(level for operation in self.operations for level in operation.bytes)
        return {level: sum(o.bytes.get(level, 0) for o in self.operations) for level in levels}

    @property
    def utilisation(self) -> dict[str, float]:
        """Useful and issued multiply-accumulates, as shares of what all lanes could do in the same cycles."""
        peak = sum(operation.peak for operation in self.operations)
        return {
            "useful": sum(o.useful for o in self.operations) / peak if peak else 0.0,
            "issued": sum(o.issued for o in self.operations) / peak if peak else 0.0,
        }

    def table(self) -> Report:
        """Return one row per operation, and the totals."""
        clock = float(self.spec.clock)
        rows = tuple(
            {
                "name": o.name,
                "kind": o.kind,
                "cycles": o.cycles,
                "us": o.cycles / clock * 1e6,
                "useful/peak": o.useful / o.peak if o.peak else 0.0,
                "issued/peak": o.issued / o.peak if o.peak else 0.0,
                "DRAM bytes": o.bytes.get("dram", 0),
                "largest loss": _largest(o),
                "uJ": sum(o.joules.values()) * 1e6,
                "note": o.note,
            }
            for o in self.operations
        )
        return Report("simulate", rows, self.summary())

    def waterfall(self, dense: "Simulation") -> Report:
        """Return where the speed-up over a dense run went: the ideal saving, then each loss, in whole cycles that add up."""
        return waterfall(self, dense)

    def assumptions(self) -> Report:
        """Return the uncertain numbers behind the time, each with its source and its effect."""
        return assumptions(self)

    def timeline(self) -> dict[str, Any]:
        """Return the run as a trace for Perfetto or Chrome; write it to a file with `json.dump`."""
        return timeline(self)

    def roofline(self) -> Report:
        """Return FLOP/s against FLOPs per byte for every product, and the machine's roofs."""
        return report(self)

    def summary(self) -> dict[str, object]:
        """Return the totals of the run, as a report shows them."""
        low, high = self.interval or (self.seconds, self.seconds)
        return {
            "accelerator": self.spec.name,
            "model": self.workload,
            "batch": self.batch,
            "dtype": self.dtype,
            "fidelity": self.fidelity,
            "cycles": self.cycles,
            "seconds": self.seconds,
            "seconds, low": low,
            "seconds, high": high,
            "samples/s": self.throughput,
            "joules": self.joules,
            "watts": self.watts,
            **{f"{name}/peak": share for name, share in self.utilisation.items()},
            **{f"cycles, {cause}": cycles for cause, cycles in self.causes.items()},
            **({"watts/limit": self.watts / float(self.spec.limits["power"])} if "power" in self.spec.limits else {}),
            **{f"not modelled, {name}": count for name, count in self.unmodelled.items()},
        }


def _largest(operation: OperationResult) -> str:
    losses = {cause: cycles for cause, cycles in operation.causes.items() if cause != "useful" and cycles > 0}
    return max(losses, key=lambda cause: losses[cause]) if losses else ""
