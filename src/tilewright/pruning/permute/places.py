"""Gains of exchanging two channels: inputs in groups of m, and outputs in tiles. Both implement `annealing.Places`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...patterns import TileElementWise, TileVectorWise, TileWise

__all__ = ["Columns", "Tiles"]

_WINDOW = 1 << 15
"""Number of score elements that one step reads; they stay in the cache of a core."""

_NARROW = 8
"""Largest m for which two order statistics by selection are faster than a full sort (measured)."""

Scores = NDArray[Any]


class Columns:
    """Inputs in groups of m, padded with zero inputs that never move; a short group keeps ``min(n, its length)`` either way."""

    def __init__(self, scores: Scores, n: int, m: int, classes: NDArray[np.int64] | None = None) -> None:
        rows, inputs = scores.shape
        self._classes = classes
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
        self.most = self._most(scores)

    def _most(self, scores: Scores) -> float:
        """Return by how much the best elements of each row exceed those kept now, in total."""
        inputs, n, m = self.movable, self._n, self._m
        kept = inputs // m * n + min(n, inputs % m)
        best = np.sort(np.asarray(scores, dtype=np.float64), axis=1)[:, inputs - kept :].sum()
        groups = self._x.T.reshape(self._x.shape[1], -1, m)
        return float(best - np.sort(groups, axis=-1)[..., m - n :].sum(dtype=np.float64))

    def _refresh(self, group: int) -> None:
        """Set, for each channel of a group, the n-th best of the others (its threshold) and its own sum against that."""
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
        """Return the gain of exchanging `channel` with each of ``start .. stop - 1``."""
        np.maximum(self._x[start:stop], self._threshold[channel], out=self._work)
        gains = self._work.sum(axis=1) - self._own[channel]
        np.maximum(self._threshold[start:stop], self._x[channel], out=self._work)
        gains += self._work.sum(axis=1) - self._own[start:stop]
        gains[self._place[start:stop] // self._m == self._place[channel] // self._m] = -np.inf
        if self._classes is not None:
            gains[self._classes[start:stop] != self._classes[channel]] = -np.inf
        return np.asarray(gains, dtype=np.float64)

    def swap(self, channel: int, other: int) -> None:
        """Exchange two channels."""
        here, there = self._place[channel], self._place[other]
        self.order[here], self.order[there] = other, channel
        self._place[channel], self._place[other] = there, here
        self._refresh(here // self._m)
        self._refresh(there // self._m)


class Tiles:
    """Outputs in tiles; a tile column counts by how much its squared scores exceed the cut.

    Maximizing what exceeds a fixed cut maximizes what is kept within a budget, for the budget that corresponds to the cut.
    """

    def __init__(self, scores: Scores, pattern: TileWise | TileElementWise | TileVectorWise) -> None:
        outputs, inputs = scores.shape
        tile = pattern.tile
        self._tile = tile
        self.movable = outputs
        self.most = float("inf")
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
        """Return the gain of exchanging `channel` with each of ``start .. stop - 1``."""
        here, there = self._place[channel] // self._tile, self._place[start:stop] // self._tile
        x, others = self._x[channel], self._x[start:stop]
        value_here = np.maximum(self._sums[here] - x + others, self._cut).sum(axis=1, dtype=np.float64)
        value_there = np.maximum(self._sums[there] - others + x, self._cut).sum(axis=1, dtype=np.float64)
        gains: NDArray[np.float64] = value_here + value_there - self._values[here] - self._values[there]
        gains[there == here] = -np.inf
        return gains

    def swap(self, channel: int, other: int) -> None:
        """Exchange two channels."""
        here, there = self._place[channel], self._place[other]
        self.order[here], self.order[there] = other, channel
        self._place[channel], self._place[other] = there, here
        for tile in (here // self._tile, there // self._tile):
            members = self.order[tile * self._tile : (tile + 1) * self._tile]
            self._sums[tile] = self._x[members].sum(axis=0)
            self._values[tile] = np.maximum(self._sums[tile], self._cut).sum(dtype=np.float64)


def _outer_density(pattern: TileWise | TileElementWise | TileVectorWise) -> float:
    """Return the share of tile columns kept among the remaining outputs: the second of the pattern's two equal cuts."""
    match pattern:
        case TileVectorWise():
            density = pattern.density * pattern.m / pattern.n
        case TileElementWise():
            density = pattern.density - pattern.extra
        case _:
            density = pattern.density
    return float(np.sqrt(density))
