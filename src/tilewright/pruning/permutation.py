"""Channel permutation: an order of the inputs (for n:m) or of the outputs (for tiles) under which a pattern keeps more."""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError, PatternError
from ..patterns import NM, Pattern, TileElementWise, TileVectorWise, TileWise, mask, parse
from .annealing import anneal

__all__ = ["efficacy", "kept_score", "permute_columns", "permute_rows"]

_WINDOW = 1 << 15
"""Elements of scores that one step looks at: they stay in a core's own cache."""

_NARROW = 8
"""Up to this m, two order statistics by selection; above it a whole sort is faster (measured)."""

_GAIN = 1e-9
"""A relative gain below this is rounding."""

Scores = NDArray[Any]


def permute_columns(
    scores: Scores, pattern: Pattern | str, *, seconds: float | None = 10.0, steps: int | None = None, seed: int = 0
) -> NDArray[np.int64]:
    """Return an order of the K inputs under which an n:m pattern keeps a higher score.

    Parameters
    ----------
    scores
        ``[N, K]``, finite and not negative: rows of everything that reads these inputs.
    pattern
        n:m, banks, and both with tiles, whose positions are chosen on summed squares: those are then what is kept.
    seconds
        Bound on the time; None for none.
    steps
        Bound on the steps of the search, 5000 a channel unless told. With ``seconds=None`` the result depends on nothing
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
        If a bound is not positive.

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
    default = _kept(rows, wanted)
    found = anneal(_Columns(rows, wanted.n, wanted.m), seconds=clock.left(), steps=steps, seed=seed)
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
    found = anneal(_Tiles(scores[survivors], wanted), seconds=clock.left(), steps=steps, seed=seed)
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


class _Columns:
    """Inputs in groups of m, padded with empty ones that never move: a short group keeps ``min(n, its length)`` either way."""

    def __init__(self, scores: Scores, n: int, m: int) -> None:
        rows, inputs = scores.shape
        self._n, self._m = n, m
        self.movable = inputs
        self.window = max(min(inputs, _WINDOW // rows), min(inputs, 8))
        self._x = np.zeros((inputs + -inputs % m, rows), dtype=np.float32)
        self._x[:inputs] = scores.T
        self.order = np.arange(len(self._x))
        self._place = self.order.copy()
        self._threshold = np.empty_like(self._x)
        self._own = np.empty(len(self._x))
        self._work = np.empty((self.window, rows), dtype=np.float32)
        for group in range(len(self._x) // m):
            self._refresh(group)

    def _refresh(self, group: int) -> None:
        """Set, for each channel c of a group, the n-th best of the others, and the sum that c brings against it."""
        channels = self.order[group * self._m : (group + 1) * self._m]
        x = self._x[channels]
        first = self._m - self._n
        if self._m <= _NARROW:
            out, last = np.partition(x, (first - 1, first), axis=0)[first - 1 : first + 1]
        else:  # NumPy sorts contiguous rows with vector instructions
            out, last = np.sort(np.ascontiguousarray(x.T), axis=1)[:, first - 1 : first + 1].T
        self._own[channels] = np.maximum(x, last).sum(axis=1)
        kept = x >= last
        x[:] = last
        np.copyto(x, out, where=kept)
        self._threshold[channels] = x

    def gains(self, channel: int, start: int, stop: int) -> NDArray[np.float64]:
        np.maximum(self._x[start:stop], self._threshold[channel], out=self._work)
        gains = self._work.sum(axis=1) - self._own[channel]
        np.maximum(self._threshold[start:stop], self._x[channel], out=self._work)
        gains += self._work.sum(axis=1) - self._own[start:stop]
        gains[self._place[start:stop] // self._m == self._place[channel] // self._m] = -np.inf
        return np.asarray(gains, dtype=np.float64)

    def swap(self, channel: int, other: int) -> None:
        here, there = self._place[channel], self._place[other]
        self.order[here], self.order[there] = other, channel
        self._place[channel], self._place[other] = there, here
        self._refresh(here // self._m)
        self._refresh(there // self._m)


class _Tiles:
    """Outputs in tiles; a tile column counts by how far its squared scores exceed the cut.

    Maximising what lies above a fixed cut is maximising what is kept under a budget, for the budget that this cut belongs to.
    """

    def __init__(self, scores: Scores, pattern: TileWise | TileElementWise | TileVectorWise) -> None:
        outputs, inputs = scores.shape
        tile = pattern.tile
        self._tile = tile
        self.movable = outputs
        self.window = max(min(outputs, _WINDOW // inputs), min(outputs, 8))
        self._x = np.zeros((outputs + -outputs % tile, inputs), dtype=np.float32)
        self._x[:outputs] = np.square(scores)
        self.order = np.arange(len(self._x))
        self._place = self.order.copy()
        self._sums = np.add.reduceat(self._x, np.arange(0, len(self._x), tile), axis=0)
        density = _outer_density(pattern)
        self._cut = float(np.quantile(self._sums, 1 - density)) if density < 1 else 0.0
        self._values = np.maximum(self._sums, self._cut).sum(axis=1, dtype=np.float64)

    def gains(self, channel: int, start: int, stop: int) -> NDArray[np.float64]:
        here, theirs = self._place[channel] // self._tile, self._place[start:stop] // self._tile
        x, others = self._x[channel], self._x[start:stop]
        mine = np.maximum(self._sums[here] - x + others, self._cut).sum(axis=1, dtype=np.float64)
        back = np.maximum(self._sums[theirs] - others + x, self._cut).sum(axis=1, dtype=np.float64)
        gains: NDArray[np.float64] = mine + back - self._values[here] - self._values[theirs]
        gains[theirs == here] = -np.inf
        return gains

    def swap(self, channel: int, other: int) -> None:
        here, there = self._place[channel], self._place[other]
        self.order[here], self.order[there] = other, channel
        self._place[channel], self._place[other] = there, here
        for tile in (here // self._tile, there // self._tile):
            members = self.order[tile * self._tile : (tile + 1) * self._tile]
            self._sums[tile] = self._x[members].sum(axis=0)
            self._values[tile] = np.maximum(self._sums[tile], self._cut).sum(dtype=np.float64)


def _outer_density(pattern: TileWise | TileElementWise | TileVectorWise) -> float:
    """Return the share of tile columns kept among the surviving outputs: the second of the pattern's two equal cuts."""
    match pattern:
        case TileVectorWise():
            density = pattern.density * pattern.m / pattern.n
        case TileElementWise():
            density = pattern.density - pattern.extra
        case _:
            density = pattern.density
    return float(np.sqrt(density))


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
