"""The first level of fidelity: lanes at their rate or DRAM at its bandwidth, whichever takes longer.

::

    cycles = max(slots / (rate x cores), bytes / bytes per cycle)

`slots` are the multiply-accumulates at the density that the lanes can run the weight at; `bytes` are what every schedule
has to move: kept weights, and activations that do not fit on chip. There is no launch, fill or padding: this is a lower
bound for all other levels.
"""

import math
from typing import TYPE_CHECKING

from ..patterns import NM, TileElementWise, TileVectorWise, TileWise
from ..records import Report
from .engines.memory import dram_bandwidth, refreshed
from .engines.vector import elements, overlap
from .machine.spec import BYTES, AcceleratorSpec
from .result import Fidelity, OperationResult
from .workload import Operation, WeightView

if TYPE_CHECKING:
    from .simulation import Simulation

__all__ = ["executed_density", "report", "run"]


def run(spec: AcceleratorSpec, operation: Operation, dtype: str, fidelity: Fidelity = "roofline") -> OperationResult:
    """Return the result of one operation on one chip at the roofline level, a lower bound on its time.

    Parameters
    ----------
    spec, operation, dtype
        The machine, the operation, and the data type of its operands.
    fidelity
        Ignored; present so that all engines have one signature.

    Raises
    ------
    ArgumentError
        If the machine does not multiply the data type.

    Examples
    --------
    >>> from tilewright.hardware import WeightView
    >>> from tilewright.hardware.machine.presets import preset
    >>> fc = Operation("fc", "linear", M=4096, N=4096, K=4096, weight=WeightView.dense(4096, 4096))
    >>> a100 = preset("a100")
    >>> seconds = run(a100, fc, "float16").cycles / float(a100.clock)
    >>> round(2 * fc.macs / seconds / a100.peak("float16"), 3)
    1.0
    """
    lanes = float(spec.rate(dtype)) * float(spec.cores)
    slots = math.ceil(operation.macs * executed_density(spec, operation.weight, dtype)) if operation.is_product else 0
    slots = max(slots, operation.useful)
    moved = _moved(spec, operation, BYTES[dtype])
    work = _vector(spec, operation) if not operation.is_product else slots / lanes
    transfer = moved * float(spec.clock) / dram_bandwidth(spec)
    cycles = math.ceil(max(work, transfer))
    useful = int(operation.useful / lanes)
    busy = min(cycles, math.ceil(work))
    kind = "density step" if operation.is_product else "vector"
    causes = {"useful": useful, kind: busy - useful, "bandwidth": cycles - busy}
    if kind == "density step" and slots == operation.useful:  # the remainder is rounding alone
        causes |= {"density step": 0, "padding": busy - useful}
    causes = refreshed(spec, causes)
    joules = {
        "mac": slots * _joules(spec, f"mac.{dtype}"),
        "dram": moved * _joules(spec, "byte.dram"),
        "static": cycles / float(spec.clock) * _joules(spec, "static"),
    }
    return OperationResult(
        operation.name,
        operation.kind,
        cycles,
        {cause: count for cause, count in causes.items() if count},
        useful=operation.useful,
        issued=slots,
        peak=max(slots, int(lanes * cycles)) if operation.is_product else 0,
        bytes={"dram": moved} if moved else {},
        joules={part: value for part, value in joules.items() if value},
        note="bound by DRAM" if transfer > work else "bound by the lanes" if operation.is_product else "",
    )


def executed_density(spec: AcceleratorSpec, weight: WeightView | None, dtype: str) -> float:
    """Return the density at which lanes run a weight: the next step of their selectors, or that of a tile-wise weight.

    Only tensor cores run tile-wise weights as smaller products; other machines have no addressing for them.
    """
    match weight.pattern if weight is not None else None:
        case NM(n, m):
            return spec.executed(dtype, n / m)
        case TileWise() | TileElementWise() | TileVectorWise() if spec.engine == "tensor-core" and weight is not None:
            return weight.density
    return 1.0


def report(simulation: "Simulation") -> Report:
    """Return where each product lies under the roofs of one chip: dense FLOP/s against dense FLOPs per byte of DRAM traffic.

    Products that are alike share one row, with their number.
    """
    spec, dtype = simulation.spec, simulation.dtype
    clock, macs = float(spec.clock), {o.name: o.macs for o in simulation.steps}
    groups: dict[tuple[object, ...], list[OperationResult]] = {}
    for result in simulation.operations:
        if macs[result.name] and result.cycles:
            key = (result.kind, macs[result.name], result.bytes.get("dram", 0), result.cycles, result.useful)
            groups.setdefault(key, []).append(result)
    rows = []
    for members in groups.values():
        first, work = members[0], 2 * macs[members[0].name]
        moved = first.bytes.get("dram", 0)
        rows.append(
            {
                "name": first.name,
                "operations": len(members),
                "kind": first.kind,
                "density": 2 * first.useful / work,
                "flops/byte": work / moved if moved else math.inf,
                "flops/s": work * clock / first.cycles,
                "share of cycles": len(members) * first.cycles / simulation.cycles,
            }
        )
    roof = spec.peak(dtype) / float(spec.chips)
    best = min((n / m for n, m in spec.selectors.get(dtype, ())), default=1.0)
    summary = {
        "accelerator": spec.name,
        "dtype": dtype,
        "batch": simulation.batch,
        "flops/s, dense": roof,
        "flops/s, sparsest": roof / best,
        "byte/s, DRAM": dram_bandwidth(spec),
        "flops/byte, ridge": roof / dram_bandwidth(spec),
    }
    return Report("roofline", tuple(rows), summary)


def _vector(spec: AcceleratorSpec, operation: Operation) -> float:
    """Return the cycles of the vector unit; 0 if the machine does not state its width."""
    if "vector.lanes" not in spec.costs:
        return 0.0
    name = operation.function or operation.kind
    passes = next((float(spec.costs[key]) for key in (f"vector.{name}", "vector.default") if key in spec.costs), 1.0)
    return passes * elements(operation) / float(spec.costs["vector.lanes"])


def _moved(spec: AcceleratorSpec, operation: Operation, size: float) -> int:
    weights = 0 if operation.weight is None else operation.weight.kept * operation.copies * size
    activations = (operation.reads + operation.writes) * size
    room = sum(float(memory.size) * memory.instances for memory in spec.memories if memory.name == "activations")
    if room and operation.kind == "matmul":  # the largest of the three matrices may stay on chip
        M, N, K = operation.M, operation.N, operation.K
        activations = max(0.0, activations - max(M * N, M * K, N * K) * operation.copies * size)
    fused = operation.kind == "elementwise" and "fused" in spec.costs and float(spec.costs["fused"]) >= 1
    if fused:
        activations = max(0, operation.reads - operation.writes) * size
    elif activations <= room or overlap(spec, operation) > 0:
        activations = 0
    return int(weights + activations)


def _joules(spec: AcceleratorSpec, name: str) -> float:
    return float(spec.energy[name]) if name in spec.energy else 0.0
