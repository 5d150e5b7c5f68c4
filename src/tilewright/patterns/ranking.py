"""Ranking over several layers at once: keep the best entries until a budget of elements is used up."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["keep_best", "split_like"]

_SAMPLE = 1 << 18
"""Entries sampled before a long array is searched."""


def keep_best(scores: NDArray[Any], budget: int, sizes: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
    """Return the mask ``[E]`` of the best entries whose sizes together stay within the budget.

    Parameters
    ----------
    scores
        Score of each entry, ``[E]``.
    budget
        Number of elements that may be kept in total.
    sizes
        Number of elements in each entry, ``[E]``. Default: 1 each.

    Notes
    -----
    Entries are taken by decreasing score until the next would exceed the budget. Ties go to the lowest index, which only matters
    at the threshold: entries above it are all kept, so a fast, unstable sort is enough to find it.
    """
    total = len(scores) if sizes is None else int(sizes.sum())
    if budget >= total:
        return np.ones(len(scores), dtype=np.bool_)
    if budget <= 0:
        return np.zeros(len(scores), dtype=np.bool_)
    if sizes is None:
        threshold = _nth_best(scores, budget)
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


def _nth_best(scores: NDArray[Any], n: int) -> Any:
    """Return the n-th largest score; long arrays are first narrowed down by a bound taken from a sample."""
    stride = len(scores) // _SAMPLE
    if stride > 4:
        sample = scores[:: stride | 1]  # odd, so that it visits all columns of the usual even widths
        below = int(len(sample) * (1 - 1.25 * n / len(scores))) - 1
        if below > 0:
            candidates = scores[scores >= np.partition(sample, below)[below]]
            if len(candidates) >= n:  # then the n-th largest is among them; otherwise the sample was misleading
                return np.partition(candidates, len(candidates) - n)[len(candidates) - n]
    return np.partition(scores, len(scores) - n)[len(scores) - n]


def split_like(flat: NDArray[Any], shapes: Sequence[tuple[int, ...]]) -> list[NDArray[Any]]:
    """Cut a flat array into consecutive pieces of the given shapes."""
    pieces, start = [], 0
    for shape in shapes:
        size = int(np.prod(shape))
        pieces.append(flat[start : start + size].reshape(shape))
        start += size
    return pieces
