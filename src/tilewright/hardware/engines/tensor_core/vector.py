"""Vector operations on a GPU: kernels that read and write DRAM at its bandwidth."""

from ...machine.spec import BYTES, AcceleratorSpec
from ...result import OperationResult
from ...workload import Operation
from ..memory import refreshed
from .account import joules, whole
from .tiling import Rates

__all__ = ["run_vector"]


def run_vector(spec: AcceleratorSpec, operation: Operation, dtype: str) -> OperationResult:
    """Return the result of a softmax, norm, element-wise operation, pooling, embedding or move, by itself.

    Every operand is read from DRAM and every result written to it. With the cost ``fused`` at 1, an element-wise
    operation is the epilogue of the product before it: there is no launch, and only operands beyond one of the size of
    the result are read.
    """
    fused = operation.kind == "elementwise" and float(spec.costs["fused"]) >= 1
    elements = max(0, operation.reads - operation.writes) if fused else operation.reads + operation.writes
    moved = elements * BYTES[dtype]
    launch = 0.0 if fused else float(spec.costs["launch"]) * float(spec.clock)
    cycles, causes = whole(refreshed(spec, {"vector": moved / Rates.of(spec).dram, "launch": launch}, "vector"))
    levels = {"dram": int(moved), "l2": int(moved)}
    note = "in the epilogue of the product before it" if fused else "a kernel of its own"
    return OperationResult(
        operation.name,
        operation.kind,
        cycles,
        causes,
        bytes=levels,
        joules=joules(spec, dtype, 0, levels, cycles),
        note=note,
    )
