"""The second-order update of one weight against its NumPy reference and against trying every mask."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tilewright.errors import ArgumentError
from tilewright.patterns import NM, Pattern, Unstructured, mask, parse, verify_mask
from tilewright.pruning import reference
from tilewright.pruning.inputs.activations import Moments
from tilewright.pruning.inputs.saliency import damped, second_order_rows, wanda_rows
from tilewright.pruning.update.obs import Obs, update_rows
from tilewright.pruning.update.refit import errors, refit, unrestricted
from tilewright.pruning.update.sweep import sweep

Array = NDArray[Any]


def case(outputs: int, inputs: int, seed: int, rows: int = 40) -> tuple[Array, Array]:
    """Return weights ``[N, K]`` and correlated inputs ``[M, K]``."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(inputs, inputs)) / np.sqrt(inputs) + 0.5 * np.eye(inputs)
    return rng.normal(size=(outputs, inputs)), rng.normal(size=(rows, inputs)) @ mixing


def moments(inputs: Array, outputs: int) -> list[Moments]:
    x = torch.from_numpy(inputs)
    return [Moments(slice(0, outputs), len(x), x.T @ x, x.sum(dim=0))]


SHAPES = [(1, 2, 1), (2, 4, 1), (1, 4, 2), (3, 5, 1), (2, 4, 3), (4, 8, 1)]


@given(
    shape=st.sampled_from(SHAPES),
    outputs=st.integers(1, 7),
    inputs=st.integers(5, 19),
    block=st.integers(1, 16),
    seed=st.integers(0, 99),
)
def test_the_blocked_sweep_is_the_one_with_an_inverse_for_each_input(
    shape: tuple[int, int, int], outputs: int, inputs: int, block: int, seed: int
) -> None:
    n, m, tile = shape
    weights, x = case(outputs, inputs, seed)
    hessian = x.T @ x
    expected, kept = reference.sweep(weights, hessian, n, m, tile)
    swept, mask = sweep(torch.from_numpy(weights), torch.from_numpy(hessian), NM(n, m, tile), block)
    assert np.array_equal(mask.numpy(), kept)
    np.testing.assert_allclose(swept.numpy(), expected, atol=1e-9)
    assert verify_mask(NM(n, m, tile), kept)


@given(
    outputs=st.integers(1, 6), inputs=st.integers(3, 14), shared=st.booleans(), seed=st.integers(0, 99), data=st.data()
)
def test_refit_is_least_squares(outputs: int, inputs: int, shared: bool, seed: int, data: st.DataObject) -> None:
    weights, x = case(outputs, inputs, seed)
    rng = np.random.default_rng(seed + 1)
    rows = rng.random((1 if shared else outputs, inputs)) < data.draw(st.sampled_from([0.0, 0.3, 0.8]))
    chosen = np.repeat(rows, outputs * 4, axis=0) if shared else rows
    target = np.tile(weights, (4, 1)) if shared else weights
    hessian = torch.from_numpy(x.T @ x)
    start = torch.from_numpy(target * chosen)
    refitted = refit(start, torch.from_numpy(chosen), torch.from_numpy(target), hessian, 200)
    np.testing.assert_allclose(refitted.numpy(), reference.least_squares(target, x, chosen), atol=1e-4)
    assert not refitted.numpy()[~chosen].any()


@given(outputs=st.integers(1, 6), inputs=st.integers(3, 14), iterations=st.integers(0, 3), seed=st.integers(0, 99))
def test_refit_is_never_worse_than_its_start(outputs: int, inputs: int, iterations: int, seed: int) -> None:
    weights, x = case(outputs, inputs, seed, rows=2)  # linearly dependent inputs and very little damping
    rng = np.random.default_rng(seed)
    chosen = torch.from_numpy(rng.random((outputs, inputs)) < 0.5)
    target = torch.from_numpy(weights).float()
    hessian = damped(torch.from_numpy(x.T @ x), 1e-7).float()
    start = torch.from_numpy(rng.normal(size=weights.shape)).float() * chosen
    refitted = refit(start, chosen, target, hessian, iterations)
    assert bool((errors(refitted, target, hessian) <= errors(start, target, hessian)).all())


