"""Masks from scores: `mask` for one weight, `project` for several ranked together."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PatternError
from .groups import nm_mask
from .ranking import keep_best, split_like
from .tilewise import tile_element_wise, tile_vector_wise, tile_wise
from .transposable import transposable_mask
from .values import NM, Block, Pattern, TileElementWise, TileVectorWise, TileWise, Unstructured

__all__ = ["mask", "project"]


def mask(pattern: Pattern, scores: NDArray[Any]) -> NDArray[np.bool_]:
    """Return the mask that keeps the highest scores a pattern allows.

    Parameters
    ----------
    pattern
        The pattern of the mask.
    scores
        Importance of each element, ``[N, K]``, finite and non-negative; for magnitude pruning, ``abs(weight)``.

    Returns
    -------
    ndarray of bool, ``[N, K]``
        True where an element is kept. Ties go to the lowest index.

    Raises
    ------
    PatternError
        If the weight cannot take the pattern, or the scores are not finite and non-negative.

    Examples
    --------
    >>> mask(NM(2, 4), np.array([[0.1, 3.0, 2.0, 0.2, 5.0, 5.0, 5.0, 5.0]])).astype(int)
    array([[0, 1, 1, 0, 1, 1, 0, 0]])
    """
    return project(pattern, {"scores": scores})["scores"]


def project(pattern: Pattern, scores: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.bool_]]:
    """Return the masks of several weights by name, ranked against each other if the pattern has a global budget.

    Parameters
    ----------
    pattern
        The pattern of every mask. n:m patterns treat each weight on its own; for all others `sparsity` holds over all weights
        together.
    scores
        Scores ``[N, K]`` of each weight by name. Ties between weights go to the first.

    Raises
    ------
    PatternError
        As for `mask`; the message names the weight.
    """
    checked = [_check(pattern, name, score) for name, score in scores.items()]
    return dict(zip(scores, _solver(pattern)(pattern, checked), strict=True)) if checked else {}


def _check(pattern: Pattern, name: str, score: NDArray[Any]) -> NDArray[Any]:
    array = np.asarray(score)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32 if array.dtype == np.float16 else np.float64)
    reason = pattern.refusal(array.shape)
    if reason:
        raise PatternError(f"{name} cannot take the pattern {pattern}: {reason}")
    low, high = array.min(), array.max()
    if not (low >= 0 and np.isfinite(high)):  # a NaN anywhere makes both NaN
        raise PatternError(
            f"{name} contains {array[~((array >= 0) & np.isfinite(array))][0]} at "
            f"{np.argwhere(~((array >= 0) & np.isfinite(array)))[0].tolist()}; scores must be finite and non-negative. "
            "Check the weights for NaN and infinities, and take the absolute value of signed scores"
        )
    return array


def _solver(pattern: Pattern) -> Callable[[Any, Sequence[NDArray[Any]]], list[NDArray[np.bool_]]]:
    solvers: dict[type, Callable[[Any, Sequence[NDArray[Any]]], list[NDArray[np.bool_]]]] = {
        NM: lambda p, scores: [_nm(p, score) for score in scores],
        TileWise: tile_wise,
        TileElementWise: tile_element_wise,
        TileVectorWise: tile_vector_wise,
        Block: _block,
        Unstructured: _unstructured,
    }
    return solvers[type(pattern)]


def _nm(pattern: NM, score: NDArray[Any]) -> NDArray[np.bool_]:
    if pattern.transposable:
        return transposable_mask(score, pattern.n, pattern.m)
    if pattern.tile == 1:
        return nm_mask(score, pattern.n, pattern.m)
    starts = np.arange(0, len(score), pattern.tile)
    shared = nm_mask(np.add.reduceat(np.square(score), starts, axis=0), pattern.n, pattern.m)
    return np.repeat(shared, np.diff(np.append(starts, len(score))), axis=0)


def _block(pattern: Block, scores: Sequence[NDArray[Any]]) -> list[NDArray[np.bool_]]:
    """Rank blocks by their root mean square, so that blocks cut short by an edge compete fairly."""
    means, sizes, shapes = [], [], []
    for score in scores:
        rows = np.arange(0, score.shape[0], pattern.rows)
        columns = np.arange(0, score.shape[1], pattern.cols)
        size = np.outer(np.diff(np.append(rows, score.shape[0])), np.diff(np.append(columns, score.shape[1])))
        squares = np.add.reduceat(np.add.reduceat(np.square(score), rows, axis=0), columns, axis=1)
        means.append((squares / size).ravel())
        sizes.append(size.ravel())
        shapes.append(size.shape)
    budget = round(pattern.density * sum(score.size for score in scores))
    keep = split_like(keep_best(np.concatenate(means), budget, np.concatenate(sizes)), shapes)
    return [
        np.repeat(np.repeat(blocks, pattern.rows, axis=0)[: len(score)], pattern.cols, axis=1)[:, : score.shape[1]]
        for blocks, score in zip(keep, scores, strict=True)
    ]


def _unstructured(pattern: Unstructured, scores: Sequence[NDArray[Any]]) -> list[NDArray[np.bool_]]:
    flat = scores[0].ravel() if len(scores) == 1 else np.concatenate([score.ravel() for score in scores])
    keep = keep_best(flat, round(pattern.density * flat.size))
    return split_like(keep, [score.shape for score in scores])
