"""Weights as torch matrices ``[N, K]`` and back: `patterns.as_matrix` for tensors."""

import torch
from torch import Tensor

from .weights import Weight

__all__ = ["as_rows", "as_stored"]


def as_rows(weight: Weight, values: Tensor) -> Tensor:
    """Return values in the weight's stored shape as a matrix ``[N, K]``; a view where possible."""
    if weight.layout == "transposed":
        return values.T
    if weight.layout == "conv":
        return values.movedim(1, -1).reshape(weight.matrix_shape)
    return values


def as_stored(weight: Weight, rows: Tensor) -> Tensor:
    """Return a matrix ``[N, K]`` in the weight's stored shape: the inverse of `as_rows`."""
    if weight.layout == "transposed":
        return rows.T.contiguous()
    if weight.layout == "conv":
        shape: torch.Size = weight.tensor.shape
        return rows.reshape(shape[0], *shape[2:], shape[1]).movedim(-1, 1).contiguous()
    return rows
