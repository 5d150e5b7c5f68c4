"""Choosing what to keep and correcting the rest in one pass, input by input: the SparseGPT sweep for n:m patterns."""

import torch
from torch import Tensor

from ...patterns import NM, mask
from ..inputs.saliency import inverse

__all__ = ["sweep"]


def sweep(weights: Tensor, hessian: Tensor, pattern: NM, block: int = 128) -> tuple[Tensor, Tensor]:
    """Prune weights to an n:m pattern from the first input to the last, correcting the remaining inputs after each one.

    Parameters
    ----------
    weights
        Weights ``[N, K]``; not changed.
    hessian
        Damped ``X^T X``, ``[K, K]``, positive definite.
    pattern
        n:m pattern, not transposable. With a tile, the saliencies of its outputs are summed. Its n counts kept elements, whereas the
        flags of the paper's program count pruned ones.
    block
        Number of inputs corrected one by one before the remaining ones are corrected in one product, rounded down to whole groups.
        Default: 128.

    Returns
    -------
    tuple of Tensor
        The corrected weights ``[N, K]`` with pruned elements zero, and the mask ``[N, K]``, bool.

    Notes
    -----
    This is algorithm 1 of Frantar and Alistarh, arXiv 2301.00774. With U the upper Cholesky factor of the inverse Hessian, row j of U
    divided by its diagonal element gives the correction of the later inputs when input j is removed and the earlier ones are fixed.
    The mask of a group is chosen by ``w_j**2 / U_jj**2`` when the sweep reaches its first input, on weights that already include the
    corrections for all earlier inputs.
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
    """Return the mask of one group of inputs; a last group of n inputs or fewer is kept whole."""
    if saliency.shape[1] <= pattern.n:
        return torch.ones_like(saliency, dtype=torch.bool)
    kept = mask(NM(pattern.n, pattern.m, pattern.tile), saliency.abs().cpu().numpy())
    return torch.from_numpy(kept).to(saliency.device)
