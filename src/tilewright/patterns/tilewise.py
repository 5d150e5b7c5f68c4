"""Tile-wise masks: TW, TEW and TVW, ranked over any number of layers at once.

The steps follow the artifact of the tile-wise paper (Guo et al., arXiv 2008.13006): two cuts of ``1 - sqrt(1 - s)`` each,
outputs first; the remaining outputs are regrouped into tiles; tile columns are scored by their norm over the outputs the
tile spans. One thing differs: the second cut keeps tile columns until the budget is used up, so the target sparsity is met
to within a tile column.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .groups import nm_mask
from .ranking import keep_best, split_like
from .values import TileElementWise, TileVectorWise, TileWise

__all__ = ["split_elements", "tile_columns", "tile_element_wise", "tile_vector_wise", "tile_wise"]

Scores = Sequence[NDArray[Any]]
Masks = list[NDArray[np.bool_]]


def tile_wise(pattern: TileWise, scores: Scores) -> Masks:
    """Return the TW masks of all layers, ranked together."""
    outputs = _best_outputs(scores, pattern.sparsity)
    return _cut_columns(scores, outputs, pattern.tile, pattern.density)


def tile_element_wise(pattern: TileElementWise, scores: Scores) -> Masks:
    """Return TW masks at ``sparsity + extra`` with the best pruned elements of all layers restored."""
    base = tile_wise(TileWise(pattern.tile, pattern.sparsity + pattern.extra), scores)
    kept = sum(int(np.count_nonzero(mask)) for mask in base)
    total = sum(mask.size for mask in base)
    pruned = np.concatenate([np.where(mask, -1, score).ravel() for mask, score in zip(base, scores, strict=True)])
    restored = keep_best(pruned, min(round(pattern.density * total), total) - kept)
    return [m | r for m, r in zip(base, split_like(restored, [m.shape for m in base]), strict=True)]


def tile_vector_wise(pattern: TileVectorWise, scores: Scores) -> Masks:
    """Return TW masks whose tiles are cut to n:m along their compacted inputs."""
    outer = pattern.density * pattern.m / pattern.n
    outputs = [
        _usable(kept, _norms(score), pattern)
        for kept, score in zip(_best_outputs(scores, 1 - outer), scores, strict=True)
    ]
    masks = _cut_columns(scores, outputs, pattern.tile, outer)
    for mask, score in zip(masks, scores, strict=True):
        for rows, columns in tile_columns(mask, pattern.tile):
            part = np.ix_(rows, columns)
            mask[part] = _inner(score[part], pattern)
    return masks


def tile_columns(mask: NDArray[np.bool_], tile: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the outputs of each tile and the columns that any of them keeps; empty outputs belong to no tile."""
    alive = np.flatnonzero(mask.any(axis=1))
    groups = [alive[start : start + tile] for start in range(0, len(alive), tile)]
    return [(rows, np.flatnonzero(mask[rows].any(axis=0))) for rows in groups]


