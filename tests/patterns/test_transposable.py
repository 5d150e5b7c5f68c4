"""Transposable masks compared with an exact solver, with enumeration, and with the greedy choice they start from."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
import naive
from exact_transport import best_sum

from tilewright.patterns import NM, mask, transport, transposable
from tilewright.patterns.cycles import improve_
from tilewright.patterns.transport import soft_duals

DRAWS = {
    "normal": lambda rng, shape: np.abs(rng.standard_normal(shape)),
    "uniform": lambda rng, shape: rng.random(shape),
    "heavy": lambda rng, shape: np.exp(4 * rng.standard_normal(shape)),
    "ties": lambda rng, shape: rng.integers(0, 3, shape).astype(float),
    "sparse": lambda rng, shape: rng.random(shape) * (rng.random(shape) < 0.1),
}


def scores_of(draw, blocks, m, seed, dtype=np.float32):
    return DRAWS[draw](np.random.default_rng(seed), (m, blocks * m)).astype(dtype)


def blocks_of(array, m):
    return array.reshape(m, -1, m).swapaxes(0, 1)


def is_full(found, n, m):
    blocks = blocks_of(found, m)
    return (blocks.sum(axis=1) == n).all() and (blocks.sum(axis=2) == n).all()


@given(
    m=st.integers(5, 12),
    data=st.data(),
    draw=st.sampled_from(sorted(DRAWS)),
    seed=st.integers(0, 999),
    dtype=st.sampled_from([np.float32, np.float64]),
    planned=st.booleans(),
)
def test_masks_are_as_good_as_an_exact_solver_finds(m, data, draw, seed, dtype, planned):
    n = data.draw(st.integers(1, m - 1))
    scores = scores_of(draw, 2, m, seed, dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transposable, "_PLANNED_FROM", 5 if planned else 99)
        found = mask(NM(n, m, transposable=True), scores)
    assert is_full(found, n, m)
    for block, kept in zip(blocks_of(scores.astype(np.float64), m), blocks_of(found, m), strict=True):
        assert block[kept].sum() == pytest.approx(best_sum(block, n), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("draw", ["normal", "uniform", "heavy"])
@pytest.mark.parametrize("pattern", [(8, 16), (2, 16), (16, 32), (31, 32)])
def test_larger_blocks_are_as_good_as_an_exact_solver_finds(pattern, draw):
    n, m = pattern
    scores = scores_of(draw, 3, m, n)
    found = mask(NM(n, m, transposable=True), scores)
    assert is_full(found, n, m)
    for block, kept in zip(blocks_of(scores.astype(np.float64), m), blocks_of(found, m), strict=True):
        assert block[kept].sum() == pytest.approx(best_sum(block, n), rel=1e-6)


@given(n=st.integers(1, 3), draw=st.sampled_from(sorted(DRAWS)), seed=st.integers(0, 99))
def test_exchanges_alone_find_what_enumeration_finds(n, draw, seed):
    block = scores_of(draw, 1, 4, seed, np.float64)[None] / 1e6
    keep = transposable._greedy(block.reshape(1, -1), n, 4).reshape(1, 4, 4)
    improve_(block, keep, np.zeros((1, 4)))
    best, _ = naive.transposable(block[0], n, 4)
    assert block[keep].sum() == pytest.approx(best, rel=1e-9)


@given(m=st.sampled_from([5, 8, 16, 32]), data=st.data(), draw=st.sampled_from(sorted(DRAWS)), seed=st.integers(0, 99))
def test_never_worse_than_greedy(m, data, draw, seed):
    n = data.draw(st.integers(1, m - 1))
    scores = scores_of(draw, 4, m, seed)
    blocks = np.ascontiguousarray(blocks_of(scores, m)).reshape(-1, m * m)
    greedy = transposable._greedy(blocks, n, m)
    found = np.ascontiguousarray(blocks_of(mask(NM(n, m, transposable=True), scores), m)).reshape(-1, m * m)
    ours, theirs = ((blocks * kept).sum(axis=1, dtype=np.float64) for kept in (found, greedy))
    assert (ours >= theirs * (1 - 1e-12)).all()


def test_random_prices_lead_to_the_same_optimum():
    rng = np.random.default_rng(0)
    blocks = rng.random((20, 8, 8))
    sums = []
    for scale in (0.0, 1.0, 100.0):
        keep = transposable._greedy(blocks.reshape(20, -1), 3, 8).reshape(20, 8, 8)
        improve_(blocks, keep, scale * rng.standard_normal((20, 8)))
        sums.append((blocks * keep).sum(axis=(1, 2)))
    np.testing.assert_allclose(sums[1], sums[0], rtol=1e-9)
    np.testing.assert_allclose(sums[2], sums[0], rtol=1e-9)


def sums_of_plan(block, n):
    u, v = soft_duals(block, n)
    plan = np.exp(np.minimum(50 * (block + u[:, :, None] + v[:, None, :]), 0))
    return np.concatenate([plan.sum(axis=2), plan.sum(axis=1)])


@settings(max_examples=20)
@given(m=st.integers(5, 16), data=st.data(), seed=st.integers(0, 99))
def test_soft_plans_tend_to_n_from_every_row_and_to_every_column(m, data, seed):
    n = data.draw(st.integers(1, m - 1))
    block = np.random.default_rng(seed).random((1, m, m))
    assert np.abs(sums_of_plan(block, n) - n).mean() < 0.35 * n
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transport, "_ROUNDS", 3000)
        assert sums_of_plan(block, n) == pytest.approx(n, rel=0.02)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-40, 3e38])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_blocks_and_extreme_scales(value, dtype):
    scores = np.full((16, 16), value, dtype=dtype)
    found = mask(NM(3, 8, transposable=True), scores)
    assert (found.reshape(2, 8, 16).sum(axis=1) == 3).all()
    np.testing.assert_array_equal(
        found[:8, :8], found[8:, 8:]
    )  # each block is solved independently, with ties broken by index


def test_the_rest_of_a_matrix_does_not_change_a_block():
    scores = scores_of("ties", 40, 8, 1)
    whole = mask(NM(4, 8, transposable=True), scores)
    for start in range(0, scores.shape[1], 8):
        alone = mask(NM(4, 8, transposable=True), scores[:, start : start + 8])
        np.testing.assert_array_equal(whole[:, start : start + 8], alone)


def test_everything_kept():
    assert mask(NM(8, 8, transposable=True), np.ones((8, 16))).all()
