"""The vector unit next to an array: softmax, norms, element-wise functions, pooling, look-ups and moves.

::

    cycles = launch + latency + max(ceil(passes x elements / lanes), DRAM bytes / DRAM bytes per cycle)

Costs it reads from a machine:

``vector.lanes``
    Elements per cycle of all vector units of a chip together.
``vector.latency``
    Cycles from the first element to the first result.
``vector.<function>``
    Passes over the elements: ``vector.softmax``, ``vector.layer_norm``, ``vector.gelu``, ``vector.add``, ... Default:
    ``vector.default``, or one pass. A function of 0 passes is applied as results leave the lanes and takes no time.
``overlap.<function>``, ``overlap.default``
    The share of the function, from 0 to 1, that can run while the lanes work on a neighbouring product: the vector unit
    takes the elements as the array delivers them. `visible` computes the time that is left.
``overlap.carry``
    0: a function hides behind the product before it and the product after it; 1: behind any product, as several samples
    are in flight.

An overlapped function causes no DRAM traffic. Others go through DRAM if what they read and write does not fit the memory
``activations``, or if the machine has no such memory.
"""

import bisect
import math
from collections.abc import Sequence

from ...errors import ArgumentError
from ..machine.spec import BYTES, AcceleratorSpec
from ..quantity import Quantity
from ..result import Fidelity, OperationResult
from ..workload import Operation
from .memory import dram_bandwidth, refreshed

__all__ = ["elements", "launch_cycles", "overlap", "run", "visible"]

_READERS = ("softmax", "norm", "pool")
"""Kinds whose work is counted in elements read; that of the others is counted in elements written."""


def run(spec: AcceleratorSpec, operation: Operation, dtype: str, fidelity: Fidelity = "tiles") -> OperationResult:
    """Return the result of one vector operation, by itself.

    Parameters
    ----------
    spec
        The machine.
    operation
        An operation that is not a product.
    dtype
        Data type of its elements.
    fidelity
        Ignored; present so that all engines have one signature. The closed form is exact for a stream of elements.

    Raises
    ------
    ArgumentError
        If the operation is a product, or the machine has no ``vector.lanes``.
    """
    if operation.is_product:
        raise ArgumentError(
            f"{operation.name} is a {operation.kind}; products run on the lanes, not on the vector unit"
        )
    lanes = float(_cost(spec, "vector.lanes"))
    clock = float(spec.clock)
    count = elements(operation)
    name = operation.function or operation.kind
    passes = next((float(spec.costs[key]) for key in (f"vector.{name}", "vector.default") if key in spec.costs), 1.0)
    work = math.ceil(passes * count / lanes)
    size = BYTES[dtype]
    moved = (
        0 if passes == 0 or _on_chip(spec, operation, size) else math.ceil((operation.reads + operation.writes) * size)
    )
    transfer = math.ceil(moved * clock / dram_bandwidth(spec))
    latency = int(spec.costs["vector.latency"]) if "vector.latency" in spec.costs else 0
    launch = launch_cycles(spec) if passes else 0
    busy = work + latency if count and passes else 0
    waiting = max(0, transfer - work) if count else 0
    cycles = launch + busy + waiting
    joules = {
        "vector": passes * count * _joules(spec, "vector"),
        "dram": moved * _joules(spec, "byte.dram"),
        "static": cycles / clock * _joules(spec, "static"),
    }
    causes = refreshed(spec, {"vector": busy, "bandwidth": waiting, "launch": launch})
    return OperationResult(
        operation.name,
        operation.kind,
        cycles,
        {cause: value for cause, value in causes.items() if value},
        bytes={"dram": moved} if moved else {},
        joules={part: value for part, value in joules.items() if value},
        peak=0,
        note=_note(passes, overlap(spec, operation)),
    )


def elements(operation: Operation) -> int:
    """Return the number of elements that the vector unit works through."""
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


def visible(spec: AcceleratorSpec, operations: Sequence[Operation], cycles: Sequence[int]) -> list[int]:
    """Return the visible cycles of each operation in a run, in which vector work hides behind products.

    Parameters
    ----------
    spec
        The machine.
    operations
        The operations in the order they run.
    cycles
        Cycles of each operation by itself.

    Returns
    -------
    list of int
        Products keep their cycles. A vector operation keeps ``cycles - hidden``, where `hidden` is at most its share
        `overlap` and at most what is left of the products it may hide behind: no cycle of a product hides two of the
        vector unit.
    """
    left = [count if operation.is_product else 0 for operation, count in zip(operations, cycles, strict=True)]
    products = [index for index, operation in enumerate(operations) if operation.is_product]
    carry = "overlap.carry" in spec.costs and float(spec.costs["overlap.carry"]) > 0
    shown = list(cycles)
    pool = sum(left)
    for index, operation in enumerate(operations):
        wish = int(overlap(spec, operation) * cycles[index])
        if not wish:
            continue
        if carry:
            hidden = min(wish, pool)
            pool -= hidden
            shown[index] -= hidden
            continue
        place = bisect.bisect(products, index)
        for product in products[max(0, place - 1) : place + 1]:
            hidden = min(wish, left[product])
            wish -= hidden
            left[product] -= hidden
            shown[index] -= hidden
    return shown


def launch_cycles(spec: AcceleratorSpec) -> int:
    """Return the cycles that starting an operation takes."""
    return math.ceil(float(spec.costs["launch"]) * float(spec.clock)) if "launch" in spec.costs else 0


def _on_chip(spec: AcceleratorSpec, operation: Operation, size: float) -> bool:
    if overlap(spec, operation) > 0:
        return True
    room = sum(float(memory.size) * memory.instances for memory in spec.memories if memory.name == "activations")
    return (operation.reads + operation.writes) * size <= room


def _note(passes: float, share: float) -> str:
    if not passes:
        return "as results leave the lanes"
    return f"{passes:g} pass{'es' if passes != 1 else ''}" + (
        f", {share:.0%} overlapped with the lanes" if share else ""
    )


def _cost(spec: AcceleratorSpec, name: str) -> Quantity:
    if name not in spec.costs:
        raise ArgumentError(
            f"{spec.name}: costs has no {name}, which its vector unit needs; set it to elements per cycle"
        )
    return spec.costs[name]


def _joules(spec: AcceleratorSpec, name: str) -> float:
    return float(spec.energy[name]) if name in spec.energy else 0.0
