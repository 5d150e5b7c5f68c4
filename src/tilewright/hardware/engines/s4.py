"""Cycle model of S4 (Yen et al., arXiv 2207.08006): cores of 64 x 64 lanes, banks of 64, packed weights from DRAM.

Rates by sparsity, memory bandwidth and results of whole networks are published; the inside of a core is not. Here a core
holds 64 tokens x 64 outputs. The inputs are cut into banks of 64; in each beat every output takes one kept weight of its
bank and picks the activation at its position, for all 64 tokens at once. A bank in which every output keeps k weights
therefore takes k beats, with k one of 2, 4, 8, 16, 32, 64. A data type at half the rate takes two cycles per beat.

Costs it reads: ``bank``, ``fill`` (cycles added once per operation), ``bubble`` (share of idle cycles), ``index.bits`` of
a position, ``index.mask`` (0: every kept weight carries its position; 1: every bank carries a mask; in between: a
mixture), ``launch``; those of the vector unit are in `vector`.
"""

from ...patterns import NM, Pattern
from ..machine.spec import BYTES, AcceleratorSpec
from ..result import Fidelity, OperationResult
from ..workload import Operation
from . import vector
from .account import Work, account
from .lowering import Tile, Tiling, lower, spread, timed

__all__ = ["kept_per_bank", "run", "step", "stored_bytes"]


def run(spec: AcceleratorSpec, operation: Operation, dtype: str, fidelity: Fidelity = "tiles") -> OperationResult:
    """Return the result of one operation on one chip, by itself.

    Parameters
    ----------
    spec
        A machine whose engine is ``"s4"``.
    operation
        The operation to run.
    dtype
        Data type of weights and activations.
    fidelity
        ``"analytical"`` or ``"tiles"`` (the default).

    Raises
    ------
    ArgumentError
        If the machine lacks a number that this engine needs, or does not multiply the data type.

    Examples
    --------
    >>> from tilewright.hardware import WeightView
    >>> from tilewright.hardware.machine.presets import preset
    >>> from tilewright.patterns import Banked
    >>> weight = WeightView.expected(Banked(16), 1024, 4096)
    >>> sparse = Operation("fc", "linear", M=384, N=1024, K=4096, weight=weight)
    >>> dense = sparse.with_weight(WeightView.dense(1024, 4096))
    >>> s4 = preset("s4")
    >>> 12 < run(s4, dense, "int8").cycles / run(s4, sparse, "int8").cycles < 16
    True
    """
    if not operation.is_product:
        return vector.run(spec, operation, dtype, fidelity)
    rows, columns, bank = int(spec.rows), int(spec.columns), int(spec.costs["bank"])
    kept, note = step(spec, operation, dtype)
    width = rows * columns / float(spec.rate(dtype))  # cycles per beat
    beats = _beats(operation.K, bank, kept)
    # Slots of the step that the pattern does not fill. In a dense run every slot holds a value, possibly zero.
    idle = 0 if kept == bank else beats - _beats(operation.K, bank, kept_per_bank(_pattern(operation), bank))
    period = beats * width * (1 + float(spec.costs["bubble"]))
    tile = Tile(rows, columns, period, period, int(spec.costs["fill"]))
    tiling = spread(operation, rows, columns, int(spec.cores))
    size = BYTES[dtype]
    weights = stored_bytes(spec, operation, kept, size)
    chunks = lower(spec, operation, tiling, tile, weights, size)
    work = _work(operation, tiling, tile, beats, idle, width, size, note)
    return account(spec, operation, dtype, timed(spec, chunks, fidelity), work, chunks.moved)


def kept_per_bank(pattern: Pattern | None, bank: int) -> int:
    """Return the most weights that any bank of an output can keep under a pattern; the whole bank if there is no bound."""
    if not isinstance(pattern, NM):
        return bank
    n, m = pattern.n, pattern.m
    if bank % m == 0:
        return n * bank // m
    if m % bank == 0:
        return min(n, bank)
    return min(bank, n * ((bank - 2) // m + 2))  # groups that a bank can touch


def step(spec: AcceleratorSpec, operation: Operation, dtype: str) -> tuple[int, str]:
    """Return the beats per bank at which the lanes run an operation, and a note that says so."""
    bank = int(spec.costs["bank"])
    pattern = _pattern(operation)
    if operation.weight is None or pattern is None:
        return bank, "dense-dense" if operation.weight is None else "dense"
    most = kept_per_bank(pattern, bank)
    steps = sorted(n * bank // m for n, m in spec.selectors.get(dtype, ()) if n * bank % m == 0)
    kept = next((kept for kept in steps if most <= kept), bank)
    if kept == bank:
        return bank, f"dense: {pattern} may fill a bank of {bank} with {most}"
    return kept, f"{pattern}: {bank // kept}x, {kept} of every {bank}"


def stored_bytes(spec: AcceleratorSpec, operation: Operation, kept: int, size: float) -> float:
    """Return the bytes of an operation's weights in DRAM: values of all slots with positions or masks; dense, values only."""
    if operation.weight is None:
        return 0.0
    bank = int(spec.costs["bank"])
    outputs = operation.N * operation.copies
    if kept == bank:
        return outputs * operation.K * size
    mask = min(1.0, float(spec.costs["index.mask"]))
    bits = (1 - mask) * float(spec.costs["index.bits"]) + mask * bank / kept
    return outputs * _beats(operation.K, bank, kept) * (size + bits / 8)


def _pattern(operation: Operation) -> Pattern | None:
    return None if operation.weight is None else operation.weight.pattern


def _beats(inputs: int, bank: int, kept: int) -> int:
    """Return the beats of K inputs, of which the last bank may be short."""
    return inputs // bank * kept + min(kept, inputs % bank)


def _work(
    operation: Operation, tiling: Tiling, tile: Tile, beats: int, idle: int, width: float, size: float, note: str
) -> Work:
    tiles = tiling.tiles * operation.steps
    balanced = tiles / tiling.cores
    lost = {
        "density step": balanced * idle * width,
        "imbalance": (tiling.turns * operation.steps - balanced) * tile.period,
        "issue": balanced * (tile.period - beats * width),
        "fill and drain": float(operation.steps * tile.tail),
    }
    onchip = {
        # A beat reads one activation for each lane, as outputs pick different positions.
        "activations": tiles * (beats + 1) * tile.rows * tile.columns * size,
        "weights": tiles * beats * tile.columns * size,
    }
    issued = tiles * tile.rows * tile.columns * (beats - idle)
    ran = operation.M * operation.N * operation.copies * operation.steps * (beats - idle)
    return Work(issued, ran, lost, onchip, note)
