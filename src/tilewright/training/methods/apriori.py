"""Apriori tuning: an element-wise pass says which outputs and tile columns the tile-wise cuts protect, and which they drop first.

The tile-wise paper describes the idea (Guo et al., arXiv 2008.13006); its artifact accepts flags for it and ignores them. The rule here
is ours. With the scores of the cut, an unstructured mask is taken at the same sparsity over all layers. Then, at each of the two
cuts of the tile-wise algorithm, what the unstructured mask keeps nearly all of comes before everything else, and what it prunes
nearly all of comes after; within the three classes the scores of the algorithm decide.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError
from ...patterns import Pattern, TileElementWise, TileVectorWise, TileWise, Unstructured, project

__all__ = ["Apriori", "tuned_masks"]

Matrices = Mapping[str, NDArray[Any]]
Masks = dict[str, NDArray[np.bool_]]

_FAR = 1e40
"""Ratio between the scores of two classes, far above that within one; its square is far inside a double."""


@dataclass(frozen=True)
class Apriori:
    """Which outputs and tile columns are extreme.

    Parameters
    ----------
    protect
        Share kept by the element-wise pass from which on an output or a tile column is kept before all others.
    drop
        Share up to which it is pruned before all others.

    Raises
    ------
    ArgumentError
        Unless ``0 <= drop < protect <= 1``.
    """

    protect: float = 0.95
    drop: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.drop < self.protect <= 1:
            raise ArgumentError(
                f"apriori tuning needs 0 <= drop < protect <= 1; it got drop {self.drop} and protect {self.protect}"
            )


def tuned_masks(pattern: Pattern, scores: Matrices, apriori: Apriori) -> Masks:
    """Return tile-wise masks of several weights, ranked together, with apriori tuning.

    Parameters
    ----------
    pattern
        Tile-wise, tile-element-wise or tile-vector-wise.
    scores
        ``[N, K]`` by name.
    apriori
        The limits.

    Raises
    ------
    ArgumentError
        If the pattern has no tiles.
    """
    wide = {name: np.asarray(score, dtype=np.float64) for name, score in scores.items()}
    match pattern:
        case TileWise():
            return _tile_wise(pattern, wide, apriori)
        case TileElementWise():
            base = _tile_wise(TileWise(pattern.tile, pattern.sparsity + pattern.extra), wide, apriori)
            best = {name: np.where(base[name], np.inf, score) for name, score in wide.items()}
            top = max(float(score.max()) for score in wide.values()) + 1
            return project(
                Unstructured(pattern.sparsity), {name: np.minimum(score, top) for name, score in best.items()}
            )
        case TileVectorWise():
            outer = round(1 - pattern.density * pattern.m / pattern.n, 12)
            base = _tile_wise(TileWise(pattern.tile, outer), wide, apriori)
            floor = (
                np.finfo(np.float64).tiny ** 0.25
            )  # a kept tile column stays above a dropped one though its scores are zero
            return project(
                pattern, {name: np.where(base[name], np.maximum(score, floor), 0) for name, score in wide.items()}
            )
    raise ArgumentError(f"apriori tuning is for tile-wise patterns (tw, tew, tvw), and the pattern is {pattern}")


def _tile_wise(pattern: TileWise, scores: Matrices, apriori: Apriori) -> Masks:
    """Return the masks of both cuts: outputs in three classes, then tile columns in three classes."""
    single = project(Unstructured(pattern.sparsity), scores)
    first = 1 - float(np.sqrt(1 - pattern.sparsity))
    norms = {
        name: (_factor(single[name].mean(axis=1), apriori) * np.sqrt(np.square(score).sum(axis=1)) / score.shape[1])[
            :, None
        ]
        for name, score in scores.items()
    }
    alive = project(Unstructured(first), norms)
    floor = np.finfo(np.float64).tiny ** 0.25
    guided = {}
    for name, score in scores.items():
        rows = np.flatnonzero(alive[name])
        guide = np.zeros_like(score)  # outputs that the first cut drops score nothing, so that it drops them again
        for start in range(0, len(rows), pattern.tile):
            tile = rows[start : start + pattern.tile]
            guide[tile] = np.maximum(score[tile], floor) * _factor(single[name][tile].mean(axis=0), apriori)
        guided[name] = guide
    return project(pattern, guided)


def _factor(shares: NDArray[np.float64], apriori: Apriori) -> NDArray[np.float64]:
    return np.where(shares >= apriori.protect, _FAR, np.where(shares <= apriori.drop, 1 / _FAR, 1.0))
