"""INT8 x INT8 -> INT32: the products that lanes behind m-to-1 selectors compute.

`by_beats` steps through the engine literally and is the definition; `sparse_dense` and `dense_dense` return the same
integers at the speed of a matrix product.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError, PatternError
from ...formats import Packed
from ...patterns import NM
from .requantise import quantise

__all__ = ["K_LIMIT", "IntegerWeight", "by_beats", "dense_dense", "sparse_dense"]

INT32 = (1 << 31) - 1
K_LIMIT = INT32 // (128 * 128)
"""How many products an accumulator holds whatever their values: 131,071, as each is at most 2**14."""

_FLOAT32_LIMIT = (1 << 24) // (128 * 128)


@dataclass(frozen=True, eq=False)
class IntegerWeight:
    """A weight ``[N, K]`` as the engine holds it: n slots for every m inputs, each with an int8 value and its position.

    Parameters
    ----------
    n, m
        Slots per group, and inputs that they select from. ``n == m`` is dense: the selector is bypassed, and slot s takes
        input s.
    inputs
        K. The last group is short if m does not divide it.
    values
        int8 ``[N, groups, n]``; 0 for empty slots.
    positions
        uint16 ``[N, groups, n]``, below m and ascending among the slots in use; 0 for empty slots.
    scale
        float64 ``[N]``: real weight = value * scale.

    Raises
    ------
    ArgumentError
        If the shapes do not match, or a position lies outside its group.
    """

    n: int
    m: int
    inputs: int
    values: NDArray[np.int8]
    positions: NDArray[np.uint16]
    scale: NDArray[np.float64]

    def __post_init__(self) -> None:
        groups = -(-self.inputs // self.m)
        expected = (len(self.values), groups, self.n)
        if self.values.dtype != np.int8 or self.values.shape != expected or self.positions.shape != expected:
            raise ArgumentError(
                f"values and positions of a {self.n}:{self.m} weight of {self.inputs} inputs must be [N, {groups}, {self.n}], and are "
                f"{self.values.dtype} {list(self.values.shape)} and {list(self.positions.shape)}"
            )
        used = self.values != 0
        inside = np.minimum(self.m, self.inputs - np.arange(groups) * self.m)[None, :, None]
        if (self.positions >= np.where(used, inside, self.m)).any():
            raise ArgumentError(f"a position points outside its group of {self.m}, or beyond input {self.inputs - 1}")
        where = np.where(used, self.positions.astype(np.int32), -1)
        if (used[..., 1:] & (where[..., 1:] <= np.maximum.accumulate(where, axis=2)[..., :-1])).any():
            raise ArgumentError("the positions of a group must rise: each slot selects an input of its own")
        if self.scale.shape != (len(self.values),):
            raise ArgumentError(f"a weight of {len(self.values)} outputs has that many scales, and {self.scale.shape}")

    @property
    def outputs(self) -> int:
        """N."""
        return len(self.values)

    @property
    def slots(self) -> int:
        """Products for one output of one token: groups x n, empty slots included."""
        return int(self.values.shape[1]) * self.n

    @classmethod
    def of(cls, packed: Packed) -> "IntegerWeight":
        """Return a packed n:m weight quantised symmetrically to int8, with one scale per output.

        Raises
        ------
        PatternError
            If the pattern is not n:m.
        """
        pattern = packed.pattern
        if not isinstance(pattern, NM):
            raise PatternError(
                f"the selectors of the engine take n:m, and the weight is {pattern}; unpack it and use IntegerWeight.dense"
            )
        return cls._of(_real(packed), packed.mask(), pattern.n, pattern.m)

    @classmethod
    def dense(cls, weight: NDArray[Any], m: int = 4) -> "IntegerWeight":
        """Return a dense real weight ``[N, K]`` in int8, in groups of m inputs with the selectors bypassed."""
        matrix = np.asarray(weight, dtype=np.float64)
        return cls._of(matrix, np.ones(matrix.shape, dtype=np.bool_), m, m)

    @classmethod
    def _of(cls, weight: NDArray[np.float64], mask: NDArray[np.bool_], n: int, m: int) -> "IntegerWeight":
        outputs, inputs = weight.shape
        groups = -(-inputs // m)
        held = quantise(weight, axis=0)
        values = np.zeros((outputs, groups, n), dtype=np.int8)
        positions = np.zeros((outputs, groups, n), dtype=np.uint16)
        row, column = np.nonzero(mask)
        group = column // m
        # The slot of an element is its rank among the kept elements of its group.
        rank = np.cumsum(mask, axis=1)[row, column] - 1
        before = np.concatenate([np.zeros((outputs, 1), dtype=np.int64), np.cumsum(mask, axis=1)], axis=1)
        slot = rank - before[row, group * m]
        values[row, group, slot] = held.values[row, column]
        positions[row, group, slot] = column % m
        return cls(n, m, inputs, values, positions, held.scale)

    def matrix(self) -> NDArray[np.int8]:
        """Return the integers as a dense matrix, int8 ``[N, K]``."""
        groups = self.values.shape[1]
        dense = np.zeros((self.outputs, groups, self.m), dtype=np.int8)
        row, group, slot = np.nonzero(self.values)
        dense[row, group, self.positions[row, group, slot]] = self.values[row, group, slot]
        return dense.reshape(self.outputs, groups * self.m)[:, : self.inputs]


def by_beats(x: NDArray[np.int8], weight: IntegerWeight, bias: NDArray[Any] | None = None) -> NDArray[np.int32]:
    """Return ``x @ weight.T + bias`` as the engine steps through it; slow, and the definition of the other two products.

    In each beat, the m activations of a group are presented to a row of lanes (0 beyond K). The selector of each lane
    picks one of them by position; the lane multiplies it by its value and adds the product to its accumulator, which
    starts at the bias.

    Parameters
    ----------
    x
        Activations, int8 ``[M, K]``.
    weight
        The weight; dense weights take the same path, with positions 0, 1, ..., m - 1.
    bias
        int32 ``[N]``. Default: None, for zeros.

    Returns
    -------
    ndarray
        int32 ``[M, N]``.
    """
    _check(x, weight.inputs, weight.slots, bias)
    result = np.zeros((len(x), weight.outputs), dtype=np.int32)
    for token in range(len(x)):
        for output in range(weight.outputs):
            accumulator = 0 if bias is None else int(bias[output])
            for group in range(weight.values.shape[1]):
                first = group * weight.m
                front = [int(x[token, k]) if k < weight.inputs else 0 for k in range(first, first + weight.m)]
                for slot in range(weight.n):
                    selected = front[int(weight.positions[output, group, slot])]
                    accumulator += selected * int(weight.values[output, group, slot])
            result[token, output] = accumulator  # NumPy refuses what does not fit
    return result


def sparse_dense(x: NDArray[np.int8], weight: IntegerWeight, bias: NDArray[Any] | None = None) -> NDArray[np.int32]:
    """Return ``x @ weight.T + bias``, int32 ``[M, N]``, equal to `by_beats` but fast.

    Parameters
    ----------
    x, weight, bias
        As for `by_beats`.

    Raises
    ------
    ArgumentError
        If a type or shape is wrong, or the sums could overflow int32.

    Examples
    --------
    >>> w = IntegerWeight.dense(np.eye(2, 3))
    >>> sparse_dense(np.array([[1, -128, 3]], dtype=np.int8), w, np.array([5, 0])).tolist()
    [[132, -16256]]
    """
    _check(x, weight.inputs, weight.slots, bias)
    sums = _exact(x, weight.matrix().T, weight.slots)
    return (sums if bias is None else sums + np.asarray(bias, dtype=np.int64)).astype(np.int32)


def dense_dense(a: NDArray[np.int8], b: NDArray[np.int8]) -> NDArray[np.int32]:
    """Return ``a @ b``, int32 ``[..., M, N]``: the products of attention, with the selectors bypassed.

    Parameters
    ----------
    a, b
        int8 ``[..., M, K]`` and ``[..., K, N]``.

    Raises
    ------
    ArgumentError
        If an operand is not int8, or the inner sides differ or exceed `K_LIMIT`.
    """
    if b.dtype != np.int8 or b.ndim < 2:
        raise ArgumentError(f"the second operand must be an int8 matrix, and is {b.dtype} {list(b.shape)}")
    _check(a, b.shape[-2], b.shape[-2], None)
    return _exact(a, b, b.shape[-2]).astype(np.int32)


def _exact(a: NDArray[np.int8], b: NDArray[np.int8], terms: int) -> NDArray[np.int64]:
    """Return the integer product, computed in floats wide enough for every partial sum to be exact."""
    kind = np.float32 if terms <= _FLOAT32_LIMIT else np.float64
    result: NDArray[np.int64] = np.matmul(a.astype(kind), b.astype(kind)).astype(np.int64)
    return result


def _check(x: NDArray[np.int8], inputs: int, terms: int, bias: NDArray[Any] | None) -> None:
    if x.dtype != np.int8 or x.ndim < 2 or x.shape[-1] != inputs:
        raise ArgumentError(f"activations must be int8 [M, {inputs}], and are {x.dtype} {list(x.shape)}")
    peak = 0 if bias is None or not len(bias) else int(np.abs(np.asarray(bias, dtype=np.int64)).max())
    if terms * 128 * 128 + peak > INT32:
        raise ArgumentError(
            f"{terms} products of int8 and a bias of up to {peak} can overflow an int32 accumulator: without a bias "
            f"{K_LIMIT} products always fit; split K and add the parts in software"
        )


def _real(packed: Packed) -> NDArray[np.float64]:
    dense = packed.unpack()
    if packed.dtype == "bfloat16":
        dense = (dense.astype(np.uint32) << 16).view(np.float32)
    return dense.astype(np.float64)
