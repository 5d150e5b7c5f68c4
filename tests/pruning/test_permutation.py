"""The search for a channel order: against brute force, against a reference, and on the published example."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.errors import ArgumentError, PatternError
from tilewright.patterns import NM, Banked, TileWise, mask, parse
from tilewright.pruning import efficacy, kept_score, permute_columns, permute_rows
from tilewright.pruning.permute.permutation import best_of_rows
from tilewright.pruning.permute.places import Columns, Tiles


def scores_of(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((rows, columns))


def is_permutation(order: np.ndarray, size: int) -> bool:
    return np.array_equal(np.sort(order), np.arange(size))


def partitions(channels: tuple[int, ...], m: int):
    """Yield every partition of the channels into groups of m, once each."""
    if not channels:
        yield ()
        return
    first, rest = channels[0], channels[1:]
    for others in combinations(rest, m - 1):
        left = tuple(c for c in rest if c not in others)
        for groups in partitions(left, m):
            yield (first, *others, *groups)


@pytest.mark.parametrize(
    ("text", "columns"), [("2:4", 8), ("1:4", 8), ("2:4", 12), ("3:4", 8), ("1:2", 8), ("2:4x3", 8)]
)
def test_small_cases_reach_the_best_of_all_orders(text: str, columns: int) -> None:
    pattern = parse(text)
    for seed in range(3):
        scores = scores_of(5, columns, seed)
        best = max(kept_score(scores[:, list(p)], pattern) for p in partitions(tuple(range(columns)), pattern.m))
        order = permute_columns(scores, pattern, seconds=None, steps=3000, seed=seed)
        assert kept_score(scores[:, order], pattern) == pytest.approx(best, rel=1e-6)


def test_small_tiles_reach_the_best_of_all_orders() -> None:
    for seed in range(3):
        scores = scores_of(6, 5, seed) ** 4
        pattern = TileWise(2, 0.5)
        best = max(kept_score(scores[list(p)], pattern) for p in permutations(range(6)))
        order = permute_rows(scores, pattern, seconds=None, steps=2000, seed=seed)
        score = kept_score(scores[order], pattern)
        assert score >= kept_score(scores, pattern)
        assert score >= 0.97 * best  # the search uses a fixed cut


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 23),
    st.sampled_from(["2:4", "1:4", "3:4", "4:4", "1:2", "3:7", "2:16", "2:4x3", "1:8x2"]),
    st.integers(0, 10**6),
)
def test_any_shape_gives_a_permutation_that_keeps_no_less(rows: int, columns: int, text: str, seed: int) -> None:
    pattern = parse(text)
    if pattern.refusal((rows, columns)):
        return
    scores = np.random.default_rng(seed).integers(0, 4, (rows, columns)).astype(float)  # ties everywhere
    order = permute_columns(scores, pattern, seconds=None, steps=60, seed=seed)
    assert is_permutation(order, columns)
    assert kept_score(scores[:, order], pattern) >= kept_score(scores, pattern)
    assert kept_score(scores[:, order], pattern) <= best_of_rows(scores, pattern) * (1 + 1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.integers(2, 20), st.integers(1, 6), st.integers(1, 9), st.integers(0, 10**6))
def test_the_price_of_every_swap_is_what_it_changes(rows: int, columns: int, n: int, m: int, seed: int) -> None:
    if n >= m or columns <= m:
        return
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 5, (rows, columns)).astype(float)
    places = Columns(scores, n, m)
    places.swap(*(int(c) for c in rng.choice(columns, 2)))
    places.swap(*(int(c) for c in rng.choice(columns, 2)))
    padded = np.zeros((rows, len(places.order)))
    padded[:, :columns] = scores

    def kept(order: np.ndarray) -> float:
        return float(np.sort(padded[:, order].reshape(rows, -1, m), axis=-1)[..., m - n :].sum())

    channel = int(rng.integers(columns))
    width = places.window
    start = int(rng.integers(columns - width + 1))
    for other, gain in zip(range(start, start + width), places.gains(channel, start, start + width), strict=True):
        order = places.order.copy()
        a, b = int(np.flatnonzero(order == channel)[0]), int(np.flatnonzero(order == other)[0])
        order[a], order[b] = other, channel
        if a // m == b // m:
            assert gain == -np.inf
        else:
            assert gain == pytest.approx(kept(order) - kept(places.order), abs=1e-4)


def test_the_price_of_exchanging_outputs_is_what_it_changes() -> None:
    scores = scores_of(11, 7)
    places = Tiles(scores, TileWise(4, 0.5))
    before = places._values.sum()
    for channel, other in ((0, 5), (10, 3), (1, 9)):
        gain = places.gains(channel, 0, 11)[other]
        places.swap(channel, other)
        assert places._values.sum() - before == pytest.approx(gain, abs=1e-4)
        before = places._values.sum()


@pytest.mark.parametrize("text", ["tw8@50%", "tw8@75%", "tew8@75%+5%", "tvw8@75%"])
def test_like_outputs_find_each_other(text: str) -> None:
    rng = np.random.default_rng(0)
    like = np.repeat(rng.random((6, 48)) < 0.4, 8, axis=0) * 0.9 + 0.1  # tiles of equal outputs, then shuffled
    scores = (like * rng.uniform(0.8, 1, like.shape))[rng.permutation(48)]
    order = permute_rows(scores, text, seconds=None, steps=4000)
    assert is_permutation(order, 48)
    assert kept_score(scores[order], text) > 1.05 * kept_score(scores, text)


def test_the_published_example_is_beaten() -> None:
    np.random.seed(1)  # noqa: NPY002 (the example is defined by this generator)
    scores = np.random.rand(128, 64)  # noqa: NPY002
    default, best = kept_score(scores, "2:4"), best_of_rows(scores, NM(2, 4))
    assert (round(default, 3), round(best, 3)) == (2852.377, 3042.332)
    order = permute_columns(scores, "2:4", seconds=None, steps=40_000)
    kept = kept_score(scores[:, order], "2:4")
    assert kept > 2923
    assert efficacy(kept, default, best) > efficacy(2921.947, default, best) == pytest.approx(36.6, abs=0.05)


def test_seed_and_steps_decide() -> None:
    scores = scores_of(20, 32)
    first, again, other = (permute_columns(scores, "2:4", seconds=None, steps=500, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("text", ["2:4", "4:64", "bank64@8x"])
def test_wide_weights_in_little_time_keep_no_less(text: str) -> None:
    scores = np.random.default_rng(0).standard_normal((512, 4096), dtype=np.float32).__abs__()
    order = permute_columns(scores, text, seconds=1.0)
    assert is_permutation(order, 4096)
    assert kept_score(scores[:, order], text) >= kept_score(scores, text)


def test_banks_gain() -> None:
    scores = scores_of(32, 192) ** 8
    order = permute_columns(scores, Banked(16), seconds=None, steps=4000)
    assert kept_score(scores[:, order], Banked(16)) > kept_score(scores, Banked(16))


def test_classes_stay_together() -> None:
    scores, classes = scores_of(16, 24) ** 4, np.repeat(np.arange(4), 6)
    order = permute_columns(scores, "2:4", classes=classes, seconds=None, steps=3000)
    assert np.array_equal(classes[order], classes)
    free = kept_score(scores[:, permute_columns(scores, "2:4", seconds=None, steps=3000)], "2:4")
    assert kept_score(scores, "2:4") < kept_score(scores[:, order], "2:4") < free
    with pytest.raises(ArgumentError, match=r"one entry for each of the 24 inputs; got an array of shape \(3,\)"):
        permute_columns(scores, "2:4", classes=np.arange(3))


def test_equal_scores_stay_where_they_are() -> None:
    assert np.array_equal(permute_columns(np.ones((3, 12)), "2:4", steps=100), np.arange(12))
    assert np.array_equal(permute_columns(scores_of(3, 12), "4:4", steps=100), np.arange(12))


def test_refusals_are_sentences() -> None:
    scores = scores_of(8, 8)
    with pytest.raises(PatternError, match="permute_columns takes n:m patterns that are not transposable, not tw4@50%"):
        permute_columns(scores, "tw4@50%")
    with pytest.raises(PatternError, match="not 2:4t; for tw, tew and tvw use permute_rows"):
        permute_columns(scores, "2:4t")
    with pytest.raises(
        PatternError, match="permute_rows takes tw, tew and tvw patterns, not 2:4; for n:m use permute_columns"
    ):
        permute_rows(scores, "2:4")
    with pytest.raises(ArgumentError, match="got seconds=0 and steps=None"):
        permute_columns(scores, "2:4", seconds=0)
    with pytest.raises(PatternError, match="scores must be finite"):
        permute_columns(np.full((4, 8), np.nan), "2:4")


def test_what_is_kept_is_what_the_mask_keeps() -> None:
    scores = scores_of(8, 8)
    assert kept_score(scores, "2:4") == pytest.approx(scores[mask(NM(2, 4), scores)].sum())
    assert kept_score(scores, "2:4x2") == pytest.approx(np.square(scores)[mask(NM(2, 4, 2), scores)].sum())
