"""Optimal masks that are n:m along both sides.

Blocks up to 4 x 4 are enumerated. Large blocks follow TSENOR (Meng, Makni and Mazumder, 2025): a soft plan by optimal
transport, rounded greedily, then improved by exchanges. Blocks in between start from the greedy choice. Unlike in TSENOR,
the exchanges continue until none gains, so the mask is optimal.
"""

from functools import cache
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cycles import improve_
from .transport import soft_duals

__all__ = ["transposable_mask"]

_EXACT = 4
"""Largest m whose valid blocks are enumerated: 90 for 2:4; 2:8 would already have millions."""

_CHUNK = 1 << 20
"""Elements processed at once, so that counters and masks stay in the cache."""

_PLANNED_FROM = 32
"""Smallest m for which a plan comes first. It saves rounds of exchange; for smaller m it takes longer than they do (measured)."""

_CACHED = 1 << 16
"""Elements planned at once; smaller than `_CHUNK` because the plan is traversed thirty times."""


def transposable_mask(scores: NDArray[Any], n: int, m: int) -> NDArray[np.bool_]:
    """Return a mask of ``scores[N, K]`` with exactly n of m in each row and each column of every m x m block.

    No such mask keeps a larger sum of scores, up to rounding. Among equal sums the choice is deterministic: for m up to 4, the
    first in lexicographic order of kept positions; for larger m, entries are visited by decreasing worth and increasing index
    and exchanged only for a gain. Time grows with N * K * min(n, m - n), so larger blocks cost more per element.
    """
    outputs, inputs = scores.shape
    if n == m:
        return np.ones(scores.shape, dtype=np.bool_)
    blocks = scores.reshape(outputs // m, m, inputs // m, m).swapaxes(1, 2).reshape(-1, m * m)
    out = np.empty(blocks.shape, dtype=np.bool_)
    solve = _exact if m <= _EXACT else _transported
    step = max(1, _CHUNK // (m * m))
    for start in range(0, len(blocks), step):
        out[start : start + step] = solve(blocks[start : start + step], n, m)
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


def _transported(blocks: NDArray[Any], n: int, m: int) -> NDArray[np.bool_]:
    """Start from a good mask for each block and improve it until it is optimal."""
    top = np.maximum(blocks.max(axis=1, keepdims=True), np.finfo(blocks.dtype).tiny)
    scaled = blocks / top
    prices, worth = (
        _planned(scaled.reshape(-1, m, m), n) if m >= _PLANNED_FROM else (np.zeros((len(blocks), m)), scaled)
    )
    keep = _greedy(worth, n, m)
    improve_(scaled.reshape(-1, m, m), keep.reshape(-1, m, m), prices)
    return keep


def _planned(blocks: NDArray[Any], n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the row prices ``[B, m]`` of the soft plan and the non-negative worth ``[B, m * m]`` of each entry under it."""
    m = blocks.shape[1]
    rows, worth = np.empty(blocks.shape[:2], blocks.dtype), np.empty_like(blocks)
    step = max(1, _CACHED // (m * m))
    for start in range(0, len(blocks), step):
        part = slice(start, start + step)
        rows[part], columns = soft_duals(blocks[part], n)
        worth[part] = blocks[part] + rows[part][:, :, None] + columns[:, None, :]
    worth -= worth.min(axis=(1, 2), keepdims=True)
    return rows, worth.reshape(-1, m * m)


def _greedy(blocks: NDArray[Any], n: int, m: int) -> NDArray[np.bool_]:
    """Visit the entries of all blocks by decreasing score, one entry per block at a time, in flat arrays."""
    count, size = blocks.shape
    start_entry, start_side = np.arange(count) * size, np.arange(count) * m
    keep = np.zeros(count * size, dtype=np.bool_)
    row_room = np.full(count * m, n, dtype=np.int16)
    column_room = np.full(count * m, n, dtype=np.int16)
    for entry in _by_score(blocks).T:
        row, column = start_side + entry // m, start_side + entry % m
        rows, columns = row_room[row], column_room[column]
        fits = (rows > 0) & (columns > 0)
        keep[start_entry + entry] = fits
        row_room[row] = rows - fits
        column_room[column] = columns - fits
    blocked = keep.reshape(count, m, m)
    _repair(blocks.reshape(count, m, m), blocked, row_room.reshape(count, m), column_room.reshape(count, m))
    return blocked.reshape(count, size)


def _by_score(blocks: NDArray[Any]) -> NDArray[np.int64]:
    """Return the entry indices of each block by decreasing score; ties go to the lowest index.

    Non-negative floats sort like their bits, so score and index combine into one integer, and plain integers sort many times
    faster than a stable argsort.
    """
    if blocks.dtype != np.float32:
        return np.argsort(-blocks, axis=1, kind="stable")
    bits = (blocks + np.float32(0)).view(np.uint32).astype(np.uint64)  # adding 0 turns -0.0 into 0.0
    keys = ((np.uint64(0xFFFFFFFF) - bits) << np.uint64(32)) | np.arange(blocks.shape[1], dtype=np.uint64)
    keys.sort(axis=1)
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _repair(
    scores: NDArray[Any], keep: NDArray[np.bool_], row_room: NDArray[np.int16], column_room: NDArray[np.int16]
) -> None:
    """Fill rows and columns that the greedy pass left short, one per block and round, each at the smallest loss.

    A short row i and a short column j meet in an entry that is already kept, or the greedy pass would have taken it. There is
    always a kept (a, b) with (i, b) and (a, j) free: otherwise the rows missing from column j, all of them full, would have
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
