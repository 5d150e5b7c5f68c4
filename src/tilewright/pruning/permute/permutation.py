"""Channel permutation: an order of inputs (for n:m) or outputs (for tiles) with which a pattern keeps a higher score."""

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
"""Relative gains below this are rounding."""

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
    """Return an order of the K inputs with which an n:m pattern keeps a higher score.

    Parameters
    ----------
    scores
        Scores ``[N, K]``, finite and non-negative: the rows of all weights that read these inputs.
    pattern
        n:m or banks, with or without a tile. With a tile, positions are chosen by squares summed over the tile, and the sum of squares is
        what is increased.
    classes
        Class of each input, ``[K]``; inputs are only exchanged within a class, such as the same attention head. Default: one class.
    seconds
        Time limit in seconds. Default: 10. None sets no limit.
    steps
        Maximum number of steps of the search. Default: 20,000 per channel. With ``seconds=None`` the result depends only on the
        arguments.
    seed
        Random seed of the search. Default: 0.

    Returns
    -------
    ndarray of int64, ``[K]``
        A permutation p. Prune ``scores[:, p]``; the pattern never keeps less of it than of `scores`.

    Raises
    ------
    PatternError
        If the pattern is not n:m, or the scores cannot take it.
    ArgumentError
        If a limit is not positive, or `classes` does not have one entry per input.

    Notes
    -----
    The problem is that of Pool and Yu (NeurIPS 2021); the search is new. Exchanging channels a and b changes two groups only, and
    in each of them the sum of the n best of "the others and the newcomer" is, row by row, a constant plus ``max(threshold, newcomer)``.
    One step therefore evaluates a whole window of exchanges with two maxima and two sums, whatever m is.

    Examples
    --------
    >>> scores = np.array([[9.0, 8.0, 7.0, 6.0, 1.0, 1.0, 1.0, 1.0]])
    >>> order = permute_columns(scores, "2:4", steps=100)
    >>> kept_score(scores, "2:4"), kept_score(scores[:, order], "2:4")
    (19.0, 30.0)
    """
    parsed, clock = _nm(pattern), Clock(seconds, steps)
    rows = _shared(_checked(scores, parsed), parsed.tile)
    identity = np.arange(rows.shape[1])
    if parsed.n == parsed.m or rows.shape[1] <= parsed.m:
        return identity
    if classes is not None and np.shape(classes) != identity.shape:
        raise ArgumentError(
            f"classes must have one entry for each of the {len(identity)} inputs; got an array of shape {np.shape(classes)}"
        )
    default = _kept(rows, parsed)
    best = anneal(Columns(rows, parsed.n, parsed.m, classes), seconds=clock.left(), steps=steps, seed=seed)
    order = best[best < len(identity)]  # drop the padding, which always stays at the end
    return order if _kept(rows[:, order], parsed) > default * (1 + _GAIN) else identity


def permute_rows(
    scores: Scores, pattern: Pattern | str, *, seconds: float | None = 10.0, steps: int | None = None, seed: int = 0
) -> NDArray[np.int64]:
    """Return an order of the N outputs, with similar outputs in the same tile, with which a tiled pattern keeps a higher score.

    Parameters
    ----------
    scores
        Scores ``[N, K]``, finite and non-negative.
    pattern
        Tile-wise, tile-element-wise or tile-vector-wise pattern.
    seconds, steps, seed
        As for `permute_columns`.

    Returns
    -------
    ndarray of int64, ``[N]``
        A permutation p. Prune ``scores[p]``; the pattern never keeps less of it than of `scores`.

    Raises
    ------
    PatternError
        If the pattern is not tw, tew or tvw, or the scores cannot take it.
    ArgumentError
        If a limit is not positive.

    Notes
    -----
    Outputs that the pattern prunes entirely go to the end. The others are exchanged between tiles to maximize the squared scores of the
    tile columns above a cut, which is fixed where the pattern's budget ends in the initial order.
    """
    parsed = pattern if isinstance(pattern, Pattern) else parse(pattern)
    if not isinstance(parsed, TileWise | TileElementWise | TileVectorWise):
        raise PatternError(f"permute_rows takes tw, tew and tvw patterns, not {parsed}; for n:m use permute_columns")
    clock = Clock(seconds, steps)
    scores = _checked(scores, parsed)
    identity = np.arange(len(scores))
    alive = mask(parsed, scores).any(axis=1)
    survivors = np.flatnonzero(alive)
    if len(survivors) <= parsed.tile:
        return identity
    default = kept_score(scores, parsed)
    best = anneal(Tiles(scores[survivors], parsed), seconds=clock.left(), steps=steps, seed=seed)
    order = np.concatenate([survivors[best[best < len(survivors)]], np.flatnonzero(~alive)])
    return order if kept_score(scores[order], parsed) > default * (1 + _GAIN) else identity


