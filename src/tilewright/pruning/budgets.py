"""How a pattern's sparsity is split over layers. For patterns with fixed density both budgets give the same masks."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..patterns import Pattern, project

__all__ = ["BUDGETS", "global_", "uniform"]

Matrix = NDArray[Any]
Masks = dict[str, NDArray[np.bool_]]


def uniform(pattern: Pattern, names: Sequence[str], scores: Callable[[str], Matrix]) -> Masks:
    """Prune every layer to the sparsity of the pattern."""
    masks: Masks = {}
    for name in names:  # one layer's scores in memory at a time
        masks |= project(pattern, {name: scores(name)})
    return masks


def global_(pattern: Pattern, names: Sequence[str], scores: Callable[[str], Matrix]) -> Masks:
    """Rank the elements of all layers together, so that the sparsity holds over the layers as a whole."""
    if pattern.fixed:
        return uniform(pattern, names, scores)
    return project(pattern, {name: scores(name) for name in names})


BUDGETS: dict[str, Callable[[Pattern, Sequence[str], Callable[[str], Matrix]], Masks]] = {
    "uniform": uniform,
    "global": global_,
}
