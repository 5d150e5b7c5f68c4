"""From scores to masks for any number of weights, each with a pattern of its own."""

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
    """Return the mask of every weight in its stored shape; the model is not touched."""
    weights = {choice.weight.name: choice.weight for choice in taken}
    groups: dict[Pattern, list[str]] = {}
    for choice in taken:
        assert choice.pattern is not None
        groups.setdefault(choice.pattern, []).append(choice.weight.name)
    masks: dict[str, NDArray[np.bool_]] = {}
    scores = _matrices(weights, scorer)
    for pattern, names in groups.items():
        masks |= BUDGETS[budget](pattern, names, scores)
    return {
        name: torch.from_numpy(from_matrix(masks[name], weight.layout, tuple(weight.tensor.shape)).copy())
        for name, weight in weights.items()
    }


def _matrices(weights: Mapping[str, Weight], scorer: Scorer) -> Callable[[str], NDArray[Any]]:
    """Return a function that gives the scores of a named weight as ``[N, K]``, float32 or float64."""

    def scores(name: str) -> NDArray[Any]:
        weight = weights[name]
        values = whole(scorer(weight))
        wide = values.to("cpu", torch.float64 if values.dtype == torch.float64 else torch.float32)
        return as_matrix(wide.numpy(), weight.layout)

    return scores
