"""The kernel table: every operation with its arguments, layouts, types, tolerance and implementations.

Dispatch, tests and benchmarks read this table; a new operation starts with an entry here.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from ..errors import ArgumentError
from .arrays import KernelArrays, few_tokens

__all__ = [
    "ACTIVATIONS",
    "MOST_THREADS",
    "OPERATIONS",
    "Activation",
    "Argument",
    "Operation",
    "Tolerance",
    "operation_of",
]

Activation = Literal["none", "relu", "gelu", "gelu_tanh", "silu", "tanh"]
"""Activation applied to x @ w.T + bias. `gelu` is exact (erf), `gelu_tanh` its usual approximation."""

# The index in this tuple is the code that the extension takes.
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)

MOST_THREADS = 1024
"""Maximum number of threads of a call: more than any processor has, and few enough to iterate over."""

COMPILED = ("avx512", "avx2", "generic")


@dataclass(frozen=True)
class Argument:
    """An array of an operation: its name, element type, and layout as named axes."""

    name: str
    dtype: str
    layout: str


@dataclass(frozen=True)
class Tolerance:
    """Maximum deviation from the reference: ``relative`` times the sum of magnitudes of the output.

    The sum of magnitudes of an output is ``|bias| + sum |x| |w|``. A tolerance of 0 means bit-identical.
    """

    relative: float


@dataclass(frozen=True)
class Operation:
    """An entry of the table.

    Parameters
    ----------
    name
        Name used in tests, benchmarks and records.
    does
        Description in one sentence.
    entry
        Public function that runs it. Several operations share `linear`, which selects one by weight and number of tokens.
    arguments, result
        Input arrays and output array.
    tolerance
        Maximum deviation from the reference.
    bound
        The resource that limits every implementation, in words.
    device, dtype
        Where it runs, and the type in which it multiplies.
    implementations
        Instruction sets, best first; the last is the definition in NumPy.
    """

    name: str
    does: str
    entry: str
    arguments: tuple[Argument, ...]
    result: Argument
    tolerance: Tolerance
    bound: str
    device: Literal["cpu"] = "cpu"
    dtype: Literal["float32"] = "float32"
    implementations: tuple[str, ...] = (*COMPILED, "reference")


_X = Argument("x", "float32", "[M, K]")
_Y = Argument("y", "float32", "[M, N]")
_BIAS = Argument("bias", "float32", "[N]")
_WEIGHT = (
    Argument("values", "float32", "[tile][column][output]"),
    Argument("columns", "uint16 | uint32", "[tile][column]"),
    Argument("pointers", "int64", "[tiles + 1]"),
    Argument("rows", "int32", "[stored outputs]"),
)
_RESIDUAL = (
    Argument("residual_values", "float32", "[output][element]"),
    Argument("residual_columns", "uint16 | uint32", "[output][element]"),
    Argument("residual_pointers", "int64", "[N + 1]"),
)
_SUMS = Tolerance(3e-6)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "tiles",
        "Tiles of outputs that share kept columns, more tokens than `small` takes.",
        "linear",
        (_X, *_WEIGHT, *_RESIDUAL, _BIAS),
        _Y,
        _SUMS,
        "multiply-adds: kept elements times tokens, at the rate of `fma_peak`",
    ),
    Operation(
        "nm",
        "n:m along K, every output with its own positions (tile 1), more than 1 token.",
        "linear",
        (_X, *_WEIGHT, _BIAS),
        _Y,
        _SUMS,
        "panel loads: one for each multiply-add, two a cycle from the first-level cache",
    ),
    Operation(
        "rows",
        "Compressed rows of any length (tile 1), more than 1 token.",
        "linear",
        (_X, *_WEIGHT, *_RESIDUAL, _BIAS),
        _Y,
        _SUMS,
        "panel loads: one for each multiply-add, two a cycle from the first-level cache",
    ),
    Operation(
        "small",
        "1 to 8 tokens, 4 when the tile is under 8, 1 when it is 1: a matrix-vector product.",
        "linear",
        (_X, *_WEIGHT, *_RESIDUAL, _BIAS),
        _Y,
        _SUMS,
        "memory: the bytes of the weight, read once",
    ),
    Operation(
        "panels",
        "Any weight, activations in and out as panels of T tokens.",
        "linear_panels",
        (Argument("x", "float32", "[panel][K][T]"), *_WEIGHT, *_RESIDUAL, _BIAS),
        Argument("y", "float32", "[panel][N][T]"),
        _SUMS,
        "that of the weight's kind, without turning activations",
    ),
    Operation(
        "pack",
        "Row-major activations to panels.",
        "pack_panels",
        (_X,),
        Argument("panels", "float32", "[panel][K][T]"),
        Tolerance(0),
        "memory: the activations, read once and written once",
    ),
    Operation(
        "unpack",
        "Panels to row-major activations.",
        "unpack_panels",
        (Argument("panels", "float32", "[panel][K][T]"),),
        Argument("x", "float32", "[M, K]"),
        Tolerance(0),
        "memory: the activations, read once and written once",
    ),
)


_PANELS = Argument("x", "float32", "[panel][feature][T]")
_STARTS = Argument("starts", "int64", "[sequences + 1]")

OPERATIONS += (
    Operation(
        "norm",
        "Layer norm or RMS norm over the features of each token, a residual added first where there is one.",
        "norm_panels",
        (_PANELS, Argument("residual", "float32", "[panel][feature][T]"), Argument("scale", "float32", "[feature]")),
        Argument("y", "float32", "[panel][feature][T]"),
        Tolerance(2e-6),
        "memory: three passes over the panel, which stays in the second-level cache",
    ),
    Operation(
        "attention",
        "Attention over sequences that follow one another without padding, softmax block by block.",
        "attention_panels",
        (
            Argument("q", "float32", "[panel][head x depth][T]"),
            Argument("k", "float32", "[panel][key head x depth][T]"),
            Argument("v", "float32", "[panel][key head x depth][T]"),
            _STARTS,
        ),
        Argument("y", "float32", "[panel][head x depth][T]"),
        Tolerance(4e-6),
        "multiply-adds: twice tokens times keys times features, and one exponential a score",
    ),
    Operation(
        "embed",
        "The sum of one row of each table for every token.",
        "embed_panels",
        (Argument("tables", "float32", "[row][feature]"), Argument("ids", "int64", "[table][token]")),
        Argument("y", "float32", "[panel][feature][T]"),
        Tolerance(3e-7),
        "memory: the rows that are read",
    ),
    Operation(
        "pool",
        "The mean over each sequence's tokens, or its first token.",
        "pool_panels",
        (_PANELS, _STARTS),
        Argument("y", "float32", "[sequence][feature]"),
        _SUMS,
        "memory: the activations, read once",
    ),
)


def operation_of(arrays: KernelArrays, tokens: int) -> Operation:
    """Return the operation that `linear` runs for this weight and number of tokens."""
    if tokens <= few_tokens(arrays.tile):
        name = "small"
    elif arrays.tile > 1:
        name = "tiles"
    else:
        name = "nm" if arrays.m else "rows"
    return next(o for o in OPERATIONS if o.name == name)


def activation_code(activation: str) -> int:
    """Return the code of an activation for the extension.

    Raises
    ------
    ArgumentError
        If the activation is unknown.
    """
    for code, name in enumerate(ACTIVATIONS):
        if name == activation:
            return code
    raise ArgumentError(f"unknown activation {activation!r}; expected one of {', '.join(ACTIVATIONS)}")
