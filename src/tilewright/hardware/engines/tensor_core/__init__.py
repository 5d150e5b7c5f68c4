"""Cycle model of a GPU with tensor cores, with or without n:m selectors in front of them.

A product is lowered to one or several kernels and cut into thread-block tiles, which run on the cores. The tile shape is
the one with the least analytical time; both levels of fidelity use it.
"""

from dataclasses import replace
from typing import Any

from ...machine.spec import BYTES, AcceleratorSpec
from ...result import Fidelity, OperationResult
from ...workload import Operation
from ..memory import refreshed
from .account import issued_macs, joules, product_parts, whole
from .instructions import INSTRUCTIONS, Instruction
from .lowering import Lowered, lower, lower_dense
from .tiling import Rates, Tiling, candidates, plan
from .timing import Elapsed, analytical, by_events
from .vector import run_vector

__all__ = ["INSTRUCTIONS", "Instruction", "choose", "run", "run_kernels"]


def run(
    spec: AcceleratorSpec, operation: Operation, dtype: str = "float16", fidelity: Fidelity = "tiles"
) -> OperationResult:
    """Return the result of one operation on one chip, by itself.

    A pruned weight is run by the kernels of its pattern or, zeros included, by the dense kernel, whichever is faster, as
    a library that searches its kernels would choose. The note says which.

    Parameters
    ----------
    spec
        A machine with ``engine == "tensor-core"``.
    operation
        The operation to run, with the tile counts of its weight.
    dtype
        Data type of the operands; sums are float32 or int32.
    fidelity
        ``"analytical"`` or ``"tiles"`` (the default).

    Raises
    ------
    ArgumentError
        If the machine does not multiply the data type.

    Examples
    --------
    >>> from tilewright.hardware import Operation, WeightView
    >>> from tilewright.hardware.machine.presets import preset
    >>> from tilewright.patterns import NM
    >>> dense = Operation("fc", "linear", M=4096, N=4096, K=4096, weight=WeightView.dense(4096, 4096))
    >>> half = dense.with_weight(WeightView.expected(NM(2, 4), 4096, 4096))
    >>> a, b = (run(preset("a100"), o, "float16").cycles for o in (dense, half))
    >>> 1 < a / b < 2
    True
    """
    if not operation.is_product:
        return run_vector(spec, operation, dtype)
    pruned = run_kernels(spec, operation, dtype, fidelity)
    if operation.weight is None or operation.weight.pattern is None or pruned.note.startswith("dense"):
        return pruned
    dense = run_kernels(spec, operation, dtype, fidelity, zeros=True)
    if dense.cycles >= pruned.cycles:
        return pruned
    longer = pruned.cycles / dense.cycles
    return replace(dense, note=f"{dense.note}; {pruned.note} would take {longer:.2f} times as long")


def run_kernels(
    spec: AcceleratorSpec, operation: Operation, dtype: str, fidelity: Fidelity = "tiles", *, zeros: bool = False
) -> OperationResult:
    """Return the result of a product with the kernels of its weight's pattern, or with the dense kernel, faster or not.

    Parameters
    ----------
    spec, operation, dtype, fidelity
        As for `run`; the operation must be a product.
    zeros
        Whether to run the dense kernel, which multiplies all weights, pruned ones included. Default: False.
    """
    lowered, tiling, elapsed = choose(spec, operation, dtype, zeros=zeros)
    if fidelity == "tiles" and tiling is not None:
        elapsed = by_events(tiling, int(spec.cores))
    parts = {"launch": _launch(spec, lowered)}
    issued, levels = 0, {}
    if tiling is not None:
        parts |= product_parts(spec, operation, lowered, tiling, elapsed, dtype)
        issued = issued_macs(tiling, lowered)
        levels = {"dram": tiling.dram_bytes, "l2": tiling.l2_bytes, "shared": tiling.shared_bytes}
    if lowered.extra:
        _residual(spec, operation, lowered, dtype, parts, levels)
        issued += operation.M * operation.copies * lowered.extra
    repeats = operation.steps
    cycles, causes = whole({cause: value * repeats for cause, value in refreshed(spec, parts).items()})
    moved = {level: int(count * repeats) for level, count in levels.items()}
    issued *= repeats
    shape = f", tile {'x'.join(map(str, tiling.shape))}" if tiling is not None else ""
    return OperationResult(
        operation.name,
        operation.kind,
        cycles,
        causes,
        useful=operation.useful,
        issued=issued,
        peak=max(issued, int(cycles * float(spec.cores) * float(spec.rate(dtype)))),
        bytes=moved,
        joules=joules(spec, dtype, issued, moved, cycles),
        note=lowered.note + shape,
    )


def choose(
    spec: AcceleratorSpec, operation: Operation, dtype: str, *, zeros: bool = False
) -> tuple[Lowered, Tiling | None, Elapsed]:
    """Return the lowering of a product, its fastest tiling, and the analytical time; no tiling if no weight is kept."""
    spec.rate(dtype)
    lowered = lower_dense(operation, dtype) if zeros else lower(spec, operation, dtype)
    if not len(lowered.widths):
        return lowered, None, Elapsed(0, 0)
    cores = int(spec.cores)
    options = [plan(spec, operation, lowered, dtype, shape) for shape in candidates(spec, operation, lowered, dtype)]
    times = [analytical(option, cores) for option in options]
    best = min(range(len(options)), key=lambda index: times[index].total)
    return lowered, options[best], times[best]


def _launch(spec: AcceleratorSpec, lowered: Lowered) -> float:
    """Return the launch cycles: those of the first kernel, and the host's time for each further stream."""
    seconds = float(spec.costs["launch"]) + (lowered.launches - 1) * float(spec.costs["stream launch"])
    return seconds * float(spec.clock)


def _residual(
    spec: AcceleratorSpec,
    operation: Operation,
    lowered: Lowered,
    dtype: str,
    parts: dict[str, float],
    levels: dict[str, Any],
) -> None:
    """Add the kernel that multiplies single weights on the FP32 units and adds to the outputs, reading tokens from L2."""
    rates, size = Rates.of(spec), BYTES[dtype]
    work = operation.M * operation.copies * lowered.extra
    gathered, outputs = work * size, 2 * operation.M * operation.N * operation.copies * size
    fma = work / (float(spec.cores) * float(spec.costs["fma"]))
    lanes = work / (float(spec.cores) * float(spec.rate(dtype)))
    onchip, dram = gathered / rates.l2, outputs / rates.dram
    extra = {"useful": lanes, "issue": max(0.0, fma - lanes), "launch": float(spec.costs["launch"]) * float(spec.clock)}
    extra["on-chip bandwidth"] = max(0.0, onchip - fma)
    extra["bandwidth"] = max(0.0, dram - max(fma, onchip))
    for cause, cycles in extra.items():
        parts[cause] = parts.get(cause, 0.0) + cycles
    levels["l2"] = levels.get("l2", 0) + gathered + outputs
    levels["dram"] = levels.get("dram", 0) + outputs + lowered.extra * (size + 4)
