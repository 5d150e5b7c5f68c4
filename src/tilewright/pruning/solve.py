"""From scores to masks, for any number of weights, each with its own pattern."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..patterns import Pattern, as_matrix, from_matrix
from .assignment import Assignment
from .budgets import BUDGETS
from .scores import Scorer
from .tensors import whole
from .weights import Weight

__all__ = ["solve"]


def solve(taken: Sequence[Assignment], scorer: Scorer, budget: str) -> dict[str, Tensor]:
    """Return the mask of every weight by weight name, bool in stored shape; the model is not changed.

    Parameters
    ----------
    taken
        Assignments with a pattern.
    scorer
        Function that returns the scores of a weight.
    budget
        How the sparsity is split over the weights that share a pattern: ``"uniform"`` or ``"global"``.
    """
    weights = {assignment.weight.name: assignment.weight for assignment in taken}
    groups: dict[Pattern, list[str]] = {}
    for assignment in taken:
        assert assignment.pattern is not None
        groups.setdefault(assignment.pattern, []).append(assignment.weight.name)
    masks: dict[str, NDArray[np.bool_]] = {}
    scores = _matrices(weights, scorer)
    for pattern, names in groups.items():
        masks |= BUDGETS[budget](pattern, names, scores)
    return {
        name: torch.from_numpy(from_matrix(masks[name], weight.layout, tuple(weight.tensor.shape)).copy())
        for name, weight in weights.items()
    }


def _matrices(weights: Mapping[str, Weight], scorer: Scorer) -> Callable[[str], NDArray[Any]]:
    """Return a function from weight name to scores, ``[N, K]``, float32 or float64."""

    def scores(name: str) -> NDArray[Any]:
        weight = weights[name]
        values = whole(scorer(weight))
        wide = values.to("cpu", torch.float64 if values.dtype == torch.float64 else torch.float32)
        return as_matrix(wide.numpy(), weight.layout)

    return scores
