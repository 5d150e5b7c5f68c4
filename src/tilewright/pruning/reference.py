"""Definition of the second-order update in NumPy and float64, without shortcuts. For small cases only."""

from collections.abc import Iterable
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["best_nm", "least_squares", "remove", "sweep"]

Array = NDArray[Any]


def least_squares(target: Array, inputs: Array, mask: NDArray[np.bool_]) -> Array:
    """Return the weights ``[N, K]``, zero off the mask, whose outputs on ``inputs [M, K]`` are closest to those of `target`."""
    weights = np.zeros(target.shape)
    for n, columns in enumerate(mask):
        if columns.any():
            weights[n, columns] = np.linalg.lstsq(inputs[:, columns], inputs @ target[n], rcond=None)[0]
    return weights


def best_nm(target: Array, inputs: Array, n: int, m: int) -> tuple[Array, float]:
    """Return the best n:m weights ``[K]`` of one output and their squared error, found by trying every mask."""
    starts = range(0, len(target), m)
    choices = [combinations(range(s, min(s + m, len(target))), min(n, len(target) - s)) for s in starts]
    best: tuple[Array, float] = (np.zeros(len(target)), np.inf)
    for kept in product(*choices):
        mask = np.zeros((1, len(target)), dtype=np.bool_)
        mask[0, [k for group in kept for k in group]] = True
        weights = least_squares(target[None], inputs, mask)[0]
        error = float(np.sum((inputs @ (weights - target)) ** 2))
        if error < best[1]:
            best = (weights, error)
    return best


def remove(weights: Array, hessian: Array, free: Iterable[int], index: int) -> tuple[Array, float]:
    """Zero one element of ``[K]`` and adjust the elements in `free` to compensate; return the weights and the added error.

    This is the optimal brain surgeon: ``w - w_i / [F^-1]_ii * F^-1 e_i`` and ``w_i**2 / [F^-1]_ii``, with F the Hessian of the free
    elements and of element i.
    """
    adjusted = sorted({*free, index})
    inverse = np.linalg.inv(hessian[np.ix_(adjusted, adjusted)])
    position = adjusted.index(index)
    moved = weights.copy()
    moved[adjusted] -= weights[index] / inverse[position, position] * inverse[position]
    moved[index] = 0.0
    return moved, float(weights[index] ** 2 / inverse[position, position])


def sweep(weights: Array, hessian: Array, n: int, m: int, tile: int = 1) -> tuple[Array, NDArray[np.bool_]]:
    """Prune ``[N, K]`` to n:m input by input, with a separate inverse for each; the blocked sweep must give the same result."""
    work, kept = weights.astype(np.float64), np.zeros(weights.shape, dtype=np.bool_)
    inputs = weights.shape[1]
    for j in range(inputs):
        if j % m == 0:
            group = np.arange(j, min(j + m, inputs))
            # [F^-1]_kk of each element once all elements before it, including those of its group, are fixed.
            pivots = np.array([np.linalg.inv(hessian[k:, k:])[0, 0] for k in group])
            saliency = work[:, group] ** 2 / pivots
            for top in range(0, len(work), tile):
                order = np.argsort(-saliency[top : top + tile].sum(axis=0), kind="stable")
                kept[top : top + tile, group[order[:n]]] = True
        for row in np.flatnonzero(~kept[:, j]):
            work[row], _ = remove(work[row], hessian, range(j + 1, inputs), j)
    return work, kept
