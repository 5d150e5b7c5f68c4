"""Channel permutation: an order of the inputs (for n:m) or of the outputs (for tiles) under which a pattern keeps more."""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError, PatternError
from ...patterns import NM, Pattern, TileElementWise, TileVectorWise, TileWise, mask, parse
from .annealing import anneal
from .places import Columns, Tiles

__all__ = ["efficacy", "kept_score", "permute_columns", "permute_rows"]

_GAIN = 1e-9
"""A relative gain below this is rounding."""

Scores = NDArray[Any]


def permute_columns(
    scores: Scores,
    pattern: Pattern | str,
    *,
    classes: NDArray[np.int64] | None = None,
    seconds: float | None = 10.0,
    steps: int | None = None,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Return an order of the K inputs under which an n:m pattern keeps a higher score.

    Parameters
    ----------
    scores
        ``[N, K]``, finite and not negative: rows of everything that reads these inputs.
    pattern
        n:m, banks, and both with tiles, whose positions are chosen on summed squares: those are then what is kept.
    classes
        ``[K]``: inputs change places only with others of their class, such as those of the same attention head.
    seconds
        Bound on the time; None for none.
    steps
        Bound on the steps of the search, 20,000 a channel unless told. With ``seconds=None`` the result depends on nothing
        but the arguments.
    seed
        Of the search.

    Returns
    -------
    ndarray of int64, ``[K]``
        A permutation p; ``scores[:, p]`` is what to prune. What the pattern keeps of it is never less than of `scores`.

    Raises
    ------
    PatternError
        If the pattern is not n:m, or the scores cannot take it.
    ArgumentError
        If a bound is not positive, or there is not one class an input.

    Notes
    -----
    The problem is that of Pool and Yu (NeurIPS 2021); the search is ours. Exchanging channel a with b changes two groups only, and
    in each the n best of "the others and the newcomer" is, row by row, a constant plus ``max(threshold, newcomer)``. So one
    step prices a whole window of exchanges with two maxima and two sums, whatever m is.

    Examples
    --------
    >>> scores = np.array([[9.0, 8.0, 7.0, 6.0, 1.0, 1.0, 1.0, 1.0]])
    >>> order = permute_columns(scores, "2:4", steps=100)
    >>> kept_score(scores, "2:4"), kept_score(scores[:, order], "2:4")
    (19.0, 30.0)
    """
    wanted, clock = _nm(pattern), Clock(seconds, steps)
    rows = _shared(_checked(scores, wanted), wanted.tile)
    identity = np.arange(rows.shape[1])
    if wanted.n == wanted.m or rows.shape[1] <= wanted.m:
        return identity
    if classes is not None and np.shape(classes) != identity.shape:
        raise ArgumentError(
            f"{len(identity)} inputs need as many classes, and got an array of shape {np.shape(classes)}"
        )
    default = _kept(rows, wanted)
    found = anneal(Columns(rows, wanted.n, wanted.m, classes), seconds=clock.left(), steps=steps, seed=seed)
    order = found[found < len(identity)]  # without the padding, which never leaves the end
    return order if _kept(rows[:, order], wanted) > default * (1 + _GAIN) else identity


def permute_rows(
    scores: Scores, pattern: Pattern | str, *, seconds: float | None = 10.0, steps: int | None = None, seed: int = 0
) -> NDArray[np.int64]:
    """Return an order of the N outputs under which a pattern with tiles keeps a higher score: like outputs share a tile.

    Parameters
    ----------
    scores
        ``[N, K]``, finite and not negative.
    pattern
        Tile-wise, tile-element-wise or tile-vector-wise.
    seconds, steps, seed
        As in `permute_columns`.

    Returns
    -------
    ndarray of int64, ``[N]``
        A permutation p; ``scores[p]`` is what to prune. What the pattern keeps of it is never less than of `scores`.

    Raises
    ------
    PatternError
        If the pattern has no tiles that regroup outputs, or the scores cannot take it.
    ArgumentError
        If a bound is not positive.

    Notes
    -----
    Outputs that the pattern prunes whole go to the end. The survivors are exchanged between tiles so that the squared scores of the
    tile columns above the cut add up to as much as they can, the cut being where the pattern's budget ends at first.
    """
    wanted = pattern if isinstance(pattern, Pattern) else parse(pattern)
    if not isinstance(wanted, TileWise | TileElementWise | TileVectorWise):
        raise PatternError(
            f"rows are permuted for tw, tew and tvw patterns, and {wanted} is none; for n:m permute columns"
        )
    clock = Clock(seconds, steps)
    scores = _checked(scores, wanted)
    identity = np.arange(len(scores))
    alive = mask(wanted, scores).any(axis=1)
    survivors = np.flatnonzero(alive)
    if len(survivors) <= wanted.tile:
        return identity
    default = kept_score(scores, wanted)
    found = anneal(Tiles(scores[survivors], wanted), seconds=clock.left(), steps=steps, seed=seed)
    order = np.concatenate([survivors[found[found < len(survivors)]], np.flatnonzero(~alive)])
    return order if kept_score(scores[order], wanted) > default * (1 + _GAIN) else identity


def kept_score(scores: Scores, pattern: Pattern | str) -> float:
    """Return the sum of the scores that a pattern keeps of ``scores[N, K]``; of their squares if it has tiles, which choose by those."""
    wanted = pattern if isinstance(pattern, Pattern) else parse(pattern)
    values = np.square(scores) if getattr(wanted, "tile", 1) > 1 else scores
    return float(values[mask(wanted, scores)].sum(dtype=np.float64))


def efficacy(kept: float, default: float, best: float) -> float:
    """Return the share of what could be gained that was, in per cent (Pool and Yu): 0 in the default order, 100 at `best`.

    `best` is what the rows would keep if each could choose anywhere; where that is no more than the default, the share is 0.
    """
    return 100 * (kept - default) / (best - default) if best > default else 0.0


def best_of_rows(scores: Scores, pattern: NM) -> float:
    """Return what each row (with tiles: each tile) would keep if it chose its best inputs anywhere."""
    rows = _shared(scores, pattern.tile)
    count = pattern.kept(rows.shape[1])
    return float(np.partition(rows, rows.shape[1] - count, axis=1)[:, rows.shape[1] - count :].sum(dtype=np.float64))


def _nm(pattern: Pattern | str) -> NM:
    wanted = pattern if isinstance(pattern, Pattern) else parse(pattern)
    if not isinstance(wanted, NM) or wanted.transposable:
        raise PatternError(
            f"columns are permuted for n:m patterns that run along K alone, and {wanted} is none; for tiles of outputs permute rows"
        )
    return wanted


def _shared(scores: Scores, tile: int) -> Scores:
    """Return what the positions are chosen on: the scores, or their squares summed over each tile of outputs."""
    return scores if tile == 1 else np.add.reduceat(np.square(scores), np.arange(0, len(scores), tile), axis=0)


def _kept(rows: Scores, pattern: NM) -> float:
    return float(rows[mask(NM(pattern.n, pattern.m), rows)].sum(dtype=np.float64))


def _checked(scores: Scores, pattern: Pattern) -> Scores:
    """Return the scores as floating point, after letting the pattern's own checks speak."""
    array = np.asarray(scores)
    mask(pattern, array)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


class Clock:
    """A bound on the time of a search that also has to prepare, and to look at what it found."""

    def __init__(self, seconds: float | None, steps: int | None) -> None:
        if (seconds is not None and not seconds > 0) or (steps is not None and steps < 1):
            raise ArgumentError(
                f"a search needs some time and at least one step, and got seconds={seconds} and steps={steps}"
            )
        self._seconds, self._begin = seconds, time.perf_counter()

    def left(self) -> float | None:
        """Return the time for the search itself: looking at the result takes up to twice as long as preparing did."""
        if self._seconds is None:
            return None
        return max(self._seconds - 3 * (time.perf_counter() - self._begin), 0.05 * self._seconds)