def test_a_solution_that_is_no_number_is_not_taken() -> None:
    start = torch.tensor([[1.0, 0.0]])
    hessian = torch.tensor([[1e38, 0.0], [0.0, 1e38]])
    target = torch.tensor([[1e30, 1.0]])  # overflows float32
    assert torch.equal(refit(start, start.bool(), target, hessian), start)


@given(inputs=st.integers(4, 9), seed=st.integers(0, 60))
def test_no_update_beats_the_best_of_all_masks(inputs: int, seed: int) -> None:
    weights, x = case(1, inputs, seed)
    _, least = reference.best_nm(weights[0], x, 2, 4)
    solved = update_rows(torch.from_numpy(weights), moments(x, 1), NM(2, 4), None, Obs(damping=1e-9, iterations=200))
    error = float(np.sum((x @ (solved.weights.numpy() - weights).T) ** 2))
    assert error >= least * (1 - 1e-6)
    assert error <= float(np.sum((x @ (weights * solved.mask - weights).T) ** 2)) * (1 + 1e-9)


def test_over_many_cases_the_update_closes_most_of_the_gap_to_the_best() -> None:
    ratios = []
    for seed in range(40):
        weights, x = case(1, 8, seed)
        _, least = reference.best_nm(weights[0], x, 2, 4)
        solved = update_rows(torch.from_numpy(weights), moments(x, 1), NM(2, 4), None, Obs(damping=1e-9))
        plain = mask(NM(2, 4), np.abs(weights))
        total = [float(np.sum((x @ (w - weights).T) ** 2)) for w in (solved.weights.numpy(), weights * plain)]
        ratios.append((total[0] / least, total[1] / least))
    update, magnitude = np.median(ratios, axis=0)
    assert update < 1.75
    assert magnitude > 3 * update


@given(inputs=st.integers(2, 8), seed=st.integers(0, 60))
def test_second_order_saliency_is_the_error_the_surgeon_leaves(inputs: int, seed: int) -> None:
    weights, x = case(1, inputs, seed)
    scores = second_order_rows(torch.from_numpy(weights), moments(x, 1), damping=0.0).numpy()[0]
    for index in range(inputs):
        moved, added = reference.remove(weights[0], x.T @ x, range(inputs), index)
        np.testing.assert_allclose(scores[index] ** 2, added, rtol=1e-6)
        np.testing.assert_allclose(np.sum((x @ (moved - weights[0])) ** 2), added, rtol=1e-6)
        others = np.arange(inputs) != index
        best = reference.least_squares(weights, x, others[None])
        np.testing.assert_allclose(moved, best[0], atol=1e-6)


def test_where_inputs_are_uncorrelated_wanda_and_second_order_agree() -> None:
    weights, _ = case(3, 6, 0)
    x = np.diag([1.0, 2.0, 0.5, 3.0, 1.0, 0.1])
    both = [f(torch.from_numpy(weights), moments(x, 3)).numpy() for f in (wanda_rows, second_order_rows)]
    np.testing.assert_allclose(both[0], np.abs(weights) * np.diagonal(x))
    np.testing.assert_allclose(both[1] ** 2, both[0] ** 2 + 0.01 * np.mean(x.sum(0) ** 2) * weights**2)


PATTERNS = ["2:4", "1:4", "2:8x4", "16:64", "2:4t", "tw4@50%", "tew4@60%+5%", "tvw4@60%", "block4x2@50%", "any@70%"]


@pytest.mark.parametrize("text", PATTERNS)
def test_every_pattern_is_kept_exactly_and_improved(text: str) -> None:
    pattern: Pattern = parse(text)
    weights, x = case(16, 128 if text == "16:64" else 24, 5, rows=300)
    solved = update_rows(torch.from_numpy(weights), moments(x, 16), pattern, None, Obs())
    assert verify_mask(pattern, solved.mask)
    assert not solved.weights.numpy()[~solved.mask].any()
    assert solved.after < solved.before
    power = np.sum((x @ weights.T) ** 2)
    error = np.sum((x @ (solved.weights.numpy() - weights).T) ** 2)
    np.testing.assert_allclose(solved.after, error / power, rtol=1e-6)
    given_mask = mask(pattern, np.abs(weights))
    fixed = update_rows(torch.from_numpy(weights), moments(x, 16), pattern, given_mask, Obs())
    assert np.array_equal(fixed.mask, given_mask)
    assert fixed.after < fixed.before


