"""Fast solvers agree with naive ones, and every mask obeys its pattern."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
import naive

from tilewright.errors import PatternError
from tilewright.patterns import (
    NM,
    Block,
    TileElementWise,
    TileVectorWise,
    TileWise,
    Unstructured,
    mask,
    parse,
    project,
    verify_mask,
)

EVERY = ["2:4", "1:8", "3:6x5", "2:4x8", "2:4t", "2:8t", "bank64@16x", "32:64x4", "tw16@75%", "tw3@50%", "tew8@70%+5%"]
EVERY += ["tvw16@75%", "tvw8@80%:1:4", "block8x4@60%", "block32x32@75%", "any@90%", "any@33.3%"]

SHAPES = [(1, 5), (5, 7), (16, 16), (17, 33), (64, 64), (3, 200), (50, 96), (200, 3)]


def scores_of(shape, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    if ties:
        return rng.integers(0, 3, shape).astype(np.float32)
    return np.abs(rng.standard_normal(shape)).astype(np.float32)


@given(
    rows=st.integers(1, 20),
    inputs=st.integers(1, 70),
    m=st.integers(1, 40),
    data=st.data(),
    ties=st.booleans(),
    seed=st.integers(0, 99),
)
def test_nm_equals_the_naive_choice(rows, inputs, m, data, ties, seed):
    n = data.draw(st.integers(1, m))
    tile = data.draw(st.integers(1, 6))
    pattern = NM(n, m, tile)
    scores = scores_of((rows, inputs), seed, ties)
    if pattern.refusal(scores.shape):
        return
    np.testing.assert_array_equal(mask(pattern, scores), naive.nm(scores, n, m, tile))


def test_a_mask_a_reader_can_check_by_eye():
    scores = np.array([[1, 9, 2, 8, 5, 5, 5, 5, 7], [4, 3, 2, 1, 0, 0, 0, 0, 0]], dtype=np.float32)
    expected = [[0, 1, 0, 1, 1, 1, 0, 0, 1], [1, 1, 0, 0, 1, 1, 0, 0, 1]]
    np.testing.assert_array_equal(mask(NM(2, 4), scores).astype(int), expected)


@pytest.mark.parametrize("text", EVERY)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ties", [False, True])
def test_every_mask_obeys_its_pattern_exactly(text, shape, ties):
    pattern = parse(text)
    if pattern.refusal(shape):
        with pytest.raises(PatternError, match="cannot take the pattern"):
            mask(pattern, scores_of(shape))
        return
    found = mask(pattern, scores_of(shape, ties=ties))
    verdict = verify_mask(pattern, found, exact=True)
    assert verdict, verdict.message


@pytest.mark.parametrize("n", [1, 2, 3])
def test_small_transposable_blocks_are_optimal(n):
    scores = scores_of((8, 12), seed=n).astype(np.float64)
    found = mask(NM(n, 4, transposable=True), scores)
    for i in range(0, 8, 4):
        for j in range(0, 12, 4):
            block = scores[i : i + 4, j : j + 4]
            best, _ = naive.transposable(block, n, 4)
            assert block[found[i : i + 4, j : j + 4]].sum() == pytest.approx(best)


@given(m=st.sampled_from([6, 8, 16]), data=st.data(), seed=st.integers(0, 50), ties=st.booleans())
def test_large_transposable_blocks_are_full_both_ways(m, data, seed, ties):
    n = data.draw(st.integers(1, m - 1))
    found = mask(NM(n, m, transposable=True), scores_of((m, 2 * m), seed, ties))
    assert (found.sum(axis=0) == n).all()
    assert (found.reshape(m, 2, m).sum(axis=2) == n).all()


def test_large_transposable_blocks_keep_nearly_what_the_best_do():
    # 1:m masks of an m x m block are assignments, so a permutation found by exhaustive search is the exact optimum.
    from itertools import permutations

    scores = scores_of((6, 6), seed=3).astype(np.float64)
    best = max(sum(scores[i, p[i]] for i in range(6)) for p in permutations(range(6)))
    kept = scores[mask(NM(1, 6, transposable=True), scores)].sum()
    assert 0.9 * best <= kept <= best + 1e-9


@given(
    shapes=st.lists(st.tuples(st.integers(1, 25), st.integers(1, 25)), min_size=1, max_size=3),
    tile=st.integers(1, 9),
    sparsity=st.floats(0, 0.95),
    seed=st.integers(0, 99),
)
def test_tile_wise_equals_the_naive_choice(shapes, tile, sparsity, seed):
    layers = [scores_of(shape, seed + i) for i, shape in enumerate(shapes)]
    pattern = TileWise(tile, sparsity)
    found = project(pattern, {str(i): layer for i, layer in enumerate(layers)})
    for ours, theirs in zip(found.values(), naive.tile_wise(layers, tile, sparsity), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "pattern", [TileWise(16, 0.75), TileElementWise(16, 0.75, 0.05), Unstructured(0.9), Block(8, 8, 0.6)]
)
def test_sparsity_is_met_over_all_layers_together(pattern):
    layers = {"a": scores_of((128, 96)), "b": 3 * scores_of((64, 256), 1), "c": scores_of((100, 40), 2)}
    masks = project(pattern, layers)
    total = sum(m.size for m in masks.values())
    kept = sum(m.sum() for m in masks.values())
    unit = {TileWise: 16, TileElementWise: 1, Unstructured: 1, Block: 64}[type(pattern)]
    assert kept <= round(pattern.density * total)
    assert kept > pattern.density * total - unit - 1
    assert masks["b"].mean() > masks["a"].mean()  # with three times the scores, it keeps more in a global ranking


def test_vector_wise_sparsity_counts_both_steps():
    found = mask(TileVectorWise(16, 0.75), scores_of((256, 256)))
    assert found.mean() == pytest.approx(0.25, abs=0.01)


def test_element_wise_restores_the_best_pruned_elements():
    scores = scores_of((64, 64))
    base = mask(TileWise(8, 0.75 + 0.05), scores)
    found = mask(TileElementWise(8, 0.75, 0.05), scores)
    assert (found >= base).all()
    restored = found & ~base
    assert scores[restored].min() >= scores[~found].max()
    assert found.sum() == round(0.25 * found.size)


def test_ties_go_to_the_lowest_index_everywhere():
    flat = np.ones((4, 8), dtype=np.float32)
    assert mask(NM(2, 4), flat)[0].tolist() == [True, True, False, False] * 2
    assert mask(Unstructured(0.75), flat).ravel().nonzero()[0].tolist() == list(range(8))
    assert mask(Block(2, 2, 0.5), flat)[:2].all()
    assert not mask(Block(2, 2, 0.5), flat)[2:].any()
    assert mask(TileWise(2, 0.75), flat).any(axis=1).tolist() == [True, True, False, False]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
@pytest.mark.parametrize("text", EVERY)
def test_invalid_scores_are_refused(text, bad):
    scores = scores_of((64, 64))
    scores[3, 5] = bad
    with pytest.raises(
        PatternError, match=r"contains (nan|inf|-1\.0) at \[3, 5\]; scores must be finite and non-negative"
    ):
        mask(parse(text), scores)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
def test_other_number_types_are_taken(dtype):
    scores = (scores_of((8, 16)) * 100).astype(dtype)
    np.testing.assert_array_equal(mask(NM(2, 4), scores), naive.nm(scores.astype(np.float64), 2, 4))


def test_project_names_the_weight_it_refuses():
    with pytest.raises(PatternError, match=r"fc2 cannot take the pattern 2:4: .*only 2"):
        project(NM(2, 4), {"fc1": scores_of((4, 8)), "fc2": scores_of((4, 2))})


def test_no_layers_give_no_masks():
    assert project(TileWise(8, 0.5), {}) == {}
