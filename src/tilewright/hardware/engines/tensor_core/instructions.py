"""The matrix instructions of Volta, Turing and Ampere, and the cycles of the lanes for a step over K with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ...machine.spec import AcceleratorSpec

__all__ = ["INSTRUCTIONS", "SUBCORES", "Instruction", "available", "issue_cycles"]

SUBCORES = 4
"""Schedulers per core, each with an equal share of the lanes."""


@dataclass(frozen=True)
class Instruction:
    """One warp-wide matrix instruction.

    Parameters
    ----------
    capability
        Lowest compute capability that has it.
    shape
        Rows, columns and inputs, with skipped inputs counted.
    sparse
        True for ``mma.sp``, for which half of the inputs of one operand are stored. Default: False.
    small
        True for a sparse instruction with half the inputs, which does not reach the full rate on some machines. Default:
        False.
    """

    capability: float
    shape: tuple[int, int, int]
    sparse: bool = False
    small: bool = False


def _ampere(k: int) -> tuple[Instruction, ...]:
    """Return the dense and sparse instructions of a data type whose largest dense instruction takes k inputs."""
    return (
        Instruction(8.0, (16, 8, k)),
        Instruction(8.0, (16, 8, k // 2)),
        Instruction(8.0, (16, 8, 2 * k), sparse=True),
        Instruction(8.0, (16, 8, k), sparse=True, small=True),
    )


INSTRUCTIONS: Mapping[str, tuple[Instruction, ...]] = MappingProxyType(
    {
        "float16": (Instruction(7.0, (16, 16, 4)), Instruction(7.5, (16, 8, 8)), *_ampere(16)),
        "bfloat16": _ampere(16),
        "tf32": _ampere(8),
        "int8": (Instruction(7.5, (8, 8, 16)), *_ampere(32)),
        "int4": (Instruction(7.5, (8, 8, 32)), *_ampere(64)),
        "float32": (Instruction(0.0, (8, 4, 1)),),
    }
)
"""Instructions by data type, from PTX ISA and CUTLASS ``mma_sparse_sm80.h``.

Volta's is the four quad pairs of ``m8n8k4``; that of float32 is the FMA of a warp.
"""


def available(spec: AcceleratorSpec, dtype: str, sparse: bool) -> tuple[Instruction, ...]:
    """Return the instructions of the machine's generation, which are those of the highest capability that it has."""
    reached = [
        i for i in INSTRUCTIONS[dtype] if i.sparse == sparse and i.capability <= float(spec.costs["capability"]) + 1e-9
    ]
    newest = max((i.capability for i in reached), default=0.0)
    return tuple(i for i in reached if i.capability == newest)


def issue_cycles(
    spec: AcceleratorSpec,
    dtype: str,
    tile: tuple[int, int],
    depth: int,
    warps: tuple[int, int],
    resident: int,
    sparse: bool,
) -> float:
    """Return the cycles in which the lanes of a core work through one step over K of a tile.

    Each scheduler issues the instructions of its warps one after another. An instruction occupies the lanes for its
    initiation interval, and a chain of sums waits for the latency unless other chains fill it: all fragments of the
    resident warps are independent.

    Parameters
    ----------
    spec, dtype
        The machine and the data type.
    tile
        Rows and columns of the tile of a thread block.
    depth
        Inputs of the step, zeros included.
    warps
        Warps along rows and columns.
    resident
        Tiles on a core at a time.
    sparse
        Whether ``mma.sp`` is used.
    """
    rows, columns = tile[0] / warps[0], tile[1] / warps[1]
    per_scheduler = warps[0] * warps[1] / SUBCORES
    best = float("inf")
    for instruction in available(spec, dtype, sparse):
        m, n, k = instruction.shape
        fragments = -(-rows // m) * -(-columns // n)
        rate = float(spec.rate(dtype)) / SUBCORES * (float(spec.costs["small sparse"]) if instruction.small else 1)
        interval = m * n * k * (0.5 if sparse else 1) / rate
        chains = fragments * max(1.0, per_scheduler * resident)
        waiting = max(1.0, float(spec.costs["latency"]) / (interval * chains))
        best = min(best, -(-depth // k) * fragments * max(1.0, per_scheduler) * interval * waiting)
    return best
