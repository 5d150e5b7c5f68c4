"""Thread-block tiles: the cost of one step over K at each level, the number of tiles, and the shape a library would choose."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....errors import ArgumentError
from ...machine.spec import BYTES, AcceleratorSpec, Tile
from ...workload import Operation
from ..memory import dram_bandwidth
from .instructions import issue_cycles
from .lowering import Lowered

__all__ = ["Rates", "Tiling", "candidates", "plan"]

_STAGES = 3
"""Steps whose operands shared memory holds at a time: one being computed, two in flight."""
_FLOAT32 = 4


@dataclass(frozen=True)
class Rates:
    """Bandwidths of a machine's memories in bytes per cycle: shared memory of one core, L2 and DRAM of the chip."""

    shared: float
    l2: float
    dram: float

    @classmethod
    def of(cls, spec: AcceleratorSpec) -> "Rates":
        """Return the bandwidths at the machine's clock."""
        hertz = float(spec.clock)
        return cls(
            float(spec.memory("shared").bandwidth) / hertz,
            float(spec.memory("l2").bandwidth) / hertz,
            dram_bandwidth(spec) / hertz,
        )


@dataclass(frozen=True, eq=False)
class Tiling:
    """A product cut into tiles of one shape. All times are in cycles.

    Parameters
    ----------
    shape
        Tokens, outputs and inputs of a tile; inputs that ``mma.sp`` skips are counted.
    tiles, steps
        Tiles of each group of outputs, and steps over K of each of these tiles, int64 ``[groups]``.
    warps, resident
        Warps of a tile along tokens and outputs, and tiles on a core at a time.
    ideal, issue, shared, l2, dram
        Time of one step by the lanes at their rate, by instruction issue, by shared memory, by L2, and by DRAM (reads,
        and writes if they overlap).
    bare
        The longest of these without fetching positions.
    step
        Time of a whole step: the longest of these, the barrier and the offset list.
    load, store
        Time before the first step of a tile, and after its last.
    dram_bytes, l2_bytes, shared_bytes
        Bytes moved by all tiles.
    """

    shape: Tile
    tiles: NDArray[np.int64]
    steps: NDArray[np.int64]
    warps: tuple[int, int]
    resident: int
    ideal: float
    issue: float
    shared: float
    l2: float
    dram: float
    bare: float
    step: float
    load: int
    store: int
    dram_bytes: float
    l2_bytes: float
    shared_bytes: float

    @property
    def count(self) -> int:
        """Tiles of all groups."""
        return int(self.tiles.sum())

    @property
    def compute(self) -> NDArray[np.int64]:
        """Whole cycles of all steps of a tile, int64 ``[groups]``."""
        return np.asarray(np.ceil(self.steps * self.step - 1e-6), np.int64)

    @property
    def issued(self) -> float:
        """Steps of all tiles."""
        return float((self.tiles * self.steps).sum())

    @property
    def buffers(self) -> int:
        """1 if a tile has its core to itself, 2 if another tile computes while it loads and stores."""
        return min(2, self.resident)


def candidates(spec: AcceleratorSpec, operation: Operation, lowered: Lowered, dtype: str) -> Iterator[Tile]:
    """Yield the tile shapes that the library has for this product; those below 8,192 sums only if larger ones leave cores idle.

    Raises
    ------
    ArgumentError
        If no tile of the machine fits its shared memory.
    """
    sparse = lowered.executed < 1
    area = float(spec.costs["sparse tile"])
    empty = True
    for shape in spec.tiles:
        tile = _depth(shape, dtype, sparse)
        rows, columns = shape[0], shape[1]
        staged = (rows + columns) * tile[2] * BYTES[dtype] * _STAGES * (0.5 if sparse else 1)
        if (sparse and rows * columns != area) or staged > float(spec.memory("shared").size):
            continue
        if not empty and rows * columns < 8192 and _tiles(operation, lowered, (128, 64)).sum() >= int(spec.cores):
            continue
        empty = False
        yield tile
    if empty:
        raise ArgumentError(f"{spec.name} has no tile that fits its shared memory of {spec.memory('shared').size}")


