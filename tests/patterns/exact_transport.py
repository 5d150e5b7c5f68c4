"""The best mask with n of m in each row and column, from an external solver: a linear program whose vertices are the masks."""

from functools import cache

import numpy as np
from scipy.optimize import linear_sum_assignment, linprog
from scipy.sparse import csr_array, identity, kron, vstack


@cache
def _sums(m):
    ones = csr_array(np.ones((1, m)))
    return csr_array(vstack([kron(identity(m), ones), kron(ones, identity(m))]))


def best_sum(block, n):
    """Return the largest sum of scores a mask of ``block[m, m]`` can keep."""
    m, top = len(block), float(block.max()) or 1.0
    if n == 1:
        return float(block[linear_sum_assignment(block, maximize=True)].sum())
    found = linprog(-block.ravel() / top, A_eq=_sums(m), b_eq=np.full(2 * m, float(n)), bounds=(0, 1), method="highs")
    assert found.status == 0, found.message
    return float(-found.fun) * top
