"""Ranking over several layers at once: keep the best until a budget of elements is used up."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["keep_best", "split_like"]


def keep_best(scores: NDArray[Any], budget: int, sizes: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
    """Return True for the best entries of a flat array whose sizes together stay within the budget.

    Parameters
    ----------
    scores
        One score an entry, ``[E]``.
    budget
        Elements that may be kept in all.
    sizes
        Elements that an entry stands for; 1 each where not given.

    Notes
    -----
    Entries are taken by decreasing score until the next would exceed the budget. Among equals the lowest index goes first, which
    only matters at the threshold: entries above it are all in, so one unstable (and fast) sort finds it.
    """
    total = len(scores) if sizes is None else int(sizes.sum())
    if budget >= total:
        return np.ones(len(scores), dtype=np.bool_)
    if budget <= 0:
        return np.zeros(len(scores), dtype=np.bool_)
    if sizes is None:
        threshold = np.partition(scores, len(scores) - budget)[len(scores) - budget]
    else:
        order = np.argsort(scores)[::-1]
        last = int(np.searchsorted(np.cumsum(sizes[order]), budget, side="right"))
        threshold = scores[order[last]]
    keep: NDArray[np.bool_] = scores > threshold
    equal = np.flatnonzero(scores == threshold)
    used = int(np.count_nonzero(keep)) if sizes is None else int(sizes[keep].sum())
    cost = np.arange(1, len(equal) + 1) if sizes is None else np.cumsum(sizes[equal])
    keep[equal[: int(np.searchsorted(cost, budget - used, side="right"))]] = True
    return keep


def split_like(flat: NDArray[Any], shapes: Sequence[tuple[int, ...]]) -> list[NDArray[Any]]:
    """Cut a flat array into consecutive pieces of the given shapes."""
    pieces, start = [], 0
    for shape in shapes:
        size = int(np.prod(shape))
        pieces.append(flat[start : start + size].reshape(shape))
        start += size
    return pieces
