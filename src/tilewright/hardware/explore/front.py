"""`pareto`: the points that no other point dominates."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError, unknown

__all__ = ["pareto"]

Row = Mapping[str, Any]


def pareto(rows: Iterable[Row], objectives: Mapping[str, Literal["min", "max"]]) -> list[Row]:
    """Return the rows that no other row dominates by being at least as good in every objective and better in one.

    Parameters
    ----------
    rows
        Rows by column name, such as those of `explore`. Rows in which an objective is None are left out.
    objectives
        ``"min"`` or ``"max"`` for each column to compare.

    Returns
    -------
    list
        The rows of the front in their original order; rows that are equal in all objectives are all kept.

    Raises
    ------
    ArgumentError
        If there is no objective, a row lacks a column, or a direction is neither ``"min"`` nor ``"max"``.

    Examples
    --------
    >>> rows = [{"seconds": 1, "joules": 9}, {"seconds": 2, "joules": 3}, {"seconds": 3, "joules": 4}]
    >>> pareto(rows, {"seconds": "min", "joules": "min"})
    [{'seconds': 1, 'joules': 9}, {'seconds': 2, 'joules': 3}]
    """
    if not objectives:
        raise ArgumentError('objectives is empty; expected columns such as {"seconds": "min", "quality": "max"}')
    for name, way in objectives.items():
        if way not in ("min", "max"):
            raise ArgumentError(f"objective {name} is {way!r}; it must be 'min' or 'max'")
    rows = list(rows)
    for row in rows:
        missing = [name for name in objectives if name not in row]
        if missing:
            raise ArgumentError(unknown("column", missing[0], list(row)))
    known = [row for row in rows if all(row[name] is not None for name in objectives)]
    points = np.array(
        [[row[name] if way == "min" else -row[name] for name, way in objectives.items()] for row in known]
    )
    return [known[index] for index in _front(points.reshape(len(known), len(objectives)))]


def _front(points: NDArray[np.float64]) -> list[int]:
    """Return the indices of the points that are not dominated; smaller is better in every objective.

    Sorted by their sums, no point is dominated by a later one, so comparing with the front so far is enough.
    """
    order = np.lexsort((*points.T, points.sum(1)))
    front: list[int] = []
    best = np.empty((0, points.shape[1]))
    for index in order:
        point = points[index]
        if not ((best <= point).all(1) & (best < point).any(1)).any():
            front.append(int(index))
            best = np.vstack([best, point])
    return sorted(front)
