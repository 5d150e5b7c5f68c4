"""Masks that are n:m along both sides: exact for blocks of 4, greedy with repair for larger ones."""

from functools import cache
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["transposable_mask"]

_EXACT = 4
"""Largest m whose valid blocks are enumerated: 90 for 2:4; 2:8 would already have millions."""

_CHUNK = 1 << 16
"""Blocks handled at once."""


def transposable_mask(scores: NDArray[Any], n: int, m: int) -> NDArray[np.bool_]:
    """Return a mask of ``scores[N, K]`` with exactly n of m in each row and each column of every m x m block.

    Blocks up to 4 x 4 are solved exactly (the best of all valid masks). Larger ones take entries by decreasing score
    while their row and column have room, then exchange entries until every row and column is full.
    """
    outputs, inputs = scores.shape
    blocks = scores.reshape(outputs // m, m, inputs // m, m).swapaxes(1, 2).reshape(-1, m * m)
    out = np.empty(blocks.shape, dtype=np.bool_)
    solve = _exact if m <= _EXACT else _greedy
    for start in range(0, len(blocks), _CHUNK):
        out[start : start + _CHUNK] = solve(blocks[start : start + _CHUNK], n, m)
    return out.reshape(outputs // m, inputs // m, m, m).swapaxes(1, 2).reshape(outputs, inputs)


@cache
def _candidates(n: int, m: int) -> NDArray[np.bool_]:
    """Return all m x m masks with n in each row and column, flattened, in lexicographic order of kept positions."""
    rows = []
    for kept in combinations(range(m), n):
        row = np.zeros(m, dtype=np.bool_)
        row[list(kept)] = True
        rows.append(row)
    grids = [np.stack(grid) for grid in product(rows, repeat=m)]
    return np.stack([grid.ravel() for grid in grids if (grid.sum(axis=0) == n).all()])


def _exact(blocks: NDArray[Any], n: int, m: int) -> NDArray[np.bool_]:
    valid = _candidates(n, m)
    kept_score = blocks @ valid.T.astype(blocks.dtype)
    best: NDArray[np.bool_] = valid[np.argmax(kept_score, axis=1)]
    return best


def _greedy(blocks: NDArray[Any], n: int, m: int) -> NDArray[np.bool_]:
    count = len(blocks)
    every = np.arange(count)
    keep = np.zeros((count, m, m), dtype=np.bool_)
    row_room = np.full((count, m), n, dtype=np.int16)
    column_room = np.full((count, m), n, dtype=np.int16)
    order = np.argsort(-blocks, axis=1, kind="stable")
    for entry in order.T:
        row, column = entry // m, entry % m
        fits = (row_room[every, row] > 0) & (column_room[every, column] > 0)
        keep[every, row, column] = fits
        row_room[every, row] -= fits
        column_room[every, column] -= fits
    _repair(blocks.reshape(count, m, m), keep, row_room, column_room)
    return keep.reshape(count, m * m)


def _repair(
    scores: NDArray[Any], keep: NDArray[np.bool_], row_room: NDArray[np.int16], column_room: NDArray[np.int16]
) -> None:
    """Fill rows and columns that greedy left short, one per block and round, each at the least loss.

    A short row i and a short column j meet in an entry that is kept already (greedy would have taken it otherwise). Some kept
    (a, b) with (i, b) and (a, j) free always exists: if none did, the rows missing from column j, all of them full, would hold
    their n entries in the fewer than n columns of row i. Exchanging it for (i, b) and (a, j) fills both.
    """
    while True:
        short = np.flatnonzero(row_room.any(axis=1))
        if not len(short):
            return
        i = np.argmax(row_room[short] > 0, axis=1)
        j = np.argmax(column_room[short] > 0, axis=1)
        block, kept = scores[short].astype(np.float64), keep[short]
        at = np.arange(len(short))
        gain = block[at, i, None, :] + block[at, :, j][:, :, None] - block
        allowed = kept & ~kept[at, i][:, None, :] & ~kept[at, :, j][:, :, None]
        best = np.argmax(np.where(allowed, gain, -np.inf).reshape(len(short), -1), axis=1)
        a, b = np.divmod(best, keep.shape[1])
        keep[short, a, b] = False
        keep[short, i, b] = True
        keep[short, a, j] = True
        row_room[short, i] -= 1
        column_room[short, j] -= 1
