"""The definition of each operation in plain NumPy, accumulating in float64. Slow and simple: all others are checked against it.

A pruned weight is absent, not zero: a NaN or infinity in x reaches exactly the outputs that keep its column.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .arrays import KernelArrays

__all__ = [
    "attention_panels",
    "embed_panels",
    "linear",
    "linear_panels",
    "magnitude",
    "norm_panels",
    "pack_panels",
    "pool_panels",
    "unpack_panels",
]

_erf = np.vectorize(math.erf, otypes=[np.float64])

_ACTIVATE: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "none": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "gelu": lambda z: 0.5 * z * (1 + _erf(z / math.sqrt(2))),
    "gelu_tanh": lambda z: 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
    "silu": lambda z: 0.5 * z * (1 + np.tanh(z / 2)),
    "tanh": np.tanh,
}


def _sums(
    x: NDArray[np.float64], w: KernelArrays, bias: NDArray[np.float64] | None, absolute: bool
) -> NDArray[np.float64]:
    """Return x @ w.T + bias ``[M, N]``; with `absolute`, for the magnitudes of the weight."""
    size = np.abs if absolute else np.asarray
    y = np.zeros((len(x), w.N)) + (0 if bias is None else bias)
    values, done = w.values.astype(np.float64), 0
    rows = np.arange(w.N) if w.rows is None else w.rows
    for t, first in enumerate(range(0, w.stored, w.tile)):
        outputs = rows[first : first + w.tile]
        columns = w.columns[w.pointers[t] : w.pointers[t + 1]]
        block = values[done : done + len(columns) * len(outputs)].reshape(len(columns), len(outputs))
        done += block.size
        y[:, outputs] += x[:, columns] @ size(block)
    if w.residual_pointers is not None and w.residual_columns is not None and w.residual_values is not None:
        for n in range(w.N):
            kept = slice(w.residual_pointers[n], w.residual_pointers[n + 1])
            y[:, n] += x[:, w.residual_columns[kept]] @ size(w.residual_values[kept].astype(np.float64))
    return y


def linear(
    x: NDArray[np.float32], w: KernelArrays, bias: NDArray[np.float32] | None, activation: str
) -> NDArray[np.float32]:
    """Return activation(x @ w.T + bias) ``[M, N]``; an output without weights is activation(bias)."""
    with np.errstate(invalid="ignore", over="ignore"):
        sums = _sums(x.astype(np.float64), w, None if bias is None else bias.astype(np.float64), absolute=False)
        return _ACTIVATE[activation](sums).astype(np.float32)


def magnitude(x: NDArray[np.float32], w: KernelArrays, bias: NDArray[np.float32] | None) -> NDArray[np.float64]:
    """Return |bias| + sum |x| |w| ``[M, N]``, the scale for rounding errors of `linear`."""
    return _sums(
        np.abs(x.astype(np.float64)), w, None if bias is None else np.abs(bias.astype(np.float64)), absolute=True
    )


def pack_panels(x: NDArray[np.float32], T: int) -> NDArray[np.float32]:
    """Return x ``[M, K]`` as panels ``[ceil(M / T), K, T]``; tokens beyond M are zero."""
    M, K = x.shape
    padded = np.zeros((-(-M // T) * T, K), dtype=np.float32)
    padded[:M] = x
    return np.ascontiguousarray(padded.reshape(-1, T, K).transpose(0, 2, 1))


def unpack_panels(panels: NDArray[np.float32], M: int) -> NDArray[np.float32]:
    """Return panels ``[P, K, T]`` as x ``[M, K]``."""
    return np.ascontiguousarray(panels.transpose(0, 2, 1).reshape(-1, panels.shape[1])[:M])


def linear_panels(
    x: NDArray[np.float32], w: KernelArrays, M: int, bias: NDArray[np.float32] | None, activation: str
) -> NDArray[np.float32]:
    """Return the result of `linear` as panels ``[P, N, T]``, for M tokens given as panels ``[P, K, T]``."""
    return pack_panels(linear(unpack_panels(x, M), w, bias, activation), x.shape[2])


def norm_panels(
    x: NDArray[np.float32],
    scale: NDArray[np.float32],
    shift: NDArray[np.float32] | None,
    residual: NDArray[np.float32] | None,
    epsilon: float,
    centred: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the panels ``[P, F, T]`` normalised over F for every token, and the panels x + residual before normalisation."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        total = x.astype(np.float64) if residual is None else x.astype(np.float64) + residual
        left = total - total.mean(axis=1, keepdims=True) if centred else total
        root = np.sqrt((left**2).mean(axis=1, keepdims=True) + epsilon)
        y = left / root * scale[:, None] + (0 if shift is None else shift[:, None])
        return y.astype(np.float32), total.astype(np.float32)


def attention_panels(
    q: NDArray[np.float32],
    k: NDArray[np.float32],
    v: NDArray[np.float32],
    starts: NDArray[np.int64],
    heads: int,
    key_heads: int,
    causal: bool,
    scale: float,
) -> NDArray[np.float32]:
    """Return ``softmax(scale * q k.T) v`` for each head and sequence, as panels ``[P, heads * depth, T]``.

    Head h reads the keys and values of head ``h // (heads / key_heads)``; with `causal`, queries do not attend to later keys.
    """
    tokens, depth, T = int(starts[-1]), q.shape[1] // heads, q.shape[2]
    queries, keys, values = (
        unpack_panels(panels, tokens).astype(np.float64).reshape(tokens, panels.shape[1] // depth, depth)
        for panels in (q, k, v)
    )
    y = np.zeros((tokens, heads, depth))
    for begin, end in pairwise(starts):
        for head in range(heads):
            shared = head // (heads // key_heads)
            scores = scale * (queries[begin:end, head] @ keys[begin:end, shared].T)
            if causal:
                scores[np.triu_indices(end - begin, 1)] = -np.inf
            weights = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
            y[begin:end, head] = weights / weights.sum(axis=1, keepdims=True) @ values[begin:end, shared]
    return pack_panels(y.reshape(tokens, heads * depth).astype(np.float32), T)


def embed_panels(tables: Sequence[NDArray[np.float32]], ids: NDArray[np.int64], T: int) -> NDArray[np.float32]:
    """Return the sum of one row of each table for every token, as panels; row i of `ids` ``[tables, tokens]`` belongs to table i."""
    rows = np.sum([table[row].astype(np.float64) for table, row in zip(tables, ids, strict=True)], axis=0)
    return pack_panels(rows.astype(np.float32), T)


def pool_panels(panels: NDArray[np.float32], starts: NDArray[np.int64], mean: bool) -> NDArray[np.float32]:
    """Return the mean of each sequence's tokens, or its first token: ``[sequences, F]``."""
    rows = unpack_panels(panels, int(starts[-1])).astype(np.float64)
    spans = [rows[begin:end] if mean else rows[begin : begin + 1] for begin, end in pairwise(starts)]
    return np.array([span.mean(axis=0) for span in spans], dtype=np.float32)
