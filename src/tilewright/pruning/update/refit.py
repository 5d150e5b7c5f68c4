"""The best weights for a mask: least squares on the kept elements, output by output."""

import numpy as np
import torch
from torch import Tensor

__all__ = ["errors", "refit", "unrestricted"]

_SHARED = 4
"""From this many outputs to a mask on, one factorization a mask beats conjugate gradients over all outputs."""


def errors(weights: Tensor, target: Tensor, gram: Tensor) -> Tensor:
    """Return the squared error of every output, ``||(w - t) X||^2``: ``[N]``."""
    apart = weights - target
    return ((apart @ gram.to(apart.dtype)) * apart).sum(dim=1)


def unrestricted(weights: Tensor, cross: Tensor, gram: Tensor, ridge: float) -> Tensor:
    """Return the dense weights that come closest to ``W Y`` on the inputs X: ``[N, K]``.

    ``min ||W Y - T X||^2 + d ||W - T||^2`` with d the ridge times the mean diagonal of ``X^T X``: solved by
    ``T = (W Y^T X + d W) (X^T X + d)^-1``.
    """
    wide, gram = weights.double(), gram.double()
    weight = ridge * gram.diagonal().mean()
    hessian = gram + weight * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    right = wide @ cross.double() + weight * wide
    return torch.cholesky_solve(right.T, torch.linalg.cholesky(hessian)).T.to(weights.dtype)


def refit(start: Tensor, mask: Tensor, target: Tensor, hessian: Tensor, iterations: int = 50) -> Tensor:
    """Return the weights on the mask that minimise ``(w - t) H (w - t)^T`` for every output.

    Parameters
    ----------
    start
        ``[N, K]``, zero off the mask: where iterations begin, and what the result is never worse than.
    mask
        ``[N, K]``, bool.
    target
        ``[N, K]``: the weights whose outputs are to be met.
    hessian
        ``[K, K]``, positive definite.
    iterations
        At most, where outputs have masks of their own. Outputs that share a mask are solved exactly.

    Returns
    -------
    Tensor
        ``[N, K]``, zero off the mask. An output for which the solution came out worse than its start keeps its start.
    """
    packed = np.packbits(mask.cpu().numpy(), axis=1)
    _, first, groups = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    solve = _by_mask if len(mask) >= _SHARED * len(first) else _by_gradients
    found = solve(start, mask, target, hessian, torch.from_numpy(groups.ravel()).to(mask.device), iterations)
    better = errors(found, target, hessian) <= errors(start, target, hessian)  # False for NaN too
    return torch.where(better[:, None], found, start)


def _by_mask(start: Tensor, mask: Tensor, target: Tensor, hessian: Tensor, groups: Tensor, iterations: int) -> Tensor:
    """Solve the normal equations of each mask once, for all outputs that have it."""
    found = torch.zeros_like(start)
    wide = hessian.double()
    right = target.double() @ wide
    for group in range(int(groups.max()) + 1):
        rows = torch.nonzero(groups == group).ravel()
        columns = torch.nonzero(mask[rows[0]]).ravel()
        if len(columns):
            factor = torch.linalg.cholesky(wide[columns][:, columns])
            solved = torch.cholesky_solve(right[rows][:, columns].T, factor).T
            found[rows[:, None], columns] = solved.to(found.dtype)
    return found


def _by_gradients(
    start: Tensor, mask: Tensor, target: Tensor, hessian: Tensor, groups: Tensor, iterations: int
) -> Tensor:
    """Iterate conjugate gradients for all outputs at once, each in its own subspace, scaled by the diagonal."""
    inside = mask.to(start.dtype)
    hessian = hessian.to(start.dtype)
    scale = hessian.diagonal()
    found = start * inside
    residual = ((target - found) @ hessian) * inside
    scaled = residual / scale
    direction = scaled.clone()
    power = (residual * scaled).sum(dim=1, keepdim=True)
    goal = 1e-8 * power
    for _ in range(iterations):
        ahead = (direction @ hessian) * inside
        curve = (direction * ahead).sum(dim=1, keepdim=True)
        step = torch.where(curve > 0, power / curve, 0)
        found += step * direction
        residual -= step * ahead
        scaled = residual / scale
        following = (residual * scaled).sum(dim=1, keepdim=True)
        if bool((following <= goal).all()):
            break
        direction = scaled + torch.where(power > 0, following / power, 0) * direction
        power = following
    return found
