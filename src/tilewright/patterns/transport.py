"""Choosing n of m in both directions as optimal transport: soft plans for many square blocks at once.

Every row of a block ships n units, every column receives n, and an entry carries at most one: the masks are the whole-numbered plans.
With an entropy term (TSENOR: Meng, Makni and Mazumder, 2025) the best plan is ``min(1, exp(t * score + u_i + v_j))`` for
some u and v, one number a row and one a column, which alternating projections find.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["soft_duals"]

_SHARPNESS = 50.0
"""1 / strength of the entropy, for scores up to 1: sharper plans are nearer to a mask and take more rounds to find."""

_ROUNDS = 15
"""Projections in each direction. What is left to do after them the exchanges of `cycles` do faster (measured)."""


def soft_duals(blocks: NDArray[Any], n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the row and column numbers ``u[B, m]``, ``v[B, m]`` of the soft plan of ``blocks[B, m, m]``, scores from 0 to 1.

    They come in units of the score: the plan prefers entries of large ``score + u_i + v_j``, and all of it that lies above 0 is full.
    """
    m = blocks.shape[2]
    sharp = blocks * blocks.dtype.type(_SHARPNESS)
    u: NDArray[Any] = -np.partition(sharp, m - n, axis=2)[
        :, :, m - n
    ]  # full above the n-th best: right but for columns
    v = np.zeros_like(u)
    for _ in range(_ROUNDS):
        u += _missing(sharp, u, v, n, 2)
        v += _missing(sharp, u, v, n, 1)
    return u / _SHARPNESS, v / _SHARPNESS


def _missing(sharp: NDArray[Any], u: NDArray[Any], v: NDArray[Any], n: int, axis: int) -> NDArray[Any]:
    """Return the logarithm of what rows (axis 2) or columns (axis 1) of the plan must be multiplied by to hold n.

    In logarithms nothing overflows, and the capacity of an entry is a minimum with 0.
    """
    plan = sharp + u[:, :, None]
    plan += v[:, None, :]
    np.minimum(plan, 0, out=plan)
    np.exp(plan, out=plan)
    held = plan.sum(axis=axis)
    missing: NDArray[Any] = np.log(
        n / np.maximum(held, 1e-9)
    )  # a column that nothing reaches yet holds next to nothing
    return missing
