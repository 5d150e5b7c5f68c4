"""Choosing what to keep and correcting the rest at once, input by input: the sweep of SparseGPT for n:m patterns."""

import torch
from torch import Tensor

from ...patterns import NM, mask
from ..inputs.saliency import inverse

__all__ = ["sweep"]


def sweep(weights: Tensor, hessian: Tensor, pattern: NM, block: int = 128) -> tuple[Tensor, Tensor]:
    """Prune ``[N, K]`` to an n:m pattern from the first input to the last, each time correcting the inputs still to come.

    Parameters
    ----------
    weights
        ``[N, K]``; not changed.
    hessian
        ``X^T X``, damped: ``[K, K]``, positive definite.
    pattern
        Not transposable. With a tile, the saliencies of its outputs are summed. Its n counts kept elements, where the flags of
        the paper's own program count pruned ones.
    block
        Inputs corrected one by one before the others follow in one product; rounded to whole groups.

    Returns
    -------
    tuple of Tensor
        The weights left, pruned elements zero, and the mask, bool, ``[N, K]``.

    Notes
    -----
    Frantar and Alistarh, arXiv 2301.00774, algorithm 1. With U the upper Cholesky factor of the inverse Hessian, row j of U divided by
    its diagonal is what removing input j asks of the inputs behind it once those before it are fixed; a group's mask is chosen
    when the sweep reaches its first input, on weights that carry the corrections of all inputs before it, by
    ``w_j**2 / U_jj**2``.
    """
    work = weights.clone()
    inputs = work.shape[1]
    factor = torch.linalg.cholesky(inverse(hessian), upper=True).to(work.dtype)
    kept = torch.zeros(work.shape, dtype=torch.bool, device=work.device)
    width = max(1, block // pattern.m) * pattern.m
    for start in range(0, inputs, width):
        stop = min(start + width, inputs)
        errors = work.new_zeros(len(work), stop - start)
        for j in range(start, stop):
            if j % pattern.m == 0:
                group = slice(j, min(j + pattern.m, inputs))
                kept[:, group] = _group(work[:, group] / factor.diagonal()[group], pattern)
            errors[:, j - start] = work[:, j] * ~kept[:, j] / factor[j, j]
            work[:, j:stop] -= torch.outer(errors[:, j - start], factor[j, j:stop])
        work[:, stop:] -= errors @ factor[start:stop, stop:]
    return work * kept, kept


def _group(saliency: Tensor, pattern: NM) -> Tensor:
    """Return the mask of one group of inputs; a short last one keeps what there is."""
    if saliency.shape[1] <= pattern.n:
        return torch.ones_like(saliency, dtype=torch.bool)
    chosen = mask(NM(pattern.n, pattern.m, pattern.tile), saliency.abs().cpu().numpy())
    return torch.from_numpy(chosen).to(saliency.device)
