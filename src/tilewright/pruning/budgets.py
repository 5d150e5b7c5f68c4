"""How the sparsity a pattern asks for is split over layers. Patterns of fixed density come out the same under every budget."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..patterns import Pattern, project

__all__ = ["BUDGETS", "global_", "uniform"]

Matrix = NDArray[Any]
Masks = dict[str, NDArray[np.bool_]]


def uniform(pattern: Pattern, names: Sequence[str], scores: Callable[[str], Matrix]) -> Masks:
    """Give every layer the sparsity of the pattern."""
    masks: Masks = {}
    for name in names:  # one layer's scores in memory at a time
        masks |= project(pattern, {name: scores(name)})
    return masks


def global_(pattern: Pattern, names: Sequence[str], scores: Callable[[str], Matrix]) -> Masks:
    """Rank all layers that share the pattern together, so that the sparsity holds over all of them."""
    if pattern.fixed:
        return uniform(pattern, names, scores)
    return project(pattern, {name: scores(name) for name in names})


BUDGETS: dict[str, Callable[[Pattern, Sequence[str], Callable[[str], Matrix]], Masks]] = {
    "uniform": uniform,
    "global": global_,
}
