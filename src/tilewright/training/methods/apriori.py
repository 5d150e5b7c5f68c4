"""Apriori tuning: an element-wise pass decides which outputs and tile columns the tile-wise cuts protect, and which they drop first.

The tile-wise paper describes the idea (Guo et al., arXiv 2008.13006); its artifact accepts flags for it and ignores them, so the rule
here is our own. An unstructured mask is computed from the scores of the cut, at the same sparsity over all layers. At each of the
two cuts of the tile-wise algorithm, rows and columns that this mask keeps almost entirely then rank before all others, and those
that it prunes almost entirely rank after all others; within these three classes the usual scores decide.
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
"""Factor between the scores of two classes: far above any ratio within a class, and its square is far from overflowing a double."""


@dataclass(frozen=True)
class Apriori:
    """Thresholds of apriori tuning, as shares of elements that the element-wise pass keeps.

    Parameters
    ----------
    protect
        Outputs and tile columns with at least this share are kept before all others. Default: 0.95.
    drop
        Outputs and tile columns with at most this share are pruned before all others. Default: 0.05.

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
                f"apriori tuning needs 0 <= drop < protect <= 1; got drop={self.drop}, protect={self.protect}"
            )


def tuned_masks(pattern: Pattern, scores: Matrices, apriori: Apriori) -> Masks:
    """Return tile-wise masks of several weights, ranked together, with apriori tuning.

    Parameters
    ----------
    pattern
        A tile-wise, tile-element-wise or tile-vector-wise pattern.
    scores
        Scores ``[N, K]`` by weight name.
    apriori
        The thresholds.

    Returns
    -------
    dict
        Boolean masks ``[N, K]`` by weight name.

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
            # With this floor, a kept tile column ranks above dropped ones even if its scores are zero.
            floor = np.finfo(np.float64).tiny ** 0.25
            return project(
                pattern, {name: np.where(base[name], np.maximum(score, floor), 0) for name, score in wide.items()}
            )
    raise ArgumentError(f"apriori tuning needs a tile-wise pattern (tw, tew, tvw); got {pattern}")


def _tile_wise(pattern: TileWise, scores: Matrices, apriori: Apriori) -> Masks:
    """Return the masks after both cuts: outputs ranked in three classes, then tile columns ranked in three classes."""
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
        guide = np.zeros_like(score)  # outputs dropped by the first cut score zero, so that `project` drops them too
        for start in range(0, len(rows), pattern.tile):
            tile = rows[start : start + pattern.tile]
            guide[tile] = np.maximum(score[tile], floor) * _factor(single[name][tile].mean(axis=0), apriori)
        guided[name] = guide
    return project(pattern, guided)


def _factor(shares: NDArray[np.float64], apriori: Apriori) -> NDArray[np.float64]:
    return np.where(shares >= apriori.protect, _FAR, np.where(shares <= apriori.drop, 1 / _FAR, 1.0))
