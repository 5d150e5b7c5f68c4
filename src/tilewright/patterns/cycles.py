"""Improving masks with n entries in each row and column until no exchange gains, at which point they are optimal.

Moving a column from row i, which keeps it, to row j, which does not, changes the kept score by a known amount. Moves along
a closed walk over rows leave every row and column with as many entries as before, and a mask is optimal exactly when no
such walk gains. This is the negative-cycle criterion of minimum-cost flow; the Bellman-Ford algorithm finds the walks, for
many blocks at once.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["improve_"]

_CHUNK = 1 << 17
"""Elements processed at once, so that move costs and temporaries stay in the cache."""


def improve_(blocks: NDArray[Any], keep: NDArray[np.bool_], duals: NDArray[Any]) -> None:
    """Exchange entries of ``keep`` in place until each mask keeps the largest possible sum of scores.

    Parameters
    ----------
    blocks
        Scores ``[B, m, m]`` from 0 to 1, float32 or float64. An exchange must gain more than about 16 double-precision
        rounding steps.
    keep
        Masks ``[B, m, m]`` with the same number of entries in every row and column; modified in place.
    duals
        Initial row prices ``[B, m]``. Any values lead to an optimal mask; good ones lead there sooner.
    """
    step = max(1, _CHUNK // blocks[0].size)
    for start in range(0, len(blocks), step):
        part = slice(start, start + step)
        price = _improve(blocks[part], keep[part], duals[part].astype(blocks.dtype))
        if blocks.dtype != np.float64:  # gains below the resolution of single precision; there are rarely any
            _improve(blocks[part].astype(np.float64), keep[part], price.astype(np.float64))


def _improve(blocks: NDArray[Any], keep: NDArray[np.bool_], price: NDArray[Any]) -> NDArray[Any]:
    """Exchange in the precision of the scores; return the prices at which no exchange gains."""
    live = np.arange(len(blocks))
    while len(live):
        costs = _move_costs(blocks[live], keep[live])
        price[live], sources = _search(costs, price[live])
        live = _apply(blocks, keep, live, sources)
    return price


def _move_costs(blocks: NDArray[Any], keep: NDArray[np.bool_]) -> NDArray[Any]:
    """Return the smallest loss ``[B, i, j]`` of moving one column from row i to row j; infinite where none can move."""
    m = blocks.shape[1]
    n = int(np.count_nonzero(keep[0, 0]))
    if 2 * n > m:  # fewer entries are pruned than kept, so consider moving the pruned ones
        return _move_costs(-blocks, ~keep).swapaxes(1, 2)
    kept = np.nonzero(keep)[2].reshape(-1, m, n)
    offers = np.where(keep, -np.inf, blocks).astype(blocks.dtype).swapaxes(1, 2).copy()  # [B, column, row]
    costs = np.full(blocks.shape, np.inf, dtype=blocks.dtype)
    every, values = np.arange(len(blocks))[:, None], np.take_along_axis(blocks, kept, axis=2)
    for k in range(n):
        moved = offers[every, kept[:, :, k]]
        np.subtract(values[:, :, k, None], moved, out=moved)
        np.minimum(costs, moved, out=costs)
    return costs


def _search(costs: NDArray[Any], price: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Relax prices until they settle or the moves that set them close a walk, block by block.

    Returns
    -------
    price : ``[B, m]``
    sources : ``[B, m]``
        The row from which each row would receive a column, -1 for none. Closed walks among them gain and are disjoint.
    """
    price, sources = price.copy(), np.full(price.shape, -1)
    slack = 16 * np.finfo(costs.dtype).eps
    open_ = np.arange(len(costs))
    while len(open_):
        reach = price[open_][:, :, None] + costs[open_]
        best = reach.argmin(axis=1)
        lower = np.take_along_axis(reach, best[:, None], axis=1)[:, 0]
        better = lower < price[open_] - slack
        price[open_] = np.where(better, lower, price[open_])
        sources[open_] = np.where(better, best, sources[open_])
        closed = (_ancestors(sources[open_]) >= 0).any(axis=1)
        sources[open_[~better.any(axis=1) & ~closed]] = -1  # settled: no walk gains
        open_ = open_[better.any(axis=1) & ~closed]
    return price, sources


def _ancestors(sources: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the row m or more steps back from each row, -1 if its walk ends before; the rows returned lie on closed walks."""
    far = sources
    for _ in range(int(sources.shape[1]).bit_length()):
        far = np.where(far < 0, -1, np.take_along_axis(far, np.maximum(far, 0), axis=1))
    return far


def _apply(
    blocks: NDArray[Any], keep: NDArray[np.bool_], live: NDArray[np.int64], sources: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Make the moves of all closed walks; return the blocks that changed."""
    closed, row = np.nonzero(_ancestors(sources) >= 0)
    on_walk = np.zeros(sources.shape, dtype=np.bool_)
    row = _ancestors(sources)[closed, row]
    for _ in range(sources.shape[1]):  # an ancestor lies on its walk, and so do all its sources
        if on_walk[closed, row].all():
            break
        on_walk[closed, row] = True
        row = sources[closed, row]
    at, to = np.nonzero(on_walk)
    source, block = sources[at, to], live[at]
    loss = np.where(keep[block, source], blocks[block, source], np.inf)
    gain = np.where(keep[block, to], -np.inf, blocks[block, to])
    column = (gain - loss).argmax(axis=1)
    each = np.arange(len(column))
    change = np.bincount(at, (gain - loss)[each, column].astype(np.float64), minlength=len(live))
    sound = change > 0  # rounding can make a walk look like a gain; accepting only real gains guarantees termination
    taken = sound[at]
    keep[block[taken], source[taken], column[taken]] = False
    keep[block[taken], to[taken], column[taken]] = True
    return live[sound]
