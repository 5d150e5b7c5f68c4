"""The multiple-choice knapsack problem, solved exactly: one candidate for each layer, lowest total loss, total cost within a limit.

Partial sums of cost and loss are extended layer by layer. A partial sum is dropped if another costs no more and loses no more, or if
even its best completion would lose more than a solution already known. The bound for completions is the linear relaxation, which for
this problem is a walk along the convex hulls of the remaining layers (Sinha and Zoltners, 1979) and nearly tight.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["convex_hull", "least_loss"]

Points = NDArray[np.float64]


def convex_hull(costs: Points, losses: Points) -> NDArray[np.int64]:
    """Return the indices of the candidates on the falling part of the lower convex hull, cheapest first."""
    hull: list[int] = []
    for candidate in np.lexsort((losses, costs)):
        if hull and losses[candidate] >= losses[hull[-1]]:
            continue
        while len(hull) > 1 and _above(costs, losses, hull[-2], hull[-1], candidate):
            hull.pop()
        hull.append(int(candidate))
    return np.array(hull)


def _above(costs: Points, losses: Points, left: int, middle: int, right: Any) -> bool:
    """Return whether the middle point lies on or above the line between the other two."""
    through = (losses[middle] - losses[left]) * (costs[right] - costs[left])
    return bool(through >= (losses[right] - losses[left]) * (costs[middle] - costs[left]))


class _Relaxation:
    """Least loss of some layers by cost if candidates could be mixed: a convex, piecewise linear function."""

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
        """Return the least loss at each cost limit; infinity where even the cheapest candidates exceed it."""
        bound = np.interp(room, self.cost, self.loss)
        return np.where(room < self.cost[0] - _slack(self.cost[0]), np.inf, bound)


def least_loss(losses: Sequence[Points], costs: Sequence[Points], limit: float) -> list[int] | None:
    """Choose one candidate for each layer so that the total loss is lowest within a cost limit.

    Parameters
    ----------
    losses, costs
        Loss and cost of each candidate, one array per layer; finite, costs non-negative.
    limit
        Limit on the total cost.

    Returns
    -------
    list of int or None
        Index of the chosen candidate of each layer: lowest total loss and, among equals, lowest total cost. None if nothing fits.
    """
    # Layers with a wide range of costs go first; the narrow ones then have few partial sums left to extend and fill the last gaps.
    order = sorted(range(len(costs)), key=lambda i: -float(np.ptp(costs[i])))
    layers = [(np.asarray(costs[i], dtype=np.float64), np.asarray(losses[i], dtype=np.float64)) for i in order]
    rest = [_Relaxation(layers[i:]) for i in range(len(layers) + 1)]
    ceiling = limit + _slack(limit)
    best = _greedy(layers, ceiling)
    if best is None:
        return None
    cost, loss = np.zeros(1), np.zeros(1)
    rounding = _slack(sum(float(np.abs(layer_losses).max()) for _, layer_losses in layers))
    trail: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for (more_cost, more_loss), bound in zip(layers, rest[1:], strict=True):
        width = len(more_cost)
        cost, loss = (cost[:, None] + more_cost).ravel(), (loss[:, None] + more_loss).ravel()
        promising = np.flatnonzero(loss + bound(ceiling - cost) <= best + rounding)
        promising = promising[np.lexsort((loss[promising], cost[promising]))]
        lowest = np.minimum.accumulate(loss[promising])
        # Losses that differ only by rounding count as equal; otherwise sums of the same numbers in different orders would pile up.
        falls = np.append(True, lowest[1:] < lowest[:-1] - 1e-3 * rounding)
        undominated = promising[falls]
        cost, loss = cost[undominated], loss[undominated]
        trail.append((undominated // width, undominated % width))
    return _traced(trail, order, int(np.argmin(loss)))


def _slack(value: float) -> float:
    """Return a bound on the rounding difference between sums of the same numbers in different orders."""
    return 1e-12 * abs(float(value))


def _greedy(layers: Sequence[tuple[Points, Points]], ceiling: float) -> float | None:
    """Return the loss of a greedy solution, which takes the steepest steps along the hulls that still fit; None if nothing fits."""
    hulls = [convex_hull(costs, losses) for costs, losses in layers]
    cost = sum(costs[hull[0]] for (costs, _), hull in zip(layers, hulls, strict=True))
    loss = sum(losses[hull[0]] for (_, losses), hull in zip(layers, hulls, strict=True))
    if cost > ceiling:
        return None
    steps = []
    for layer, ((costs, losses), hull) in enumerate(zip(layers, hulls, strict=True)):
        dc, dl = np.diff(costs[hull]), np.diff(losses[hull])
        steps += [(dl[k] / dc[k], layer, k, dc[k], dl[k]) for k in range(len(dc))]
    closed: set[int] = set()
    for _, layer, _, dc, dl in sorted(steps):
        if layer not in closed and cost + dc <= ceiling:
            cost, loss = cost + dc, loss + dl
        else:
            closed.add(layer)  # later steps of this layer start where this one would have ended
    return float(loss)


def _traced(trail: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]], order: Sequence[int], end: int) -> list[int]:
    chosen = [0] * len(order)
    for layer, (parents, choices) in zip(reversed(order), reversed(trail), strict=True):
        chosen[layer] = int(choices[end])
        end = int(parents[end])
    return chosen
