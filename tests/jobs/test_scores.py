"""Measures and scores: direction, share of dense, and coverage of intervals."""

import math

import numpy as np
import pytest

from tilewright.errors import CheckFailed
from tilewright.jobs.tasks import Measure, Scores

ACCURACY = Measure("accuracy", "1", True, "Share of the items that were labelled correctly.")
PERPLEXITY = Measure("perplexity", "1", False, "How many tokens the model hesitates between.", of_mean=math.exp)


@pytest.mark.parametrize(
    ("measure", "value", "dense", "share"),
    [(ACCURACY, 0.45, 0.9, 0.5), (ACCURACY, 0.9, 0.9, 1), (PERPLEXITY, 20, 10, 0.5), (PERPLEXITY, 5, 10, 2)],
)
def test_a_share_below_one_is_worse_whatever_the_direction(measure, value, dense, share):
    assert measure.share(value, dense) == pytest.approx(share)


def test_nothing_kept_of_nothing_is_all_of_it():
    assert ACCURACY.share(0.0, 0.0) == 1
    assert Measure("error", "1", False, "").share(0.3, 0.0) == 0


def test_weighted_items_make_the_mean_that_the_measure_is_of():
    losses, tokens = np.array([1.0, 3.0]), np.array([30.0, 10.0])
    scores = Scores({"perplexity": losses}, (PERPLEXITY,), tokens)
    assert scores["perplexity"] == pytest.approx(math.exp(1.5))
    assert len(scores) == 2


@pytest.mark.parametrize("weighted", [False, True])
def test_an_interval_covers_the_mean_as_often_as_it_says(weighted):
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        weights = rng.integers(1, 9, 60).astype(float) if weighted else None
        scores = Scores({"accuracy": (rng.random(60) < 0.7).astype(float)}, (ACCURACY,), weights)
        low, high = scores.interval("accuracy", level=0.9, seed=trial)
        assert low <= scores["accuracy"] <= high
        covered += low <= 0.7 <= high
    assert 165 <= covered <= 195


def test_an_interval_of_a_transformed_mean_lies_around_it():
    scores = Scores({"perplexity": np.random.default_rng(0).random(50)}, (PERPLEXITY,))
    low, high = scores.interval("perplexity")
    assert 1 < low < scores["perplexity"] < high < math.e
    assert scores.interval("perplexity") == (low, high)


def test_numbers_that_are_none_are_refused():
    with pytest.raises(CheckFailed, match=r"^the model's accuracy is NaN or infinite on 2 of 3 items"):
        Scores({"accuracy": np.array([1.0, np.nan, np.inf])}, (ACCURACY,))
