"""From cycles and work to an `OperationResult`: causes that add up, energy by part. Shared by the STA-like array and S4."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..machine.spec import AcceleratorSpec
from ..result import OperationResult
from ..schedule import Timing
from ..workload import Operation
from .memory import refreshed
from .vector import launch_cycles

__all__ = ["Work", "account"]


@dataclass(frozen=True)
class Work:
    """The work of the lanes.

    Parameters
    ----------
    issued
        Multiply-accumulates executed, padding included.
    ran
        Multiply-accumulates executed without padding: those of real tokens, outputs and inputs.
    lost
        Cycles of the busiest core by cause, other than useful work and padding; they may be fractional.
    onchip
        Bytes moved, by on-chip memory. Default: none.
    note
        How the operation was run. Default: empty.
    """

    issued: int
    ran: int
    lost: Mapping[str, float]
    onchip: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


def account(
    spec: AcceleratorSpec, operation: Operation, dtype: str, timing: Timing, work: Work, moved: int
) -> OperationResult:
    """Return the result of a product.

    The cycles of each cause are rounded down, useful ones first, and the few that are left go to the largest loss. Zeros
    that the lanes multiply because their selectors cannot skip them are a density step; what the lanes issue beyond real
    tokens, outputs and inputs is padding. Waiting for DRAM, the last stores included, is bandwidth, except for the share
    in which DRAM refreshes.
    """
    launch = launch_cycles(spec)
    cycles = launch + timing.total
    rate = float(spec.rate(dtype)) * float(spec.cores)
    causes = {"useful": int(operation.useful / rate)}
    left = timing.busy - causes["useful"]
    step = work.lost.get("density step", 0.0) + (work.ran - operation.useful) / rate
    losses = {**work.lost, "density step": step, "padding": (work.issued - work.ran) / rate}
    for cause, lost in losses.items():
        causes[cause] = min(left, int(lost))
        left -= causes[cause]
    causes[max(losses, key=lambda cause: losses[cause])] += left
    causes["bandwidth"] = timing.starved + timing.blocked + timing.tail
    causes["launch"] = launch
    causes = refreshed(spec, causes)
    seconds = cycles / float(spec.clock)
    joules = {"mac": work.issued * _energy(spec, f"mac.{dtype}"), "dram": moved * _energy(spec, "byte.dram")}
    joules.update({level: count * _energy(spec, f"byte.{level}") for level, count in work.onchip.items()})
    joules["static"] = seconds * _energy(spec, "static")
    return OperationResult(
        operation.name,
        operation.kind,
        cycles,
        {cause: value for cause, value in causes.items() if value},
        useful=operation.useful,
        issued=work.issued,
        peak=int(rate * cycles),
        bytes={level: round(count) for level, count in {"dram": moved, **work.onchip}.items() if count},
        joules={part: value for part, value in joules.items() if value},
        note=work.note,
    )


def _energy(spec: AcceleratorSpec, name: str) -> float:
    return float(spec.energy[name]) if name in spec.energy else 0.0
