"""Choosing the best n of every m neighbours, vectorised over all groups."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["nm_mask", "top_n"]

_COMPARED = 8
"""Largest m for which counting pairwise wins is faster than partitioning (measured: about 8x for 2:4)."""

_CHUNK = 1 << 22
"""Elements processed at once, so that temporaries stay in the last-level cache."""


def top_n(groups: NDArray[Any], n: int) -> NDArray[np.bool_]:
    """Return True for the `n` largest entries of each row of ``groups[G, m]``; ties go to the lowest index."""
    count, m = groups.shape
    if n >= m:
        return np.ones(groups.shape, dtype=np.bool_)
    out = np.empty(groups.shape, dtype=np.bool_)
    step = max(1, _CHUNK // m)
    solve = _by_wins if m <= _COMPARED else _by_partition
    for start in range(0, count, step):
        out[start : start + step] = solve(groups[start : start + step], n)
    return out


def _by_wins(groups: NDArray[Any], n: int) -> NDArray[np.bool_]:
    """Keep an entry if fewer than n others beat it; of two equal entries the earlier wins."""
    columns = [np.ascontiguousarray(groups[:, j]) for j in range(groups.shape[1])]
    losses = np.zeros((len(columns), len(groups)), dtype=np.uint8)
    for i, left in enumerate(columns):
        for j in range(i + 1, len(columns)):
            later_wins = columns[j] > left
            losses[i] += later_wins
            losses[j] += ~later_wins
    return np.ascontiguousarray((losses < n).T)


def _by_partition(groups: NDArray[Any], n: int) -> NDArray[np.bool_]:
    """Keep everything above the n-th largest value, then the first entries equal to it."""
    m = groups.shape[1]
    threshold = np.partition(groups, m - n, axis=1)[:, m - n, None]
    keep = groups >= threshold
    crowded = np.flatnonzero(np.count_nonzero(keep, axis=1) != n)
    if len(crowded):
        some, level = groups[crowded], threshold[crowded]
        above, equal = some > level, some == level
        room = n - np.count_nonzero(above, axis=1)[:, None]
        keep[crowded] = above | (equal & (np.cumsum(equal, axis=1) <= room))
    return keep


def nm_mask(scores: NDArray[Any], n: int, m: int) -> NDArray[np.bool_]:
    """Return the n:m mask of ``scores[R, K]`` along K; a trailing short group keeps ``min(n, its length)``."""
    rows, inputs = scores.shape
    whole = inputs - inputs % m
    if whole == inputs:
        return top_n(np.ascontiguousarray(scores).reshape(-1, m), n).reshape(rows, inputs)
    out = np.empty(scores.shape, dtype=np.bool_)
    if whole:
        out[:, :whole] = top_n(np.ascontiguousarray(scores[:, :whole]).reshape(-1, m), n).reshape(rows, whole)
    out[:, whole:] = top_n(np.ascontiguousarray(scores[:, whole:]), n)
    return out
