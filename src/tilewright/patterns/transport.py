"""Choosing n of m in both directions as optimal transport: soft plans for many square blocks at once.

Every row of a block ships n units, every column receives n, and an entry carries at most one: masks are the integer plans.
With an entropy term (TSENOR: Meng, Makni and Mazumder, 2025) the best plan is ``min(1, exp(t * score + u_i + v_j))`` for
some u and v, one number per row and one per column, which alternating projections find.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["soft_duals"]

_SHARPNESS = 50.0
"""1 / strength of the entropy term, for scores up to 1. Sharper plans are closer to a mask and take more rounds."""

_ROUNDS = 15
"""Projections in each direction. Beyond these, the exchanges of `cycles` make progress faster (measured)."""


def soft_duals(blocks: NDArray[Any], n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the row and column duals ``u[B, m]``, ``v[B, m]`` of the soft plan of ``blocks[B, m, m]``, scores from 0 to 1.

    They are in units of the score: the plan prefers entries with large ``score + u_i + v_j``, and entries above 0 are full.
    """
    m = blocks.shape[2]
    sharp = blocks * blocks.dtype.type(_SHARPNESS)
    u: NDArray[Any] = -np.partition(sharp, m - n, axis=2)[
        :, :, m - n
    ]  # full above the n-th best: correct for the rows, ignoring columns
    v = np.zeros_like(u)
    for _ in range(_ROUNDS):
        u += _missing(sharp, u, v, n, 2)
        v += _missing(sharp, u, v, n, 1)
    return u / _SHARPNESS, v / _SHARPNESS


def _missing(sharp: NDArray[Any], u: NDArray[Any], v: NDArray[Any], n: int, axis: int) -> NDArray[Any]:
    """Return the logarithm of the factor that makes rows (axis 2) or columns (axis 1) of the plan sum to n.

    Logarithms cannot overflow, and they turn the capacity of an entry into a minimum with 0.
    """
    plan = sharp + u[:, :, None]
    plan += v[:, None, :]
    np.minimum(plan, 0, out=plan)
    np.exp(plan, out=plan)
    held = plan.sum(axis=axis)
    missing: NDArray[Any] = np.log(n / np.maximum(held, 1e-9))  # a column can be almost empty at first
    return missing
