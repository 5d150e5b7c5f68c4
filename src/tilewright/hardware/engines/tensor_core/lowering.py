"""What a GPU runs for a product: one or several kernels, each on a part of the weight, with ``mma`` or ``mma.sp``."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....patterns import NM, Block, TileElementWise, TileVectorWise, TileWise
from ...machine.spec import BYTES, AcceleratorSpec
from ...workload import Operation, WeightView

__all__ = ["Lowered", "contains", "lower", "lower_dense"]


@dataclass(frozen=True, eq=False)
class Lowered:
    """A product as the GPU runs it: groups of outputs, each a dense or 2:4 product with its own inputs.

    Parameters
    ----------
    widths, depths
        Outputs and inputs of each group, int64 ``[groups]``; inputs that ``mma.sp`` skips are counted.
    executed
        Share of the inputs that the lanes multiply: n / m with ``mma.sp``, else 1.
    launches
        Number of kernels launched.
    offsets
        True if operands are loaded through a list of offsets.
    extra
        Number of single weights that a kernel on the FP32 units handles afterwards.
    weight_bytes, index_bytes
        Bytes of stored values, and of positions of any kind.
    note
        What ran, or why it ran dense.
    """

    widths: NDArray[np.int64]
    depths: NDArray[np.int64]
    executed: float
    launches: int
    offsets: bool
    extra: int
    weight_bytes: float
    index_bytes: float
    note: str


def lower(spec: AcceleratorSpec, operation: Operation, dtype: str) -> Lowered:
    """Return how the machine runs a product with the pattern of its weight."""
    view = operation.weight
    pattern = view.pattern if view is not None else None
    size = BYTES[dtype]
    if view is None or pattern is None:
        return _whole(operation, size, 1.0, "dense")
    match pattern:
        case NM() if pattern.n == pattern.m:
            return _whole(operation, size, 1.0, "dense")
        case NM():
            step, why = _step(spec, dtype, pattern)
            if step is None:
                return _whole(operation, size, 1.0, f"dense: {why}")
            ran = f"{step[0]}:{step[1]}" + ("" if step == (pattern.n, pattern.m) else f", which holds {pattern}")
            return _whole(operation, size, step[0] / step[1], ran)
        case TileVectorWise():
            step, why = _step(spec, dtype, pattern.inner)
            inside = f"{step[0]}:{step[1]} inside" if step else f"dense inside: {why}"
            share = step[0] / step[1] if step else 1.0
            return _tiles(view, size, share, streams=True, note=f"{pattern}, a kernel for each tile, {inside}")
        case TileWise() | TileElementWise():
            return _tiles(view, size, 1.0, streams=True, note=f"{pattern}, a kernel for each tile")
        case Block():
            return _tiles(view, size, 1.0, streams=False, note=f"{pattern}, kept blocks dense in one kernel")
        case _:
            return _whole(operation, size, 1.0, f"dense: the lanes have no path for {pattern}")


def lower_dense(operation: Operation, dtype: str) -> Lowered:
    """Return the dense kernel for a product, pruned weights included."""
    return _whole(operation, BYTES[dtype], 1.0, "dense")


def contains(outer: tuple[int, int], inner: NM) -> bool:
    """Return True if every mask of the inner pattern also obeys the outer n:m.

    Examples
    --------
    >>> contains((2, 4), NM(1, 4)), contains((2, 4), NM(2, 8)), contains((2, 4), NM(4, 8))
    (True, True, False)
    """
    n, m = outer
    if m % inner.m == 0:
        return inner.n * (m // inner.m) <= n
    if inner.m % m == 0:
        return min(inner.n, m) <= n
    return min(m, 2 * inner.n) <= n  # a window of m <= inner.m touches at most two groups


def _step(spec: AcceleratorSpec, dtype: str, pattern: NM) -> tuple[tuple[int, int] | None, str]:
    """Return the n:m that the selectors run a pattern at, or None and the reason."""
    steps = sorted(spec.selectors.get(dtype, ()), key=lambda step: step[0] / step[1])
    if not steps:
        return None, f"{spec.name} has no selectors for {dtype}"
    if dtype == "int4":
        return None, f"the selectors take int4 in pairs, which {pattern} does not promise"
    for step in steps:
        if contains(step, pattern):
            return step, ""
    return None, f"{pattern} does not fit into {', '.join(f'{n}:{m}' for n, m in steps)}, which the selectors pick"


def _whole(operation: Operation, size: float, executed: float, note: str) -> Lowered:
    """Return one kernel over the whole weight; ``mma.sp`` adds 2 bits per kept value."""
    stored = operation.N * operation.K * executed
    positions = stored / 4 if executed < 1 else 0.0
    return Lowered(
        np.array([operation.N]), np.array([operation.K]), executed, 1, False, 0, stored * size, positions, note
    )


def _tiles(view: WeightView, size: float, executed: float, *, streams: bool, note: str) -> Lowered:
    """Return one product per non-empty tile of the weight, with lists of 4-byte offsets, and 2 bits per value of 2:4."""
    full = (view.counts > 0) & (view.widths > 0)
    widths, depths = view.widths[full], view.counts[full]
    stored = float((widths * depths).sum()) * executed
    positions = 4.0 * float(depths.sum() + (view.rows if view.rows < view.shape[0] else 0))
    positions += stored / 4 if executed < 1 else 0.0
    launches = max(1, len(widths)) if streams else 1
    return Lowered(widths, depths, executed, launches, True, view.extra, stored * size, positions, note)
