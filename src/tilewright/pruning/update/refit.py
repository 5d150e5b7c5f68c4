"""The best weights for a given mask: least squares on the kept elements, output by output."""

import numpy as np
import torch
from torch import Tensor

__all__ = ["errors", "refit", "unrestricted"]

_SHARED = 4
"""Number of outputs per mask from which one factorization per mask is faster than conjugate gradients over all outputs."""


def errors(weights: Tensor, target: Tensor, gram: Tensor) -> Tensor:
    """Return the squared error of every output, ``||X (w - t)||^2``, as ``[N]``."""
    difference = weights - target
    return ((difference @ gram.to(difference.dtype)) * difference).sum(dim=1)


def unrestricted(weights: Tensor, cross: Tensor, gram: Tensor, ridge: float) -> Tensor:
    """Return the dense weights T, ``[N, K]``, whose outputs on the inputs X come closest to those of W on the inputs Y.

    They minimize ``||Y W^T - X T^T||^2 + d ||W - T||^2``, with d the ridge times the mean diagonal of ``X^T X``; the solution is
    ``T = (W Y^T X + d W) (X^T X + d)^-1``.
    """
    wide, gram = weights.double(), gram.double()
    weight = ridge * gram.diagonal().mean()
    hessian = gram + weight * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    products = wide @ cross.double() + weight * wide
    return torch.cholesky_solve(products.T, torch.linalg.cholesky(hessian)).T.to(weights.dtype)


def refit(start: Tensor, mask: Tensor, target: Tensor, hessian: Tensor, iterations: int = 50) -> Tensor:
    """Return the weights, zero off the mask, that minimize ``(w - t) H (w - t)^T`` for every output.

    Parameters
    ----------
    start
        Initial weights ``[N, K]``, zero off the mask. The result is never worse.
    mask
        Mask ``[N, K]``, bool, True = kept.
    target
        Weights ``[N, K]`` whose outputs are to be reproduced.
    hessian
        Matrix H ``[K, K]``, positive definite.
    iterations
        Maximum number of iterations for outputs that do not share a mask. Default: 50. Outputs that share a mask are solved exactly.

    Returns
    -------
    Tensor
        Weights ``[N, K]``, zero off the mask. An output whose solution is worse than its start keeps its start.
    """
    packed = np.packbits(mask.cpu().numpy(), axis=1)
    _, first, groups = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    solve = _by_mask if len(mask) >= _SHARED * len(first) else _by_gradients
    solution = solve(start, mask, target, hessian, torch.from_numpy(groups.ravel()).to(mask.device), iterations)
    better = errors(solution, target, hessian) <= errors(start, target, hessian)  # False for NaN too
    return torch.where(better[:, None], solution, start)


def _by_mask(start: Tensor, mask: Tensor, target: Tensor, hessian: Tensor, groups: Tensor, iterations: int) -> Tensor:
    """Solve the normal equations of each mask once, for all outputs that share it."""
    solution = torch.zeros_like(start)
    wide = hessian.double()
    products = target.double() @ wide
    for group in range(int(groups.max()) + 1):
        rows = torch.nonzero(groups == group).ravel()
        columns = torch.nonzero(mask[rows[0]]).ravel()
        if len(columns):
            factor = torch.linalg.cholesky(wide[columns][:, columns])
            rows_solved = torch.cholesky_solve(products[rows][:, columns].T, factor).T
            solution[rows[:, None], columns] = rows_solved.to(solution.dtype)
    return solution


def _by_gradients(
    start: Tensor, mask: Tensor, target: Tensor, hessian: Tensor, groups: Tensor, iterations: int
) -> Tensor:
    """Run conjugate gradients for all outputs at once, each in its own subspace, preconditioned by the diagonal."""
    kept = mask.to(start.dtype)
    hessian = hessian.to(start.dtype)
    scale = hessian.diagonal()
    solution = start * kept
    residual = ((target - solution) @ hessian) * kept
    scaled = residual / scale
    direction = scaled.clone()
    power = (residual * scaled).sum(dim=1, keepdim=True)
    goal = 1e-8 * power
    for _ in range(iterations):
        image = (direction @ hessian) * kept
        curve = (direction * image).sum(dim=1, keepdim=True)
        step = torch.where(curve > 0, power / curve, 0)
        solution += step * direction
        residual -= step * image
        scaled = residual / scale
        next_power = (residual * scaled).sum(dim=1, keepdim=True)
        if bool((next_power <= goal).all()):
            break
        direction = scaled + torch.where(power > 0, next_power / power, 0) * direction
        power = next_power
    return solution