def test_ranges_of_outputs_have_inputs_of_their_own() -> None:
    weights, x = case(6, 8, 0)
    y = case(6, 8, 1)[1]
    parts = [
        Moments(slice(i, i + 3), 40, torch.from_numpy(z.T @ z), torch.from_numpy(z.sum(0))) for i, z in ((0, x), (3, y))
    ]
    solved = update_rows(torch.from_numpy(weights), parts, NM(2, 4), None, Obs())
    for index, z in ((0, x), (3, y)):
        outputs = slice(index, index + 3)
        alone = update_rows(torch.from_numpy(weights[outputs]), moments(z, 3), NM(2, 4), None, Obs())
        np.testing.assert_allclose(solved.weights[outputs].numpy(), alone.weights.numpy())
    crossing = update_rows(torch.from_numpy(weights), parts, NM(2, 4, tile=2), None, Obs())
    assert verify_mask(NM(2, 4, tile=2), crossing.mask)


def test_the_dense_target_makes_up_for_changed_inputs() -> None:
    weights, x = case(3, 6, 0, rows=200)
    seen = x + 0.1 * np.random.default_rng(1).normal(size=x.shape)
    cross, gram = torch.from_numpy(x.T @ seen), torch.from_numpy(seen.T @ seen)
    target = unrestricted(torch.from_numpy(weights), cross, gram, 0.0).numpy()
    expected = np.linalg.lstsq(seen, x @ weights.T, rcond=None)[0].T
    np.testing.assert_allclose(target, expected, atol=1e-8)


@given(outputs=st.integers(1, 5), inputs=st.integers(3, 10), seed=st.integers(0, 99))
def test_with_the_bias_the_update_is_least_squares_with_a_constant_input(outputs: int, inputs: int, seed: int) -> None:
    weights, x = case(outputs, inputs, seed)
    x = x + 3.0 * np.random.default_rng(seed).normal(size=inputs)  # inputs with nonzero means
    chosen = mask(Unstructured(0.5), np.abs(weights))
    options = Obs(damping=1e-10, iterations=200, bias=True)
    solved = update_rows(torch.from_numpy(weights), moments(x, outputs), Unstructured(0.5), chosen, options, True)
    constant = np.ones((len(x), 1))
    dense = np.concatenate([weights, np.zeros((outputs, 1))], axis=1)
    free = np.concatenate([chosen, np.ones((outputs, 1), dtype=np.bool_)], axis=1)
    expected = reference.least_squares(dense, np.concatenate([x, constant], axis=1), free)
    np.testing.assert_allclose(solved.weights.numpy(), expected[:, :-1], atol=1e-4)
    np.testing.assert_allclose(solved.shift.numpy(), expected[:, -1], atol=1e-3)
    out = x @ solved.weights.numpy().T + solved.shift.numpy()
    power = np.sum((x @ weights.T) ** 2)
    np.testing.assert_allclose(solved.after, np.sum((out - x @ weights.T) ** 2) / power, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(solved.before, np.sum((x @ (weights * chosen - weights).T) ** 2) / power, rtol=1e-6)
    unbiased = update_rows(torch.from_numpy(weights), moments(x, outputs), Unstructured(0.5), chosen, Obs(), True)
    assert not unbiased.shift.any()


def test_inputs_that_do_not_vary_are_not_centered() -> None:
    weights, _ = case(2, 4, 0)
    x = np.tile([[1.0, 2.0, -1.0, 0.5]], (9, 1))
    solved = update_rows(torch.from_numpy(weights), moments(x, 2), NM(2, 4), None, Obs(bias=True), True)
    assert np.isfinite(solved.weights.numpy()).all()
    assert solved.after <= solved.before


def test_options_are_checked() -> None:
    for wrong, words in (
        ({"damping": 0.0}, "damping must be above 0"),
        ({"ridge": -1.0}, "ridge at least 0"),
        ({"target": "x"}, "expected one of 'own', 'dense'"),
    ):
        with pytest.raises(ArgumentError, match=words):
            Obs(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="block must be at least 1"):
        Obs(block=0)