def plan(spec: AcceleratorSpec, operation: Operation, lowered: Lowered, dtype: str, shape: Tile) -> Tiling:
    """Return a product cut into tiles of one shape, with its costs."""
    rows, columns, depth = shape
    rates, size, sparse = Rates.of(spec), BYTES[dtype], lowered.executed < 1
    tiles, steps = _tiles(operation, lowered, shape), -(-lowered.depths // depth)
    warps = _warps(rows, columns)
    resident = max(1, int(float(spec.costs["accumulators"]) // (rows * columns * _FLOAT32)))
    active = min(int(spec.cores), int(tiles.sum()))
    positions = columns * depth * lowered.executed / 4 if sparse else 0.0
    operands = (rows + columns * lowered.executed) * depth * size
    read = (warps[1] * rows + warps[0] * columns * lowered.executed) * depth * size + warps[0] * positions
    total = float((tiles * steps).sum())
    turns = -(-int(tiles.sum()) // int(spec.cores)) * total / float(tiles.sum())  # steps of the fullest core
    reads, writes = _traffic(spec, operation, lowered, size, shape)
    overlapped = reads + (writes if resident > 1 else 0)
    ideal = rows * columns * depth * lowered.executed / float(spec.rate(dtype))
    issue = max(ideal, issue_cycles(spec, dtype, (rows, columns), depth, warps, resident, sparse))
    shared, l2 = (read + operands + positions) / rates.shared, _l2(spec, rates, operands + positions, active)
    dram = overlapped / turns / rates.dram
    bare = max(issue, shared - (warps[0] + 1) * positions / rates.shared, _l2(spec, rates, operands, active), dram)
    listed = float(spec.costs["index"]) if lowered.offsets else 0.0
    full = max(issue, shared, l2, dram)
    output = min(rows, operation.M) * min(columns, int(lowered.widths.max())) * size
    written = writes / (operation.M * float(lowered.widths.sum()) * operation.copies * size)
    store = max(output * written * active / rates.dram, _l2(spec, rates, output, active))
    return Tiling(
        shape, tiles, steps, warps, resident, ideal, issue, shared, l2, dram, bare,
        full + float(spec.costs["step"]) + listed,
        round(float(spec.costs["fill"])), int(np.ceil(store)),
        reads + writes, total * (operands + positions) + float(tiles.sum()) * output, total * (read + operands + positions),
    )  # fmt: skip


def _depth(shape: Tile, dtype: str, sparse: bool) -> Tile:
    """Return the shape with its inputs in a data type: the same bytes along K, and twice the inputs if half are not stored."""
    return shape[0], shape[1], int(shape[2] * 2 / BYTES[dtype]) * (2 if sparse else 1)


def _tiles(operation: Operation, lowered: Lowered, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return the number of tiles of each group over tokens, outputs and copies."""
    return np.asarray(-(-operation.M // shape[0]) * -(-lowered.widths // shape[1]) * operation.copies, np.int64)


def _warps(rows: int, columns: int) -> tuple[int, int]:
    """Return the warps of a tile along rows and columns: one per 64 x 64, but at least 4 in all."""
    along, across = max(1, rows // 64), max(1, columns // 64)
    while along * across < 4:
        if rows // along >= columns // across:
            along *= 2
        else:
            across *= 2
    return along, across


def _l2(spec: AcceleratorSpec, rates: Rates, amount: float, active: int) -> float:
    """Return the cycles in which each active core reads an amount of bytes from L2."""
    return amount * max(active / rates.l2, 1 / float(spec.costs["port"]))


def _traffic(
    spec: AcceleratorSpec, operation: Operation, lowered: Lowered, size: float, shape: Tile
) -> tuple[float, float]:
    """Return the bytes read from and written to DRAM.

    Tiles in flight form a rectangle. An operand is read once for each rectangle along the other operand, or only once if
    it fits half of L2. The library's rasterisation is taken to be the best rectangle whose height is a power of two.
    Inputs that one tile-wise tile drops are kept by another, and pruned outputs are written too, so both count in full.
    """
    half = float(spec.memory("l2").size) / 2
    tokens = (
        operation.reads
        if operation.reads and operation.weight is not None
        else operation.M * operation.K * operation.copies
    )
    left = tokens * size
    right = (lowered.weight_bytes + lowered.index_bytes) * (1 if operation.weight is not None else operation.copies)
    down, across = -(-operation.M // shape[0]), int((-(-lowered.widths // shape[1])).sum())
    flight = int(spec.cores)
    options = []
    height = 1
    while height <= flight:
        width = flight // height
        again_left = 1 if left / operation.copies <= half else -(-across // width)
        again_right = 1 if right / operation.copies <= half else -(-down // height)
        options.append(left * again_left + right * again_right)
        height *= 2
    outputs = operation.writes or operation.M * operation.N * operation.copies
    return min(options), outputs * size
