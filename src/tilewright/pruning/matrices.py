"""Weights as torch matrices ``[N, K]``, and back: what `patterns.as_matrix` does for arrays."""

import torch
from torch import Tensor

from .weights import Weight

__all__ = ["as_rows", "as_stored"]


def as_rows(weight: Weight, values: Tensor) -> Tensor:
    """Return values of the weight's shape as ``[N, K]``; a view where the storage allows it."""
    if weight.layout == "transposed":
        return values.T
    if weight.layout == "conv":
        return values.movedim(1, -1).reshape(weight.matrix_shape)
    return values


def as_stored(weight: Weight, rows: Tensor) -> Tensor:
    """Return ``[N, K]`` in the weight's shape: the inverse of `as_rows`."""
    if weight.layout == "transposed":
        return rows.T.contiguous()
    if weight.layout == "conv":
        shape: torch.Size = weight.tensor.shape
        return rows.reshape(shape[0], *shape[2:], shape[1]).movedim(-1, 1).contiguous()
    return rows
