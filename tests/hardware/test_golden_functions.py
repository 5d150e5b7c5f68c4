"""Softmax, GELU and layer norm in integers: the row-by-row definitions, the fast paths, and their error against reals."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tilewright.errors import ArgumentError
from tilewright.hardware import golden
from tilewright.hardware.golden.functions import bit_length
from tilewright.hardware.golden.softmax import TABLE


def real_softmax(scores, mask, scale):
    real = np.where(mask, scores * scale, -np.inf)
    top = real.max(axis=-1, keepdims=True, initial=-1e300)
    powers = np.exp(real - top)
    return powers / np.maximum(powers.sum(axis=-1, keepdims=True), 1e-300)


def rows(seed, count, length, spread):
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3)
    scores = rng.integers(-spread, spread + 1, (count, length))
    if kind == 1:
        scores = np.sort(scores, axis=1)  # the maximum grows all the way
    return scores, rng.random((count, length)) < (1 if kind == 0 else 0.6)


@given(
    st.integers(0, 999), st.integers(1, 70), st.sampled_from([1, 3, 16, 64]), st.sampled_from([7, 8, 12]),
    st.sampled_from([0, 3, 100, 2**20, 2**31 - 1]), st.sampled_from([1e-9, 0.004, 0.7, 300.0]),
)  # fmt: skip
@example(0, 1, 16, 7, 0, 0.7)
@example(1, 33, 1, 8, 2**31 - 1, 300.0)
def test_the_fast_softmax_is_the_definition(seed, length, lanes, bits, spread, scale):
    scores, mask = rows(seed, 3, length, spread)
    unit = golden.SoftmaxUnit(scale, lanes, bits)
    outputs = unit.run(scores, mask)
    for row, keep, result in zip(scores.tolist(), mask.tolist(), outputs.tolist(), strict=True):
        assert result == golden.softmax_row(unit, row, keep)
    assert (outputs[~mask] == 0).all()


@given(
    st.integers(0, 999),
    st.integers(1, 300),
    st.sampled_from([1, 16]),
    st.sampled_from([7, 8, 12]),
    st.floats(1e-4, 0.05),
)
def test_softmax_stays_within_its_bound_of_the_real_one(seed, length, lanes, bits, scale):
    scores, mask = rows(seed, 4, length, 2000)
    unit = golden.SoftmaxUnit(scale, lanes, bits)
    real = real_softmax(scores, mask, scale) * 2**bits
    outputs = unit.run(scores, mask)
    assert np.abs(outputs - real).max() <= unit.error_bound(length)
    # A row sums to 1 but for half a unit of rounding each, the saturation of a 1, and the common factor.
    slack = np.abs(outputs.sum(axis=1) - 2**bits * mask.any(axis=1))
    assert slack.max() <= length / 2 + unit.error_bound(length) - 0.5


def test_long_rows_stay_within_the_bound():
    rng = np.random.default_rng(0)
    scores = rng.integers(-500, 500, (2, golden.LONGEST_ROW))
    scores[1] = 0  # every term at its largest: the sum is as wide as it gets
    unit = golden.SoftmaxUnit(0.01, bits=15)
    real = real_softmax(scores, np.True_, 0.01) * 2**15
    assert np.abs(unit.run(scores) - real).max() <= unit.error_bound(golden.LONGEST_ROW)
    with pytest.raises(ArgumentError, match="rows of up to 65536 scores, and a row of 65537 was given"):
        unit.run(np.zeros((1, golden.LONGEST_ROW + 1), dtype=int))


def test_softmax_depends_on_order_only_through_dropped_bits():
    rng = np.random.default_rng(3)
    scores = rng.integers(-4000, 4000, 200)
    scores[0] = 5000
    first = golden.SoftmaxUnit(0.002, lanes=1, bits=15)
    expected = first.run(scores[None])[0]
    for lanes in (2, 16, 200):
        np.testing.assert_array_equal(golden.SoftmaxUnit(0.002, lanes, 15).run(scores[None])[0], expected)
    order = np.append(0, rng.permutation(np.arange(1, 200)))
    np.testing.assert_array_equal(first.run(scores[None, order])[0], expected[order])
    rising = np.argsort(scores)
    assert np.abs(first.run(scores[None, rising])[0] - expected[rising]).max() <= 1


def test_softmax_ignores_whole_powers_of_two():
    unit = golden.SoftmaxUnit(math.log(2) / 256, bits=12)  # a score is one unit of t
    scores = np.random.default_rng(4).integers(-2000, 2000, (5, 77))
    np.testing.assert_array_equal(unit.run(scores), unit.run(scores + 256 * 37))


def test_softmax_corners():
    unit = golden.SoftmaxUnit(1.0, bits=7)
    assert unit.run(np.array([[5]])).tolist() == [[127]]  # 1 saturates
    assert unit.run(np.array([[3, 3]])).tolist() == [[64, 64]]
    assert unit.run(np.array([[3, 9]]), np.array([[True, False]])).tolist() == [[127, 0]]
    assert unit.run(np.array([[3, 9]]), np.array([[False, False]])).tolist() == [[0, 0]]
    assert unit.run(np.zeros((2, 0), dtype=int)).shape == (2, 0)
    with pytest.raises(ArgumentError, match="at least 1 lane and 4 to 15 bits out, and got 0 lanes"):
        golden.SoftmaxUnit(1.0, lanes=0)


@pytest.mark.parametrize("bits", range(4, 16))
@pytest.mark.parametrize("lanes", [4, 16])
def test_exact_halves_of_a_probability_round_up(bits, lanes):
    """``2**(bits + 1)`` equal scores have exactly half a unit each; one more score, and each has less than half of one."""
    unit, count = golden.SoftmaxUnit(1.0, lanes, bits), 2 ** (bits + 1)
    assert set(unit.run(np.zeros((1, count), dtype=int))[0].tolist()) == {1}
    if count < golden.LONGEST_ROW:
        assert not unit.run(np.zeros((1, count + 1), dtype=int)).any()
    if bits < 9:  # the definition goes number by number
        assert set(golden.softmax_row(unit, [0] * count)) == {1}
        assert not any(golden.softmax_row(unit, [0] * (count + 1)))


@pytest.mark.parametrize(("bits", "expected"), [(7, [26, 51, 51]), (4, [3, 6, 6]), (12, [819, 1638, 1638])])
def test_whole_powers_share_a_row_as_by_hand(bits, expected):
    """Scores of 0, 1 and 1 in units of log 2: 1/5, 2/5 and 2/5 of ``2**bits``, to the nearest unit."""
    unit = golden.SoftmaxUnit(math.log(2), bits=bits)
    assert unit.run(np.array([[0, 1, 1]])).tolist() == [expected]
    assert golden.softmax_row(unit, [0, 1, 1]) == expected


def test_the_exponential_table_has_the_stated_words():
    assert (TABLE[0], TABLE[128], TABLE[255], len(TABLE)) == (32768, 23170, 16428, 256)
    assert (np.diff(TABLE) < 0).all()


@given(st.floats(0.001, 0.5), st.floats(0.001, 0.5))
def test_the_gelu_table_is_the_rounded_function(scale_in, scale_out):
    table = golden.gelu_table(scale_in, scale_out)
    x = np.arange(-128, 128).astype(np.int8)
    outputs = golden.look_up(table, x)
    for integer, result in zip(x.tolist(), outputs.tolist(), strict=True):
        real = integer * scale_in
        exact = 0.5 * real * math.erfc(-real / math.sqrt(2)) / scale_out
        assert abs(result - max(-128, min(127, exact))) <= 0.5 + 1e-9


def unit_of(size, seed, scale_in=2**-9, scale_out=1 / 32):
    rng = np.random.default_rng(seed)
    gamma, beta = rng.standard_normal((2, size))
    return golden.LayerNormUnit.of(gamma, beta, 1e-5, scale_in, scale_out), gamma, beta


@given(st.integers(1, 90), st.integers(0, 999), st.sampled_from([0, 1, 30, 32767]))
@example(1, 0, 32767)
@example(64, 1, 0)
@example(61, 667, 32767)
def test_the_fast_layer_norm_is_the_definition_and_near_the_real_one(size, seed, spread):
    unit, gamma, beta = unit_of(size, seed)
    x = np.random.default_rng(seed).integers(-spread, spread + 1, (3, size))
    outputs = unit.run(x)
    for row, result in zip(x.tolist(), outputs.tolist(), strict=True):
        assert result == golden.layer_norm_row(unit, row)
    real = x * 2.0**-9
    centred = real - real.mean(axis=1, keepdims=True)
    exact = (centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5) * gamma + beta) * 32
    inside = np.abs(exact) < 127
    # Half a unit; of a normalised number, at most sqrt(D), half its last place and the errors of root, reciprocal and gain. The gain
    # has one place for all outputs, which is coarse for a small gamma: half of it times the number.
    bound = (
        0.5 + 32 * np.abs(gamma) * (2.0**-12 + 2.0**-12.5 * np.sqrt(size)) + 2.0 ** (11 - unit.shift) * np.sqrt(size)
    )
    if spread > 1:  # at the least spreads epsilon itself is a coarse integer
        assert (np.abs(outputs - exact) <= bound)[inside].all()


def test_layer_norm_at_its_widest_does_not_overflow():
    size = 1 << 15
    unit = golden.LayerNormUnit.of(np.ones(size), np.zeros(size), 0.0, 1.0, 1 / 64)
    x = np.where(np.arange(size) % 2, 32767, -32768)[None]
    assert set(unit.run(x)[0].tolist()) == {-64, 64}
    assert unit.run(x)[0, :2].tolist() == golden.layer_norm_row(unit, x[0].tolist())[:2]
    lonely = np.zeros((1, size), dtype=int)
    lonely[0, 5] = 1  # sqrt(D) standard deviations away
    assert unit.run(lonely)[0, 5] == 127


def test_bit_lengths_are_exact_where_floats_round_up():
    numbers = [1, 2, 3, 2**31 - 1, 2**31, 2**53 - 1, 2**54 - 1, 2**61 - 1, 2**61]
    assert bit_length(np.array(numbers)).tolist() == [number.bit_length() for number in numbers]


def test_layer_norm_refuses_what_it_cannot_hold():
    with pytest.raises(ArgumentError, match="one length from 1 to 32768, and got"):
        golden.LayerNormUnit.of(np.ones(1 << 16), np.ones(1 << 16), 0, 1, 1)
    with pytest.raises(ArgumentError, match="cannot reach an output scale of 1e-09"):
        golden.LayerNormUnit.of(np.ones(4), np.ones(4), 0, 1, 1e-9)
    unit = golden.LayerNormUnit.of(np.ones(4), np.ones(4), 0, 1, 1)
    with pytest.raises(ArgumentError, match="4 features got rows of 5"):
        unit.run(np.zeros((1, 5)))
    with pytest.raises(ArgumentError, match="takes int16, and 0 to 32768"):
        unit.run(np.array([[0, 0, 0, 32768]]))
