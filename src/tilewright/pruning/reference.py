"""What the second-order update means, in NumPy and float64, without any of its shortcuts. For small cases only."""

from collections.abc import Iterable
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["best_nm", "least_squares", "remove", "sweep"]

Array = NDArray[Any]


def least_squares(target: Array, inputs: Array, mask: NDArray[np.bool_]) -> Array:
    """Return the ``[N, K]`` weights on the mask whose outputs on ``inputs [M, K]`` come closest to those of `target`."""
    found = np.zeros(target.shape)
    for n, columns in enumerate(mask):
        if columns.any():
            found[n, columns] = np.linalg.lstsq(inputs[:, columns], inputs @ target[n], rcond=None)[0]
    return found


def best_nm(target: Array, inputs: Array, n: int, m: int) -> tuple[Array, float]:
    """Return the best n:m weights of one output ``[K]`` and their squared error, by trying every mask."""
    starts = range(0, len(target), m)
    choices = [combinations(range(s, min(s + m, len(target))), min(n, len(target) - s)) for s in starts]
    best: tuple[Array, float] = (np.zeros(len(target)), np.inf)
    for chosen in product(*choices):
        mask = np.zeros((1, len(target)), dtype=np.bool_)
        mask[0, [k for group in chosen for k in group]] = True
        found = least_squares(target[None], inputs, mask)[0]
        error = float(np.sum((inputs @ (found - target)) ** 2))
        if error < best[1]:
            best = (found, error)
    return best


def remove(weights: Array, hessian: Array, free: Iterable[int], index: int) -> tuple[Array, float]:
    """Zero one element of ``[K]``, move those in `free` (with `index`) to make up for it, and return them and the error added.

    The optimal brain surgeon: ``w - w_i / [F^-1]_ii * F^-1 e_i`` and ``w_i**2 / [F^-1]_ii``, F the Hessian of the free elements.
    """
    own = sorted({*free, index})
    backward = np.linalg.inv(hessian[np.ix_(own, own)])
    at = own.index(index)
    moved = weights.copy()
    moved[own] -= weights[index] / backward[at, at] * backward[at]
    moved[index] = 0.0
    return moved, float(weights[index] ** 2 / backward[at, at])


def sweep(weights: Array, hessian: Array, n: int, m: int, tile: int = 1) -> tuple[Array, NDArray[np.bool_]]:
    """Prune ``[N, K]`` to n:m input by input with one inverse for each: what the blocked sweep must equal."""
    work, kept = weights.astype(np.float64), np.zeros(weights.shape, dtype=np.bool_)
    inputs = weights.shape[1]
    for j in range(inputs):
        if j % m == 0:
            group = np.arange(j, min(j + m, inputs))
            # The element's own [F^-1]_kk once all before it, in its group too, are fixed.
            backward = np.array([np.linalg.inv(hessian[k:, k:])[0, 0] for k in group])
            saliency = work[:, group] ** 2 / backward
            for top in range(0, len(work), tile):
                order = np.argsort(-saliency[top : top + tile].sum(axis=0), kind="stable")
                kept[top : top + tile, group[order[:n]]] = True
        for row in np.flatnonzero(~kept[:, j]):
            work[row], _ = remove(work[row], hessian, range(j + 1, inputs), j)
    return work, kept
