"""The multiple-choice knapsack, exactly: one candidate for each layer, the least loss in total, the costs within a limit.

Partial sums of cost and loss are extended layer by layer; of two, the one that costs no less and loses no less is dropped. So is every
sum whose best possible completion loses more than a solution known already; the bound is the linear relaxation, which for these
problems is a walk along the convex hulls of the remaining layers (Sinha and Zoltners, 1979) and nearly tight.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["convex_hull", "least_loss"]

Points = NDArray[np.float64]


def convex_hull(costs: Points, losses: Points) -> NDArray[np.int64]:
    """Return the candidates on the falling part of the lower convex hull, cheapest first: each loses less than the one before."""
    hull: list[int] = []
    for point in np.lexsort((losses, costs)):
        if hull and losses[point] >= losses[hull[-1]]:
            continue
        while len(hull) > 1 and _above(costs, losses, hull[-2], hull[-1], point):
            hull.pop()
        hull.append(int(point))
    return np.array(hull)


def _above(costs: Points, losses: Points, left: int, middle: int, right: Any) -> bool:
    """Say whether the middle point lies on or above the line between the others."""
    through = (losses[middle] - losses[left]) * (costs[right] - costs[left])
    return bool(through >= (losses[right] - losses[left]) * (costs[middle] - costs[left]))


class _Relaxation:
    """Least loss by cost of some layers, if candidates could be mixed: convex, piecewise linear."""

    def __init__(self, layers: Sequence[tuple[Points, Points]]) -> None:
        steps: list[tuple[float, float, float]] = []
        start = [0.0, 0.0]
        for costs, losses in layers:
            hull = convex_hull(costs, losses)
            cost, loss = costs[hull], losses[hull]
            start[0] += cost[0]
            start[1] += loss[0]
            steps += [(dl / dc, dc, dl) for dc, dl in zip(np.diff(cost), np.diff(loss), strict=True)]
        steps.sort()  # the steepest fall first
        self.cost = start[0] + np.cumsum([0.0, *(dc for _, dc, _ in steps)])
        self.loss = start[1] + np.cumsum([0.0, *(dl for _, _, dl in steps)])

    def __call__(self, room: Points) -> Points:
        """Return the least loss with so much room; infinite where even the cheapest candidates do not fit."""
        bound = np.interp(room, self.cost, self.loss)
        return np.where(room < self.cost[0] - _slack(self.cost[0]), np.inf, bound)


def least_loss(losses: Sequence[Points], costs: Sequence[Points], limit: float) -> list[int] | None:
    """Choose one candidate for each layer.

    Parameters
    ----------
    losses, costs
        Of each candidate of each layer; finite, costs not negative.
    limit
        What the chosen costs may sum to.

    Returns
    -------
    list of int or None
        The chosen candidates, of least total loss and, among equals, of least total cost; None if nothing fits.
    """
    # Layers of wide choice first: when the narrow ones come, few sums are left, and they fill the last gaps.
    order = sorted(range(len(costs)), key=lambda i: -float(np.ptp(costs[i])))
    layers = [(np.asarray(costs[i], dtype=np.float64), np.asarray(losses[i], dtype=np.float64)) for i in order]
    rest = [_Relaxation(layers[i:]) for i in range(len(layers) + 1)]
    ceiling = limit + _slack(limit)
    best = _greedy(layers, ceiling)
    if best is None:
        return None
    cost, loss = np.zeros(1), np.zeros(1)
    rounding = _slack(sum(float(np.abs(each).max()) for _, each in layers))
    trail: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for (more_cost, more_loss), bound in zip(layers, rest[1:], strict=True):
        width = len(more_cost)
        cost, loss = (cost[:, None] + more_cost).ravel(), (loss[:, None] + more_loss).ravel()
        hopeful = np.flatnonzero(loss + bound(ceiling - cost) <= best + rounding)
        hopeful = hopeful[np.lexsort((loss[hopeful], cost[hopeful]))]
        lowest = np.minimum.accumulate(loss[hopeful])
        # What is equal but for rounding is equal, or sums of the same numbers in another order would multiply.
        falls = np.append(True, lowest[1:] < lowest[:-1] - 1e-3 * rounding)
        kept = hopeful[falls]
        cost, loss = cost[kept], loss[kept]
        trail.append((kept // width, kept % width))
    return _traced(trail, order, int(np.argmin(loss)))


def _slack(value: float) -> float:
    """Sums of the same numbers in another order differ by less."""
    return 1e-12 * abs(float(value))


def _greedy(layers: Sequence[tuple[Points, Points]], ceiling: float) -> float | None:
    """Return the loss of a solution: steps along the hulls, the steepest first, that still fit; None if nothing fits."""
    hulls = [convex_hull(costs, losses) for costs, losses in layers]
    cost = sum(costs[hull[0]] for (costs, _), hull in zip(layers, hulls, strict=True))
    loss = sum(losses[hull[0]] for (_, losses), hull in zip(layers, hulls, strict=True))
    if cost > ceiling:
        return None
    steps = []
    for layer, ((costs, losses), hull) in enumerate(zip(layers, hulls, strict=True)):
        dc, dl = np.diff(costs[hull]), np.diff(losses[hull])
        steps += [(dl[k] / dc[k], layer, k, dc[k], dl[k]) for k in range(len(dc))]
    stopped: set[int] = set()
    for _, layer, _, dc, dl in sorted(steps):
        if layer not in stopped and cost + dc <= ceiling:
            cost, loss = cost + dc, loss + dl
        else:
            stopped.add(layer)  # later steps of this layer begin where this one would have ended
    return float(loss)


def _traced(trail: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]], order: Sequence[int], end: int) -> list[int]:
    chosen = [0] * len(order)
    for layer, (parents, choices) in zip(reversed(order), reversed(trail), strict=True):
        chosen[layer] = int(choices[end])
        end = int(parents[end])
    return chosen
