"""From an operation to the stream of tiles that an array works through: shared by the STA-like array and S4.

An array core takes tiles of `rows` tokens by `columns` outputs. Tiles that share outputs follow each other (a *unit*: one block of
outputs of one copy), so that its weights are fetched once. Cores stand side by side along outputs, along tokens, or both, whichever is
sooner done. Tiles are grouped into *chunks*, the steps of `tilewright.hardware.schedule`: what DRAM brings for one chunk arrives while
the lanes work on the chunk before.

Where activations live is decided for each operation alone: on chip when what it reads and writes fits the memory ``activations``, else in
DRAM. Then half of that memory holds the tokens in work and half those to come; weights come again for each such block of tokens unless
all of them fit the memory ``weights``. Of products of two activations the largest of the three matrices, scores or probabilities, never
leaves the chip as long as those of one copy fit.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError
from ..machine.spec import AcceleratorSpec
from ..result import Fidelity
from ..schedule import Timing, events
from ..workload import Operation
from .memory import dram_bandwidth

__all__ = ["Chunks", "Tile", "Tiling", "lower", "spread", "timed"]

MOST_CHUNKS = 8192
"""More than these are merged: the result moves by less than a cycle in a thousand, and a layer stays within milliseconds."""

SMOOTH = 64
"""Chunks that an operation with activations in DRAM is cut into at least, as far as it has tiles."""


@dataclass(frozen=True)
class Tile:
    """One tile on one core.

    Parameters
    ----------
    rows, columns
        Tokens and outputs.
    first, period
        Cycles from its start to the next tile's: of the first tile, and of one that follows another.
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
    """Tiles of an operation over the cores of a chip.

    Parameters
    ----------
    rows
        Tiles along the tokens of one step.
    units
        Blocks of outputs, times copies.
    cores, split
        Cores, and how many of them share the tokens; the others share the units.
    """

    rows: int
    units: int
    cores: int
    split: int

    @property
    def core_rows(self) -> int:
        """Tile rows of the busiest core."""
        return -(-self.rows // self.split)

    @property
    def core_units(self) -> int:
        """Units of the busiest core."""
        return -(-self.units // (self.cores // self.split))

    @property
    def turns(self) -> int:
        """Tiles that the busiest core works through in a step."""
        return self.core_rows * self.core_units

    @property
    def tiles(self) -> int:
        """Tiles of a step, all cores."""
        return self.rows * self.units


@dataclass(frozen=True)
class Chunks:
    """A stream of chunks: DRAM bytes and lane cycles of each, in order."""

    load: NDArray[np.float64]
    compute: NDArray[np.float64]
    store: NDArray[np.float64]
    ahead: float
    buffers: int

    @property
    def moved(self) -> int:
        """Bytes through DRAM."""
        return math.ceil(float(self.load.sum() + self.store.sum()) + self.ahead)


def spread(operation: Operation, rows: int, columns: int, cores: int) -> Tiling:
    """Return the tiling whose busiest core has least to do; of equals the one that shares tokens least."""
    tall = -(-operation.M // rows)
    units = operation.copies * -(-operation.N // columns)
    ways = [Tiling(tall, units, cores, split) for split in range(1, cores + 1) if cores % split == 0]
    return min(ways, key=lambda way: (way.turns, way.split))


def lower(
    spec: AcceleratorSpec, operation: Operation, tiling: Tiling, tile: Tile, weights: float, size: float
) -> Chunks:
    """Return the chunks of an operation.

    Parameters
    ----------
    spec, operation
        Machine and product.
    tiling, tile
        How many tiles there are, and what each takes.
    weights
        Bytes of all its weights as they are stored; 0 for products of activations.
    size
        Bytes of an activation.

    Raises
    ------
    ArgumentError
        If the memory ``activations`` does not hold the results of one tile.
    """
    if tile.rows * tile.columns * size > _room(spec, "activations"):
        raise ArgumentError(
            f"{spec.name}: memories.activations.size is {_room(spec, 'activations'):,.0f} bytes, and the results of one tile of {tile.rows} x "
            f"{tile.columns} take {tile.rows * tile.columns * size:,.0f}; nothing fits on the chip"
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
    units = np.diff(_cuts(tiling.core_units, -(-tiling.core_units // merge)))  # units in each merged one
    per_step = blocks // operation.steps * groups
    tall = np.tile(np.diff(_cuts(tiling.core_rows, per_step)), operation.steps).reshape(blocks, groups)
    compute = tile.period * tall[:, None, :] * units[None, :, None]
    compute[0, 0, 0] -= tile.period - tile.first
    each_step = blocks // operation.steps
    compute[each_step - 1 :: each_step, -1, -1] += tile.tail  # steps wait for each other, so each empties the array
    load, ahead = _loads(compute, units * unit, inputs, bool(weights), reload=weights > room)
    share = compute / compute.sum()
    return Chunks(load.ravel(), compute.ravel(), (outputs * share).ravel(), ahead, 2 if 2 * unit <= room else 1)


def timed(spec: AcceleratorSpec, chunks: Chunks, fidelity: Fidelity) -> Timing:
    """Return when the chunks are done.

    ``"tiles"`` follows chunk by chunk. ``"analytical"`` takes the longest of a family of ways through loads and computations, a lower
    bound that needs no loop. Results go out over the same DRAM as operands come in: those of chunk i - 2 before the operands of chunk i.
    """
    if fidelity not in ("tiles", "analytical"):
        raise ArgumentError(f"an engine runs at fidelity 'analytical' or 'tiles', and {fidelity!r} was given")
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
    """Return the longest way through loads and computations of a stream with two buffers, of those that switch few times.

    Computation k ends no sooner than the load of any chunk up to k and all computations from there to k; the load of chunk k no sooner
    than the computation of any chunk j + 2 <= k, and all loads from j + 2 to k. Each round lets ways switch to DRAM once more.
    """
    loaded, computed = np.cumsum(load), np.cumsum(compute)
    wait = np.zeros_like(loaded)  # of loads, beyond the sum of all before
    done = computed
    for _ in range(rounds):
        done = computed + np.maximum.accumulate(wait + loaded - computed + compute)
        wait[2:] = np.maximum(0, np.maximum.accumulate(done[:-2] - loaded[1:-1]))
    return int(done[-1])


def _loads(
    compute: NDArray[np.float64], unit: NDArray[np.float64], inputs: float, weighted: bool, *, reload: bool
) -> tuple[NDArray[np.float64], float]:
    """Return the bytes that must have come before each chunk, and those that come ahead of the next operation.

    An operation's first unit of weights is fetched while the operation before runs, so an operation pays for it at its end, on behalf
    of the next one.
    """
    blocks, units, groups = compute.shape
    load = np.zeros((blocks * units, groups))
    passes = blocks if reload else 1
    wanted = np.zeros(blocks * units)
    wanted[: passes * units] = np.tile(unit, passes)
    if groups == 1:
        load[1:, 0], ahead = wanted[1:], float(wanted[0])
    else:  # while the unit before runs
        load, ahead = load + np.roll(wanted, -1)[:, None] / groups, 0.0
    load = load.reshape(compute.shape)
    if not inputs:
        return load, ahead
    if not weighted or (blocks == 1 and units == 1):
        return load + inputs * compute / compute.sum(), ahead
    tall = compute[:, 0, :] / compute[:, 0, :].sum()
    load[0, 0] += (
        inputs * tall[0]
    )  # tokens of the first block as they are used, of later ones while the block before runs
    for block in range(1, blocks):
        load[block - 1] += inputs * tall[block].sum() / (units * groups)
    return load, ahead


def _blocks(spec: AcceleratorSpec, operation: Operation, tiling: Tiling, inputs: float, *, tight: bool) -> int:
    """Return how many blocks of tokens a step is cut into. Weights of one unit that do not fit the chip come anew for each row of tiles."""
    if tight:
        return tiling.core_rows
    if not inputs or operation.weight is None or operation.steps > 1:
        return 1
    rows = max(1, int(_room(spec, "activations") / 2 // (inputs / tiling.core_rows)))
    return -(-tiling.core_rows // rows)


def _dram_activations(spec: AcceleratorSpec, operation: Operation, size: float) -> tuple[float, float]:
    """Return the bytes of activations that an operation fetches from and leaves in DRAM."""
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
    """Round to whole cycles so that every partial sum is rounded up, and none by a cycle or more."""
    edges = np.ceil(np.cumsum(values) - 1e-6).astype(np.int64)
    return np.diff(edges, prepend=0)
