"""The search ends when it stops improving: in cases whose best order is known, it ends with that order, long before its limits."""

import itertools

import numpy as np
import pytest

from tilewright.patterns import TileWise
from tilewright.pruning.permute.annealing import anneal
from tilewright.pruning.permute.places import Columns, Tiles


class Counted:
    """Places that count how often their gains are computed, which is once per step."""

    def __init__(self, places):
        self._places, self.steps = places, 0

    def __getattr__(self, name):
        return getattr(self._places, name)

    def gains(self, *words):
        self.steps += 1
        return self._places.gains(*words)


def kept(scores, n, m):
    return np.sort(scores.reshape(len(scores), -1, m), axis=-1)[..., m - n :].sum()


def hidden(n, m, groups, rows, seed):
    """Return shuffled scores for which a perfect order exists: in each group n channels matter to a row, and others to other rows."""
    rng = np.random.default_rng(seed)
    scores = np.zeros((rows, groups, m))
    for row in range(rows):
        for group in range(groups):
            scores[row, group, rng.choice(m, n, replace=False)] = rng.random(n) + 0.5
    return scores.reshape(rows, -1)[:, rng.permutation(groups * m)]


@pytest.mark.parametrize(("n", "m", "groups", "rows"), [(2, 4, 4, 3), (1, 4, 5, 2), (1, 2, 6, 3), (2, 8, 3, 2)])
def test_an_order_that_keeps_everything_ends_the_search(n, m, groups, rows):
    scores = hidden(n, m, groups, rows, seed=1)
    places = Counted(Columns(scores, n, m))
    order = anneal(places, seconds=60.0, steps=None, seed=0)
    assert kept(scores[:, order], n, m) == pytest.approx(scores.sum(), rel=1e-6)
    assert places.steps < 20_000 * places.movable / 4


@pytest.mark.parametrize("seed", range(6))
def test_a_best_order_short_of_that_is_found_and_not_searched_for_to_the_end(seed):
    scores = np.random.default_rng(seed).random((5, 8))
    places = Counted(Columns(scores, 2, 4))
    order = anneal(places, seconds=None, steps=None, seed=seed)
    halves = ([*half, *(set(range(8)) - set(half))] for half in itertools.combinations(range(8), 4))
    assert kept(scores[:, order], 2, 4) == pytest.approx(max(kept(scores[:, half], 2, 4) for half in halves), rel=1e-6)
    assert kept(scores[:, order], 2, 4) < scores.sum()
    assert places.steps < 20_000 * places.movable


def test_what_is_best_already_stays_as_it_is():
    scores = np.tile([[1.0, 1, 0, 0]], (3, 4))
    places = Counted(Columns(scores, 2, 4))
    assert (anneal(places, seconds=60.0, steps=None, seed=0) == np.arange(16)).all()
    assert places.steps <= 16 + 1  # the initial estimate of the scale takes 16


def test_tiles_end_as_well():
    rng = np.random.default_rng(0)
    scores = np.repeat(rng.random((3, 6)), 2, axis=0)[rng.permutation(6)]
    places = Counted(Tiles(scores, TileWise(2, 0.5)))
    order = anneal(places, seconds=60.0, steps=None, seed=0)
    pairs = scores[order].reshape(3, 2, 6)
    assert np.array_equal(pairs[:, 0], pairs[:, 1])  # similar outputs share a tile
    assert places.steps < 20_000 * places.movable
