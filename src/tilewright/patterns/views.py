"""Viewing any weight as the matrix ``[N, K]`` that patterns describe."""

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import PatternError

__all__ = ["Layout", "as_matrix", "from_matrix", "matrix_shape"]

Layout = Literal["linear", "conv", "transposed"]
"""How a weight is stored.

``linear``: ``[N, K]``, also RNN weights ``[gates * H, K]`` and packed attention projections ``[3 * E, E]``.
``conv``: ``[N, C, *kernel]``, viewed as ``[N, kernel * C]`` with channels fastest, so that n:m runs along channels.
``transposed``: ``[K, N]``, the ``Conv1D`` of Hugging Face's GPT-2.
"""


def matrix_shape(shape: tuple[int, ...], layout: Layout) -> tuple[int, int]:
    """Return ``(N, K)`` of a weight of this shape; raises `PatternError` if the layout does not fit."""
    if layout not in get_args(Layout):
        raise PatternError(
            f"unknown weight layout {layout!r}; expected one of {', '.join(map(repr, get_args(Layout)))}"
        )
    if len(shape) != 2 and (layout != "conv" or len(shape) < 3):
        need = "three or more" if layout == "conv" else "two"
        raise PatternError(f"a {layout} weight must have {need} dimensions, got shape {list(shape)}")
    if layout == "transposed":
        return shape[1], shape[0]
    return shape[0], int(np.prod(shape[1:]))


def as_matrix(weight: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Return the weight as a matrix ``[N, K]``, as a view if possible.

    Raises
    ------
    PatternError
        If the layout does not fit the shape.

    Examples
    --------
    >>> as_matrix(np.zeros((8, 3, 5, 5)), "conv").shape
    (8, 75)
    """
    shape = matrix_shape(weight.shape, layout)
    if layout == "transposed":
        return weight.T
    if layout == "conv":
        return np.moveaxis(weight, 1, -1).reshape(shape)
    return weight


def from_matrix(matrix: NDArray[Any], layout: Layout, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the matrix ``[N, K]`` as a weight of shape `shape`: the inverse of `as_matrix`.

    Raises
    ------
    PatternError
        If matrix, layout and shape do not belong together.
    """
    if matrix.shape != matrix_shape(shape, layout):
        raise PatternError(
            f"a matrix of shape {list(matrix.shape)} does not fill a {layout} weight of shape {list(shape)}; expected a matrix of "
            f"shape {list(matrix_shape(shape, layout))}"
        )
    if layout == "transposed":
        return np.ascontiguousarray(matrix.T)
    if layout == "conv":
        return np.ascontiguousarray(np.moveaxis(matrix.reshape(shape[0], *shape[2:], shape[1]), -1, 1))
    return matrix
