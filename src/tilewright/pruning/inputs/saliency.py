"""Scores of one weight from the second moments of its inputs, as matrices; shared by the model scores and the update."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .activations import Moments

__all__ = ["DAMPING", "damped", "inverse", "second_order_rows", "wanda_rows"]

DAMPING = 0.01
"""Value added to the diagonal of a Gram matrix, as a fraction of its mean: SparseGPT's default, and the best of the values tried."""


def damped(gram: Tensor, damping: float = DAMPING) -> Tensor:
    """Return the Gram matrix in float64 with `damping` times its mean diagonal added to the diagonal: positive definite."""
    wide = gram.double()
    return wide + damping * wide.diagonal().mean() * torch.eye(len(wide), dtype=wide.dtype, device=wide.device)


def inverse(gram: Tensor) -> Tensor:
    """Return the inverse of a positive definite matrix, through its Cholesky factor."""
    return torch.cholesky_inverse(torch.linalg.cholesky(gram))


def wanda_rows(weights: Tensor, sums: Sequence[Moments]) -> Tensor:
    """Return the scores ``|W| * ||X||_2``, ``[N, K]``."""
    scores = weights.abs().to(sums[0].gram.dtype)
    for moments in sums:
        scores[moments.outputs] *= moments.squares.sqrt()
    return scores


def second_order_rows(weights: Tensor, sums: Sequence[Moments], damping: float = DAMPING) -> Tensor:
    """Return the scores ``|W| / sqrt([H^-1]_kk)``, ``[N, K]``."""
    scores = weights.abs().to(sums[0].gram.dtype)
    for moments in sums:
        root = inverse(damped(moments.gram, damping)).diagonal().sqrt()
        scores[moments.outputs] /= root.to(scores.dtype)
    return scores
