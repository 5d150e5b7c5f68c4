"""Cycle model of the STA-like engine (Fang et al., arXiv 2208.06118): sparse-dense and dense-dense products on one array.

It is called STA-like because array size, buffers and data flow of the paper's engine are not public. `sta_tile` has the
array as specified here, and docs/explanation/sta-model.md derives its closed forms. (The systolic tensor array of Liu et
al., CAL 2020, is another machine of the same name.)

Costs it reads: ``lanes`` and ``window`` of a processing element, ``index`` (bitmap bits that a column decodes per cycle),
``launch``; those of the vector unit are in `vector`.
"""

from dataclasses import replace

from ...errors import ArgumentError
from ...patterns import NM
from ..machine.spec import BYTES, AcceleratorSpec
from ..result import Fidelity, OperationResult
from ..workload import Operation
from . import vector
from .account import Work, account
from .lowering import Tile, Tiling, lower, spread, timed
from .sta_tile import Array, Word, dense_word, issue, sparse_word, stream

__all__ = ["array_of", "mode", "run", "stored_bytes"]


def run(spec: AcceleratorSpec, operation: Operation, dtype: str, fidelity: Fidelity = "tiles") -> OperationResult:
    """Return the result of one operation on one chip, by itself.

    Parameters
    ----------
    spec
        A machine whose engine is ``"sta"``.
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
    >>> from tilewright.hardware.machine.presets import preset
    >>> result = run(preset("sta"), Operation("scores", "matmul", M=128, N=128, K=64, copies=12), "int16")
    >>> result.cycles == sum(result.causes.values()), result.useful <= result.issued <= result.peak
    (True, True)
    """
    if not operation.is_product:
        return vector.run(spec, operation, dtype, fidelity)
    array = array_of(spec, dtype)
    word, note = mode(spec, array, operation, dtype)
    operation = _turned(operation, array, int(spec.cores))
    words = word.count(operation.K)
    tiling = spread(operation, array.rows, array.columns, int(spec.cores))
    first = sum(issue(word, words))
    tile = Tile(array.rows, array.columns, first, max(first, array.rows), stream(array, word, words, 1).tail)
    size = BYTES[dtype]
    weights = stored_bytes(operation, word, size)
    chunks = lower(spec, operation, tiling, tile, weights, size)
    work = _work(operation, array, word, words, tiling, tile, size)
    return account(spec, operation, dtype, timed(spec, chunks, fidelity), replace(work, note=note), chunks.moved)


def array_of(spec: AcceleratorSpec, dtype: str) -> Array:
    """Return the array of a machine.

    Raises
    ------
    ArgumentError
        If a size is missing, or the rate of the data type is not rows x columns x lanes.
    """
    sizes = {}
    for name, what in (
        ("lanes", "multipliers per element"),
        ("window", "inputs of a selector"),
        ("index", "bitmap bits decoded per cycle"),
    ):
        if name not in spec.costs:
            raise ArgumentError(f"{spec.name}: costs has no {name} ({what}), which the sta engine needs")
        sizes[name] = int(spec.costs[name])
    array = Array(int(spec.rows), int(spec.columns), sizes["lanes"], sizes["window"], sizes["index"])
    if int(spec.rate(dtype)) != array.macs:
        raise ArgumentError(
            f"{spec.name}: macs.{dtype} is {float(spec.rate(dtype)):g} per cycle and core, but an array of {array.rows} x "
            f"{array.columns} elements with {array.lanes} multipliers makes {array.macs}"
        )
    return array


def mode(spec: AcceleratorSpec, array: Array, operation: Operation, dtype: str) -> tuple[Word, str]:
    """Return the word in which the array takes an operation's weights, and a note that says so."""
    dense = dense_word(array)
    if operation.weight is None:
        return dense, "dense-dense"
    pattern = operation.weight.pattern
    if pattern is None:
        return dense, "dense"
    if not isinstance(pattern, NM) or (pattern.n, pattern.m) not in spec.selectors.get(dtype, ()):
        return dense, f"dense: the selectors do not take {pattern}"
    word = sparse_word(array, pattern.n, pattern.m)
    if word.activations <= max(word.beats, word.decode) * dense.activations:
        return dense, f"dense: {pattern} would take as many cycles"
    return word, f"{pattern}: {word.activations} inputs in {word.beats} beat{'s' if word.beats > 1 else ''}"


def stored_bytes(operation: Operation, word: Word, size: float) -> float:
    """Return the bytes of an operation's weights in DRAM: one bit per position and the kept values; dense, all values.

    Groups are stored whole, the last one padded: ``N x groups x (m / 8 + n x size)``.
    """
    if operation.weight is None:
        return 0.0
    outputs = operation.N * operation.copies
    pattern = operation.weight.pattern
    if not word.decode or not isinstance(pattern, NM):
        return outputs * operation.K * size
    return outputs * -(-operation.K // pattern.m) * (pattern.m / 8 + pattern.n * size)


def _turned(operation: Operation, array: Array, cores: int) -> Operation:
    """Return a product of activations with the operand at the rows that takes fewer tiles; other products as they are."""
    if operation.weight is not None:
        return operation
    transposed = replace(operation, M=operation.N, N=operation.M)
    turns = [spread(o, array.rows, array.columns, cores).turns for o in (operation, transposed)]
    return operation if turns[0] <= turns[1] else transposed


def _work(operation: Operation, array: Array, word: Word, words: int, tiling: Tiling, tile: Tile, size: float) -> Work:
    steps, tiles = operation.steps, tiling.tiles * operation.steps
    turns = tiling.turns * steps
    busy, index = issue(word, words)
    balanced = tiles / tiling.cores
    idle = words * (word.beats * array.lanes - word.slots) / array.lanes
    lost = {
        "density step": balanced * idle,
        "index": balanced * index,
        "imbalance": (turns - balanced) * tile.period,
        "fill and drain": (turns - 1) * (tile.period - busy - index) * balanced / turns + steps * tile.tail,
    }
    bitmap = word.activations / 8 if word.decode else 0.0
    onchip = {
        "activations": tiles * (array.rows * words * word.activations + array.rows * array.columns) * size,
        "weights": tiles * array.columns * words * (word.slots * size + bitmap),
    }
    issued = tiles * array.rows * array.columns * words * word.slots
    return Work(issued, _ran(operation, word), lost, onchip)


def _ran(operation: Operation, word: Word) -> int:
    """Return the multiply-accumulates of real tokens, outputs and inputs, zeros included if the array runs dense."""
    pattern = None if operation.weight is None else operation.weight.pattern
    if not word.decode or not isinstance(pattern, NM):
        return operation.macs
    whole, rest = divmod(operation.K, pattern.m)
    slots = whole * pattern.n + min(pattern.n, rest)
    return operation.M * operation.N * operation.copies * operation.steps * slots
