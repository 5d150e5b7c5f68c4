"""The vector unit beside an array: softmax, norms, element-wise functions, pooling, look-ups and moves.

::

    cycles = launch + latency + max(ceil(passes x elements / lanes), DRAM bytes / DRAM bytes a cycle)

Costs it reads from a machine:

``vector.lanes``
    Elements a cycle that all vector units of a chip take together.
``vector.latency``
    Cycles from the first element to the first result.
``vector.<function>``
    Passes over the elements: ``vector.softmax``, ``vector.layer_norm``, ``vector.gelu``, ``vector.add``, ... A function that is not
    listed takes ``vector.default``, or one pass.
``overlap.<function>``, ``overlap.default``
    The share of the function, from 0 to 1, that runs while the lanes work on the product beside it: the vector unit takes the
    elements as the array gives them. What then remains visible is in `exposed`.

An overlapped function causes no traffic of its own. Others go through DRAM when what they read and write does not fit the memory
``activations``, or when the machine has none.
"""

import math

from ...errors import ArgumentError
from ..quantity import Quantity
from ..result import Fidelity, OperationResult
from ..spec import BYTES, AcceleratorSpec
from ..workload import Operation

__all__ = ["elements", "exposed", "overlap", "run"]

_READERS = ("softmax", "norm", "pool")
"""Kinds that take a cycle for each element they read; the others for each they write."""


def run(spec: AcceleratorSpec, operation: Operation, dtype: str, fidelity: Fidelity = "tiles") -> OperationResult:
    """Return the time of one vector operation, alone.

    Parameters
    ----------
    spec, operation, dtype
        Machine, one operation that is no product, and the type of its elements.
    fidelity
        Taken for the sake of a common signature: the closed form is exact for a stream of elements.

    Raises
    ------
    ArgumentError
        If the operation is a product or the machine states no vector lanes.
    """
    if operation.is_product:
        raise ArgumentError(
            f"{operation.name} is a {operation.kind}: products run on the lanes, not on the vector unit"
        )
    lanes = float(_cost(spec, "vector.lanes"))
    clock = float(spec.clock)
    count = elements(operation)
    name = operation.function or operation.kind
    passes = next((float(spec.costs[key]) for key in (f"vector.{name}", "vector.default") if key in spec.costs), 1.0)
    work = math.ceil(passes * count / lanes)
    size = BYTES[dtype]
    moved = 0 if _on_chip(spec, operation, size) else math.ceil((operation.reads + operation.writes) * size)
    transfer = math.ceil(moved * clock / dram_bandwidth(spec))
    latency = int(spec.costs["vector.latency"]) if "vector.latency" in spec.costs else 0
    launch = launch_cycles(spec)
    busy = work + latency if count else 0
    waiting = max(0, transfer - work) if count else 0
    cycles = launch + busy + waiting
    joules = {
        "vector": passes * count * _joules(spec, "vector"),
        "dram": moved * _joules(spec, "byte.dram"),
        "static": cycles / clock * _joules(spec, "static"),
    }
    causes = {"vector": busy, "bandwidth": waiting, "launch": launch}
    return OperationResult(
        operation.name,
        operation.kind,
        cycles,
        {cause: value for cause, value in causes.items() if value},
        bytes={"dram": moved} if moved else {},
        joules={part: value for part, value in joules.items() if value},
        peak=0,
        note=f"{passes:g} passes"
        + (f", {overlap(spec, operation):.0%} beside the lanes" if overlap(spec, operation) else ""),
    )


def elements(operation: Operation) -> int:
    """Return how many elements the vector unit works through."""
    return max(operation.reads, operation.writes) if operation.kind in _READERS else operation.writes


def overlap(spec: AcceleratorSpec, operation: Operation) -> float:
    """Return the share of a vector operation that can run while the lanes work; 0 for products."""
    if operation.is_product:
        return 0.0
    name = operation.function or operation.kind
    for key in (f"overlap.{name}", "overlap.default"):
        if key in spec.costs:
            return min(1.0, float(spec.costs[key]))
    return 0.0


def exposed(spec: AcceleratorSpec, operation: Operation, cycles: int, product: int) -> int:
    """Return the cycles of a vector operation that stay visible beside a product.

    Parameters
    ----------
    spec, operation
        Machine and vector operation.
    cycles
        Of the operation alone.
    product
        Cycles of the lanes that it may hide behind and that no other operation has used.

    Returns
    -------
    int
        ``cycles - min(overlap x cycles, product)``.
    """
    return cycles - min(int(overlap(spec, operation) * cycles), product)


def dram_bandwidth(spec: AcceleratorSpec) -> float:
    """Return the bytes a second that long streams get from a chip's DRAM."""
    share = 1.0 if spec.dram.efficiency is None else float(spec.dram.efficiency)
    return float(spec.dram.bandwidth) * spec.dram.instances * share


def launch_cycles(spec: AcceleratorSpec) -> int:
    """Return the cycles that starting an operation takes."""
    return math.ceil(float(spec.costs["launch"]) * float(spec.clock)) if "launch" in spec.costs else 0


def _on_chip(spec: AcceleratorSpec, operation: Operation, size: float) -> bool:
    if overlap(spec, operation) > 0:
        return True
    room = sum(float(memory.size) * memory.instances for memory in spec.memories if memory.name == "activations")
    return (operation.reads + operation.writes) * size <= room


def _cost(spec: AcceleratorSpec, name: str) -> Quantity:
    if name not in spec.costs:
        raise ArgumentError(f"{spec.name}: costs has no {name}, which its vector unit needs; give elements a cycle")
    return spec.costs[name]


def _joules(spec: AcceleratorSpec, name: str) -> float:
    return float(spec.energy[name]) if name in spec.energy else 0.0
