"""From an operation to the stream of tiles that an array works through; shared by the STA-like array and S4.

A core works on tiles of `rows` tokens by `columns` outputs. Tiles that share outputs (a *unit*: one block of outputs of
one copy) follow each other, so that the weights of a unit are fetched once. Cores split the outputs, the tokens, or both,
whichever is fastest. Tiles are grouped into *chunks*, the steps of `tilewright.hardware.schedule`: DRAM delivers the
operands of one chunk while the lanes work on the chunk before.

Where activations live is decided for each operation separately: on chip if what it reads and writes fits the memory
``activations``, else in DRAM. In DRAM, half of that memory holds the tokens being worked on and half the next ones, and
weights are fetched again for each such block of tokens unless all of them fit the memory ``weights``. In products of two
activations, the largest of the three matrices (scores or probabilities) stays on chip if those of one copy fit.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError, unknown
from ..machine.spec import AcceleratorSpec
from ..result import Fidelity
from ..schedule import Timing, events
from ..workload import Operation
from .memory import dram_bandwidth

__all__ = ["Chunks", "Tile", "Tiling", "lower", "spread", "timed"]

MOST_CHUNKS = 8192
"""Chunks beyond this number are merged, which changes the result by less than 0.1% and keeps a layer within milliseconds."""

SMOOTH = 64
"""Minimum number of chunks for an operation with activations in DRAM, as far as it has tiles."""


@dataclass(frozen=True)
class Tile:
    """One tile on one core.

    Parameters
    ----------
    rows, columns
        Tokens and outputs.
    first, period
        Cycles from its start to the start of the next tile, for the first tile and for any other.
    tail
        Cycles from the end of the last tile's period until its last result is out.
    """

    rows: int
    columns: int
    first: float
    period: float
    tail: int


@dataclass(frozen=True)
class Tiling:
    """The tiles of an operation on the cores of a chip.

    Parameters
    ----------
    rows
        Number of tiles along the tokens of one step.
    units
        Number of blocks of outputs, times copies.
    cores
        Number of cores.
    split
        Number of parts that the tokens are split into; the units are split into ``cores / split`` parts.
    """

    rows: int
    units: int
    cores: int
    split: int

    @property
    def core_rows(self) -> int:
        """Rows of tiles of the busiest core."""
        return -(-self.rows // self.split)

    @property
    def core_units(self) -> int:
        """Units of the busiest core."""
        return -(-self.units // (self.cores // self.split))

    @property
    def turns(self) -> int:
        """Tiles of the busiest core in one step."""
        return self.core_rows * self.core_units

    @property
    def tiles(self) -> int:
        """Tiles of all cores in one step."""
        return self.rows * self.units


@dataclass(frozen=True)
class Chunks:
    """A stream of chunks in order.

    Parameters
    ----------
    load, store
        DRAM bytes read and written by each chunk, float64 ``[chunks]``.
    compute
        Lane cycles of each chunk, float64 ``[chunks]``.
    ahead
        DRAM bytes fetched ahead for the next operation.
    buffers
        Number of buffers for chunks.
    """

    load: NDArray[np.float64]
    compute: NDArray[np.float64]
    store: NDArray[np.float64]
    ahead: float
    buffers: int

    @property
    def moved(self) -> int:
        """DRAM bytes read and written."""
        return math.ceil(float(self.load.sum() + self.store.sum()) + self.ahead)


def spread(operation: Operation, rows: int, columns: int, cores: int) -> Tiling:
    """Return the tiling whose busiest core has the fewest tiles; of equals, the one that splits tokens least."""
    tall = -(-operation.M // rows)
    units = operation.copies * -(-operation.N // columns)
    tilings = [Tiling(tall, units, cores, split) for split in range(1, cores + 1) if cores % split == 0]
    return min(tilings, key=lambda tiling: (tiling.turns, tiling.split))


def lower(
    spec: AcceleratorSpec, operation: Operation, tiling: Tiling, tile: Tile, weights: float, size: float
) -> Chunks:
    """Return the chunks of an operation.

    Parameters
    ----------
    spec, operation
        The machine and the product.
    tiling, tile
        The tiles of the product, and the cycles of one tile.
    weights
        Bytes of all its weights as stored; 0 for products of activations.
    size
        Bytes of one activation.

    Raises
    ------
    ArgumentError
        If the results of one tile do not fit the memory ``activations``.
    """
    if tile.rows * tile.columns * size > _room(spec, "activations"):
        raise ArgumentError(
            f"{spec.name}: memories.activations.size is {_room(spec, 'activations'):,.0f} bytes, but the results of one tile of "
            f"{tile.rows} x {tile.columns} take {tile.rows * tile.columns * size:,.0f}; use a larger memory"
        )
    inputs, outputs = _dram_activations(spec, operation, size)
    room = _room(spec, "weights")
    unit = weights / tiling.core_units
    blocks = _blocks(spec, operation, tiling, inputs, tight=unit > room)
    groups = 1
    if inputs + outputs > 0:
        groups = max(1, min(tiling.core_rows // blocks, -(-SMOOTH // (blocks * tiling.core_units))))
    blocks *= operation.steps
    merge = max(1, -(-blocks * groups * tiling.core_units // MOST_CHUNKS))
    units = np.diff(_cuts(tiling.core_units, -(-tiling.core_units // merge)))  # number of units merged into one
    per_step = blocks // operation.steps * groups
    tall = np.tile(np.diff(_cuts(tiling.core_rows, per_step)), operation.steps).reshape(blocks, groups)
    compute = tile.period * tall[:, None, :] * units[None, :, None]
    compute[0, 0, 0] -= tile.period - tile.first
    each_step = blocks // operation.steps
    compute[each_step - 1 :: each_step, -1, -1] += (
        tile.tail
    )  # steps depend on each other, so each one empties the array
    load, ahead = _loads(compute, units * unit, inputs, bool(weights), reload=weights > room)
    share = compute / compute.sum()
    return Chunks(load.ravel(), compute.ravel(), (outputs * share).ravel(), ahead, 2 if 2 * unit <= room else 1)


def timed(spec: AcceleratorSpec, chunks: Chunks, fidelity: Fidelity) -> Timing:
    """Return the timing of a stream of chunks.

    ``"tiles"`` follows chunk by chunk. ``"analytical"`` takes the longest of a family of paths through loads and
    computations, a lower bound that needs no loop. Results share the DRAM with operands: those of chunk i - 2 are written
    before the operands of chunk i are read.
    """
    if fidelity not in ("tiles", "analytical"):
        raise ArgumentError(unknown("fidelity", fidelity, ("analytical", "tiles")))
    rate = dram_bandwidth(spec) / float(spec.clock)
    compute = np.append(_whole(chunks.compute), 0)
    traffic = np.append(chunks.load, chunks.ahead)
    traffic[2:] += chunks.store[:-1]
    load = _whole(traffic / rate)
    store = np.zeros_like(load)
    store[-1:] = math.ceil(chunks.store[-1] / rate)
    if not load.any() and not store.any():
        return Timing(int(compute.sum()), int(compute.sum()), 0, 0, 0)
    if fidelity == "tiles":
        return events(load, compute, store, chunks.buffers)
    busy = int(compute.sum())
    ready = int(load.sum()) + busy if chunks.buffers == 1 else _latest(load, compute)
    return Timing(ready + int(store[-1]), busy, ready - busy, 0, int(store[-1]))


def _latest(load: NDArray[np.int64], compute: NDArray[np.int64], rounds: int = 3) -> int:
    """Return the longest path through the loads and computations of a stream with two buffers that switches few times.

    Computation k ends no earlier than the load of any chunk j <= k plus all computations from j to k; the load of chunk k
    ends no earlier than the computation of any chunk j with j + 2 <= k plus all loads from j + 2 to k. Each round allows
    paths one more switch to DRAM.
    """
    loaded, computed = np.cumsum(load), np.cumsum(compute)
    wait = np.zeros_like(loaded)  # delay of each load beyond the sum of all loads before it
    ends = computed
    for _ in range(rounds):
        ends = computed + np.maximum.accumulate(wait + loaded - computed + compute)
        wait[2:] = np.maximum(0, np.maximum.accumulate(ends[:-2] - loaded[1:-1]))
    return int(ends[-1])


def _loads(
    compute: NDArray[np.float64], unit: NDArray[np.float64], inputs: float, weighted: bool, *, reload: bool
) -> tuple[NDArray[np.float64], float]:
    """Return the bytes that must arrive before each chunk, and those fetched ahead for the next operation.

    The first unit of weights of an operation is fetched while the operation before runs. So each operation pays for one
    such fetch at its end, on behalf of the next one.
    """
    blocks, units, groups = compute.shape
    load = np.zeros((blocks * units, groups))
    passes = blocks if reload else 1
    weights = np.zeros(blocks * units)
    weights[: passes * units] = np.tile(unit, passes)
    if groups == 1:
        load[1:, 0], ahead = weights[1:], float(weights[0])
    else:  # spread over the groups of the unit before
        load, ahead = load + np.roll(weights, -1)[:, None] / groups, 0.0
    load = load.reshape(compute.shape)
    if not inputs:
        return load, ahead
    if not weighted or (blocks == 1 and units == 1):
        return load + inputs * compute / compute.sum(), ahead
    tall = compute[:, 0, :] / compute[:, 0, :].sum()
    # Tokens of the first block arrive as they are used, those of later blocks while the block before runs.
    load[0, 0] += inputs * tall[0]
    for block in range(1, blocks):
        load[block - 1] += inputs * tall[block].sum() / (units * groups)
    return load, ahead


def _blocks(spec: AcceleratorSpec, operation: Operation, tiling: Tiling, inputs: float, *, tight: bool) -> int:
    """Return the number of blocks of tokens in a step; if one unit of weights does not fit the chip, one per row of tiles."""
    if tight:
        return tiling.core_rows
    if not inputs or operation.weight is None or operation.steps > 1:
        return 1
    rows = max(1, int(_room(spec, "activations") / 2 // (inputs / tiling.core_rows)))
    return -(-tiling.core_rows // rows)


def _dram_activations(spec: AcceleratorSpec, operation: Operation, size: float) -> tuple[float, float]:
    """Return the bytes of activations that an operation reads from and writes to DRAM."""
    room = _room(spec, "activations")
    many = operation.copies * operation.steps
    left, right, result = (
        size * x for x in (operation.M * operation.K, operation.N * operation.K, operation.M * operation.N)
    )
    if operation.weight is not None:
        reads = operation.reads * size or left * many
        writes = operation.writes * size or result * many
        return (0.0, 0.0) if reads + writes <= room else (reads, writes)
    if left + right + result > room:
        return (left + right) * many, result * many
    stays = max(left, right, result)
    reads, writes = (left + right, 0.0) if stays == result else (left + right - stays, result)
    return (0.0, 0.0) if (reads + writes) * many <= room else (reads * many, writes * many)


def _room(spec: AcceleratorSpec, name: str) -> float:
    memory = spec.memory(name)
    return float(memory.size) * memory.instances


def _cuts(total: int, parts: int) -> NDArray[np.int64]:
    return np.arange(parts + 1, dtype=np.int64) * total // parts


def _whole(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return whole cycles, rounded so that every partial sum is rounded up, by less than a cycle."""
    edges = np.ceil(np.cumsum(values) - 1e-6).astype(np.int64)
    return np.diff(edges, prepend=0)