def kept_score(scores: Scores, pattern: Pattern | str) -> float:
    """Return the sum of the scores ``[N, K]`` that a pattern keeps; the sum of their squares if it has a tile, which chooses by those."""
    parsed = pattern if isinstance(pattern, Pattern) else parse(pattern)
    values = np.square(scores) if getattr(parsed, "tile", 1) > 1 else scores
    return float(values[mask(parsed, scores)].sum(dtype=np.float64))


def efficacy(kept: float, default: float, best: float) -> float:
    """Return the gain as a share of the largest conceivable gain, in percent (Pool and Yu): 0 in the default order, 100 at `best`.

    Parameters
    ----------
    kept
        Score kept in the new order.
    default
        Score kept in the default order.
    best
        Score kept if each row could choose its elements anywhere. If it is no higher than `default`, the result is 0.
    """
    return 100 * (kept - default) / (best - default) if best > default else 0.0


def best_of_rows(scores: Scores, pattern: NM) -> float:
    """Return the total score if each row (with a tile: each tile) kept its best inputs, wherever they are."""
    rows = _shared(scores, pattern.tile)
    count = pattern.kept(rows.shape[1])
    return float(np.partition(rows, rows.shape[1] - count, axis=1)[:, rows.shape[1] - count :].sum(dtype=np.float64))


def _nm(pattern: Pattern | str) -> NM:
    parsed = pattern if isinstance(pattern, Pattern) else parse(pattern)
    if not isinstance(parsed, NM) or parsed.transposable:
        raise PatternError(
            f"permute_columns takes n:m patterns that are not transposable, not {parsed}; for tw, tew and tvw use permute_rows"
        )
    return parsed


def _shared(scores: Scores, tile: int) -> Scores:
    """Return the scores by which positions are chosen: the scores themselves, or their squares summed over each tile of outputs."""
    return scores if tile == 1 else np.add.reduceat(np.square(scores), np.arange(0, len(scores), tile), axis=0)


def _kept(rows: Scores, pattern: NM) -> float:
    return float(rows[mask(NM(pattern.n, pattern.m), rows)].sum(dtype=np.float64))


def _checked(scores: Scores, pattern: Pattern) -> Scores:
    """Return the scores in floating point; raise if the pattern does not accept them."""
    array = np.asarray(scores)
    mask(pattern, array)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


class Clock:
    """Time limit of a search, which includes the preparation before it and the evaluation after it."""

    def __init__(self, seconds: float | None, steps: int | None) -> None:
        if (seconds is not None and not seconds > 0) or (steps is not None and steps < 1):
            raise ArgumentError(
                f"seconds must be above 0 and steps at least 1, or None; got seconds={seconds} and steps={steps}"
            )
        self._seconds, self._begin = seconds, time.perf_counter()

    def left(self) -> float | None:
        """Return the seconds left for the search itself: evaluating the result takes up to twice as long as the preparation."""
        if self._seconds is None:
            return None
        return max(self._seconds - 3 * (time.perf_counter() - self._begin), 0.05 * self._seconds)
