"""The knapsack against trying every combination, and the hull against its definition."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright.pruning.plans.knapsack import convex_hull, least_loss

WHOLE = st.integers(0, 6).map(float)
REAL = st.floats(0, 1, allow_subnormal=False)
TINY = st.sampled_from([0.1, 0.2, 0.3, 0.30000000000000004, 0.6])


@st.composite
def problems(draw):
    number = draw(st.sampled_from([WHOLE, REAL, TINY]))
    layers = draw(st.lists(st.lists(st.tuples(number, number), min_size=1, max_size=5), min_size=1, max_size=5))
    costs = [np.array([cost for cost, _ in layer]) for layer in layers]
    losses = [np.array([loss for _, loss in layer]) for layer in layers]
    return losses, costs, draw(st.floats(0, 1.2)) * sum(cost.max() for cost in costs)


def by_trying_all(losses, costs, limit):
    solutions = []
    for chosen in product(*(range(len(cost)) for cost in costs)):
        cost = sum(values[index] for values, index in zip(costs, chosen, strict=True))
        if cost <= limit * (1 + 1e-12):
            solutions.append((sum(values[index] for values, index in zip(losses, chosen, strict=True)), cost))
    return min(solutions) if solutions else None


@given(problem=problems())
def test_it_equals_trying_all(problem):
    losses, costs, limit = problem
    best, selected = by_trying_all(*problem), least_loss(*problem)
    if best is None:
        assert selected is None
        return
    loss = sum(values[index] for values, index in zip(losses, selected, strict=True))
    cost = sum(values[index] for values, index in zip(costs, selected, strict=True))
    assert loss == pytest.approx(best[0], rel=1e-9, abs=1e-12)
    assert cost <= limit * (1 + 1e-9)


@given(data=st.data(), layers=st.integers(1, 5))
def test_of_equal_losses_the_cheapest_is_taken(data, layers):
    whole = st.lists(st.integers(0, 4).map(float), min_size=1, max_size=4)
    costs = [np.array(data.draw(whole)) for _ in range(layers)]
    losses = [np.array([float(data.draw(st.integers(0, 2))) for _ in cost]) for cost in costs]
    limit = float(sum(cost.max() for cost in costs)) * 0.7
    best, selected = by_trying_all(losses, costs, limit), least_loss(losses, costs, limit)
    if best is not None:
        assert (
            sum(values[index] for values, index in zip(losses, selected, strict=True)),
            sum(values[index] for values, index in zip(costs, selected, strict=True)),
        ) == best


def test_two_hundred_layers_with_equal_ones_among_them():
    rng = np.random.default_rng(0)
    density = np.arange(1, 9) / 8
    costs = [size * density for size in rng.choice([1.0, 4.0], 200)]
    losses = [weight * (1 - density) ** 2 for weight in rng.choice([1.0, 2.0, 3.0], 200)]
    limit = 0.4 * sum(cost.max() for cost in costs)
    selected = least_loss(losses, costs, limit)
    loss = sum(values[index] for values, index in zip(losses, selected, strict=True))
    assert sum(values[index] for values, index in zip(costs, selected, strict=True)) <= limit * (1 + 1e-9)
    # With equal layers, dynamic programming over whole eighths gives an independent exact answer.
    room = int(8 * limit + 1e-9)
    table = np.zeros(room + 1)
    for cost, values in zip(costs, losses, strict=True):
        units = np.round(8 * cost).astype(int)
        table = np.min(
            [
                np.concatenate([np.full(min(u, room + 1), np.inf), table[: max(0, room + 1 - u)]]) + more
                for u, more in zip(units, values, strict=True)
            ],
            axis=0,
        )
    assert loss == pytest.approx(table.min(), rel=1e-9)


@given(points=st.lists(st.tuples(WHOLE, WHOLE), min_size=1, max_size=8))
def test_no_point_lies_below_the_hull(points):
    costs, losses = np.array(points).T
    hull = convex_hull(costs, losses)
    assert losses[hull[-1]] == losses.min()
    assert costs[hull[0]] == costs.min()
    slopes = np.diff(losses[hull]) / np.diff(costs[hull])
    assert (slopes < 0).all()
    assert (np.diff(slopes) > 0).all()
    for cost, loss in points:
        if cost <= costs[hull[-1]]:
            assert loss >= np.interp(cost, costs[hull], losses[hull]) - 1e-9