def split_elements(
    mask: NDArray[np.bool_], tile: int, *, fewest: bool = False
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Split a TEW mask into its tile-wise part and the elements restored on top.

    The mask does not record which outputs the tile-wise part pruned. So outputs are ranked by their number of kept
    elements, a grid of cuts between "regrouped" and "pruned" is tried, and the split that is cheapest to store wins (an
    element costs a value and a column, a tile column its values and one column), or with `fewest` the one with the fewest
    single elements. The other figure breaks ties, such as those of tiles of one output. The two parts always add up to the
    mask.
    """
    counts = np.count_nonzero(mask, axis=1)
    kept = int(counts.sum())
    levels = np.unique(counts[counts > 0])
    best, least = np.zeros_like(mask), _rank(1.5 * kept, kept, fewest)
    for level in levels[np.unique(np.linspace(0, len(levels) - 1, min(len(levels), 33)).astype(int))]:
        rows = np.flatnonzero(counts >= level)
        base = np.zeros_like(mask)
        cost = 0.0
        for start in range(0, len(rows), tile):
            group = rows[start : start + tile]
            shared = mask[group].all(axis=0)
            base[group] = shared
            cost += np.count_nonzero(shared) * (len(group) + 0.5)
        single = kept - int(np.count_nonzero(base))
        rank = _rank(cost + 1.5 * single, single, fewest)
        if rank < least:
            best, least = base, rank
    return best, mask & ~best


def _rank(cost: float, single: int, fewest: bool) -> tuple[float, float]:
    return (single, cost) if fewest else (cost, single)


def _norms(score: NDArray[Any]) -> NDArray[Any]:
    """Return the score of each output: its L2 norm over the K inputs, divided by K."""
    norms: NDArray[Any] = np.sqrt(np.einsum("nk,nk->n", score, score)) / score.shape[1]
    return norms


def _best_outputs(scores: Scores, sparsity: float) -> Masks:
    """Keep the best ``sqrt(1 - sparsity)`` of the outputs of all layers."""
    norms = [_norms(score) for score in scores]
    total = sum(len(n) for n in norms)
    kept = keep_best(np.concatenate(norms), round(total * float(np.sqrt(1 - sparsity))))
    return split_like(kept, [n.shape for n in norms])


def _cut_columns(scores: Scores, outputs: Masks, tile: int, density: float) -> Masks:
    """Regroup the kept outputs `tile` at a time and keep the best tile columns of all layers."""
    parts = [_column_scores(score, kept, tile) for score, kept in zip(scores, outputs, strict=True)]
    widths = [np.repeat(np.diff(starts), part.shape[1]) for part, starts in parts]
    budget = round(density * sum(score.size for score in scores))
    flat = np.concatenate([part.ravel() for part, _ in parts])
    keep = split_like(keep_best(flat, budget, np.concatenate(widths)), [part.shape for part, _ in parts])
    masks = []
    for score, rows, columns, (_, starts) in zip(scores, outputs, keep, parts, strict=True):
        mask = np.zeros(score.shape, dtype=np.bool_)
        mask[rows] = np.repeat(columns, np.diff(starts), axis=0)
        masks.append(mask)
    return masks


def _column_scores(score: NDArray[Any], kept: NDArray[np.bool_], tile: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the column scores ``[tiles, K]`` of one layer and where each tile starts among the kept outputs.

    A column's score is its norm over the tile's outputs, divided by the number of original outputs the tile spans: pruned
    outputs inside the span count as zeros. This is the artifact's rule; it does not divide by the tile size.
    """
    rows = np.flatnonzero(kept)
    starts = np.append(np.arange(0, len(rows), tile), len(rows)).astype(np.int64)
    if not len(rows):
        return np.zeros((0, score.shape[1])), np.zeros(1, dtype=np.int64)
    squares = np.add.reduceat(np.square(score[rows]), starts[:-1], axis=0)
    ends = np.append(rows[starts[1:-1] - 1] + 1, len(kept))
    spans = np.diff(ends, prepend=0)
    return np.sqrt(squares) / spans[:, None], starts


def _usable(kept: NDArray[np.bool_], norms: NDArray[Any], pattern: TileVectorWise) -> NDArray[np.bool_]:
    """Adjust the kept outputs so that the last tile is wide enough to use every column it keeps."""
    need = -(-pattern.m // pattern.n)
    last = int(np.count_nonzero(kept)) % pattern.tile
    if last == 0 or last >= need:
        return kept
    kept = kept.copy()
    order = np.argsort(-norms, kind="stable")
    spare = order[~kept[order]]
    if len(spare) >= need - last:
        kept[spare[: need - last]] = True
    else:
        kept[order[kept[order]][-last:]] = False
    return kept


def _inner(score: NDArray[Any], pattern: TileVectorWise) -> NDArray[np.bool_]:
    """Return the n:m mask of one compacted tile ``[w, c]``, every column used by at least one output.

    A column that no output keeps would vanish from the mask and shift the group boundaries. It is given to the output that
    loses least by exchanging it for another column of the same group that a second output keeps too.
    """
    mask = nm_mask(score, pattern.n, pattern.m)
    for column in np.flatnonzero(~mask.any(axis=0)):
        start = column - column % pattern.m
        group = slice(start, min(start + pattern.m, mask.shape[1]))
        part = mask[:, group]
        shared = part & (np.count_nonzero(part, axis=0) > 1)
        loss = np.where(shared, score[:, group] - score[:, column, None], np.inf)
        output, victim = np.unravel_index(int(np.argmin(loss)), loss.shape)
        mask[output, start + int(victim)] = False
        mask[output, column] = True
    return mask
