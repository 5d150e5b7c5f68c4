"""`pareto`: the points that no other point beats in everything."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError

__all__ = ["pareto"]

Row = Mapping[str, Any]


def pareto(rows: Iterable[Row], objectives: Mapping[str, Literal["min", "max"]]) -> list[Row]:
    """Return the rows that no other row beats: at least as good in every objective, and better in one.

    Parameters
    ----------
    rows
        Such as those of `explore`. A row that lacks an objective (None) is left out.
    objectives
        Which way each column is better.

    Returns
    -------
    list
        In the order they came; rows that are equal in all objectives are all kept.

    Raises
    ------
    ArgumentError
        If there is no objective, a row has no such column, or a direction is neither.

    Examples
    --------
    >>> rows = [{"seconds": 1, "joules": 9}, {"seconds": 2, "joules": 3}, {"seconds": 3, "joules": 4}]
    >>> pareto(rows, {"seconds": "min", "joules": "min"})
    [{'seconds': 1, 'joules': 9}, {'seconds': 2, 'joules': 3}]
    """
    if not objectives:
        raise ArgumentError('a Pareto front needs objectives, such as {"seconds": "min", "quality": "max"}')
    for name, way in objectives.items():
        if way not in ("min", "max"):
            raise ArgumentError(f"objective {name} is {way!r}, and it must be 'min' or 'max'")
    given = list(rows)
    for row in given:
        missing = [name for name in objectives if name not in row]
        if missing:
            raise ArgumentError(f"there is no column {missing[0]!r}; the rows have {', '.join(row)}")
    known = [row for row in given if all(row[name] is not None for name in objectives)]
    points = np.array(
        [[row[name] if way == "min" else -row[name] for name, way in objectives.items()] for row in known]
    )
    return [known[index] for index in _front(points.reshape(len(known), len(objectives)))]


def _front(points: NDArray[np.float64]) -> list[int]:
    """Return the undominated points, all objectives smaller-is-better.

    In the order of their sums none is beaten by a later one, so it is enough to look at the front so far.
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
