"""What each operation means, in plain NumPy, accumulating in float64. Slow on purpose; every other implementation answers to it.

A pruned weight is absent, not zero: a NaN or infinity in x reaches exactly the outputs that keep its column.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .arrays import KernelArrays

__all__ = ["linear", "linear_panels", "magnitude", "pack_panels", "unpack_panels"]

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
    """Return x @ w.T + bias ``[M, N]``; with `absolute`, of the magnitudes of the weight."""
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
    """Return |bias| + sum |x| |w| ``[M, N]``: the scale that rounding errors of `linear` are measured on."""
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
    """Return `linear` on panels ``[P, K, T]`` of M tokens as panels ``[P, N, T]``."""
    return pack_panels(linear(unpack_panels(x, M), w, bias, activation), x.shape[2])
