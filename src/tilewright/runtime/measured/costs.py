"""`measured_costs`: the time of every layer of a model on this machine, dense and under several patterns.

`tilewright.pruning.plan` needs this table to meet a latency.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...errors import ArgumentError
from ...formats import pack
from ...patterns import Pattern, as_matrix, mask, parse
from ...pruning import Weight, prunable
from ..install import has_kernel
from ..layer import SparseLinear
from .choice import check_tokens
from .timing import timings

__all__ = ["measured_costs"]

_DENSE = "dense"


def measured_costs(
    model: nn.Module, patterns: Pattern | str | Sequence[Pattern | str], tokens: int = 128
) -> dict[tuple[str, str], float]:
    """Measure the time of one call of every linear layer in seconds, dense and pruned to each pattern.

    Layers of the same shape are measured once. A pruned layer never costs more than the dense one, which would run in its
    place. The model is not changed. Times are for float32, this machine and torch's current number of threads.

    Parameters
    ----------
    model
        A dense model. Copies of its weights are pruned by magnitude for the measurement.
    patterns
        Patterns to measure on each layer that can take them.
    tokens
        Number of tokens per call, the rows of the input. Default: 128.

    Returns
    -------
    dict
        Seconds by (weight name, pattern text or ``"dense"``). Weights that never run packed (convolutions, recurrent
        layers) are not included; leave them out of the plan.

    Raises
    ------
    ArgumentError
        If `tokens` is not a positive integer, or the model has no linear layer.
    CheckFailed
        If the result of a kernel differs from that of the dense layer.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    >>> costs = measured_costs(model, ["2:4", "1:4"], tokens=16)
    >>> len(costs), costs["0.weight", "2:4"] <= costs["0.weight", "dense"]
    (6, True)
    """
    check_tokens(tokens)
    given = [patterns] if isinstance(patterns, Pattern | str) else list(patterns)
    tried = [parse(one) if isinstance(one, str) else one for one in given]
    weights = [w for w in prunable(model) if has_kernel(w.module, w.parameter_name, w.layout)]
    if not weights:
        raise ArgumentError(
            f"{type(model).__name__} has no linear layer that could run packed, so there is nothing to measure"
        )
    by_shape: dict[tuple[int, int], dict[str, float]] = {}
    for weight in weights:
        if weight.matrix_shape not in by_shape:
            by_shape[weight.matrix_shape] = _measured(weight, tried, tokens)
    return {(w.name, text): seconds for w in weights for text, seconds in by_shape[w.matrix_shape].items()}


def _measured(weight: Weight, tried: Sequence[Pattern], tokens: int) -> dict[str, float]:
    """Return the seconds by pattern text, including the dense layer's."""
    matrix = as_matrix(weight.tensor.detach().float().cpu().numpy(), weight.layout)
    x = torch.randn(tokens, matrix.shape[1], generator=torch.Generator().manual_seed(0))
    found = {pattern.canonical: pair for pattern, pair in _pairs(matrix, tried, x)}
    if not found:  # no pattern fits, but the time of the dense layer is needed all the same
        layer = nn.Linear(*reversed(matrix.shape))
        found = {_DENSE: _seconds(layer, layer, x)}
    dense = min(pair[0] for pair in found.values())
    return {_DENSE: dense} | {text: min(pair[1], dense) for text, pair in found.items() if text != _DENSE}


def _pairs(
    matrix: NDArray[np.float32], tried: Sequence[Pattern], x: torch.Tensor
) -> Iterator[tuple[Pattern, tuple[float, float]]]:
    bias = torch.zeros(len(matrix))
    for pattern in tried:
        if pattern.refusal(matrix.shape) is None:
            keep = mask(pattern, np.abs(matrix))
            sparse = SparseLinear(pack(np.where(keep, matrix, np.float32(0)), pattern, keep), bias)
            with torch.inference_mode():
                yield pattern, _seconds(sparse.dense(), sparse, x)


def _seconds(dense: nn.Module, sparse: nn.Module, x: torch.Tensor) -> tuple[float, float]:
    (result,) = timings(dense, sparse, [x])
    return result.dense, result.sparse
