"""The engine's products and requantisation: the literal engine, the fast path and exact arithmetic agree to the bit."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tilewright import patterns
from tilewright.errors import ArgumentError, PatternError
from tilewright.formats import pack
from tilewright.hardware import golden


def pruned(text, shape, seed):
    weight = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    pattern = patterns.parse(text)
    if pattern.refusal(shape):
        mask = np.ones(shape, dtype=bool)
        pattern = patterns.NM(4, 4)
    else:
        mask = patterns.mask(pattern, np.abs(weight))
    return pack(np.where(mask, weight, 0).astype(np.float32), pattern, mask)


def int8(shape, seed, extreme):
    rng = np.random.default_rng(seed)
    return (rng.choice([-128, -1, 0, 127], shape) if extreme else rng.integers(-128, 128, shape)).astype(np.int8)


@given(
    st.sampled_from(["2:4", "1:2", "1:4", "4:8", "1:8", "2:64", "32:64", "3:5", "4:4", "2:4x8", "70:90x2"]),
    st.integers(1, 5), st.integers(1, 9), st.integers(1, 140), st.integers(0, 99), st.booleans(),
)  # fmt: skip
@example("2:4", 1, 1, 7, 0, True)
@example("2:64", 1, 3, 65, 1, True)
def test_the_fast_path_is_the_engine(text, M, N, K, seed, extreme):
    weight = golden.IntegerWeight.of(pruned(text, (N, K), seed))
    x, bias = int8((M, K), seed, extreme), np.random.default_rng(seed).integers(-(2**24), 2**24, N)
    expected = golden.by_beats(x, weight, bias)
    assert golden.sparse_dense(x, weight, bias).dtype == expected.dtype == np.int32
    np.testing.assert_array_equal(golden.sparse_dense(x, weight, bias), expected)
    np.testing.assert_array_equal(expected, x.astype(np.int64) @ weight.matrix().T.astype(np.int64) + bias)


@given(st.sampled_from(["2:4", "1:8", "8:64", "2:4x8"]), st.integers(1, 9), st.integers(1, 140), st.integers(0, 99))
def test_an_integer_weight_is_the_packed_one(text, N, K, seed):
    packed = pruned(text, (N, K), seed)
    weight = golden.IntegerWeight.of(packed)
    real = weight.matrix() * weight.scale[:, None]
    assert (np.abs(real - packed.unpack()) <= weight.scale[:, None] * 0.5000001).all()
    assert not weight.matrix()[~packed.mask()].any()
    # Slots that keep something rise: the selector steps through a group in order.
    rising = np.diff(weight.positions.astype(int), axis=2)
    both = (weight.values[..., 1:] != 0) & (weight.values[..., :-1] != 0)
    assert (rising[both] > 0).all()


def test_bfloat16_and_float16_weights_are_read_as_numbers():
    weight = np.array([[1.0, 0, -0.5, 0], [0, 2.0, 0, 0.25]], dtype=np.float32)
    bits = (weight.view(np.uint32) >> 16).astype(np.uint16)
    reference = golden.IntegerWeight.of(pack(weight, patterns.NM(2, 4))).matrix()
    brain = golden.IntegerWeight.of(pack(bits, patterns.NM(2, 4), dtype="bfloat16"))
    np.testing.assert_array_equal(brain.matrix(), reference)
    assert reference.tolist() == [[127, 0, -64, 0], [0, 127, 0, 16]]


def test_dense_operands_bypass_the_selector():
    a, b = int8((3, 2, 5, 33), 0, False), int8((3, 2, 33, 4), 1, True)
    np.testing.assert_array_equal(golden.dense_dense(a, b), a.astype(np.int64) @ b.astype(np.int64))
    weight = golden.IntegerWeight.dense(np.random.default_rng(2).standard_normal((4, 33)), m=8)
    assert (weight.positions[0, 0] == np.arange(8)).all()
    np.testing.assert_array_equal(golden.by_beats(a[0, 0], weight), golden.dense_dense(a[0, 0], weight.matrix().T))


@pytest.mark.parametrize("terms", [1024, 1025, golden.K_LIMIT])
def test_extremes_never_overflow_up_to_the_limit(terms):
    x = np.full((1, terms), -128, dtype=np.int8)
    assert golden.dense_dense(x, x.T.copy())[0, 0] == terms * 16384
    assert golden.dense_dense(x, np.full((terms, 1), 127, dtype=np.int8))[0, 0] == -terms * 16256


@pytest.mark.parametrize("terms", [1025, 3001, 131_071])
def test_long_sums_of_odd_products_are_exact(terms):
    x = np.full((2, terms), 127, dtype=np.int8)
    x[1, ::2] = -127
    y = np.full((terms, 1), 127, dtype=np.int8)
    assert golden.dense_dense(x, y)[:, 0].tolist() == [terms * 16129, -(terms % 2) * 16129]


def test_beyond_the_limit_is_refused_in_a_sentence():
    x = np.zeros((1, golden.K_LIMIT + 1), dtype=np.int8)
    with pytest.raises(
        ArgumentError, match=r"131072 products of int8 and a bias of up to 0 can overflow an int32 acc.*split K"
    ):
        golden.dense_dense(x, x.T.copy())
    weight = golden.IntegerWeight.dense(np.ones((1, 4)))
    with pytest.raises(ArgumentError, match="a bias of up to 2147483647"):
        golden.sparse_dense(np.zeros((1, 4), dtype=np.int8), weight, np.array([2**31 - 1]))
    with pytest.raises(ArgumentError, match=r"must be int8 \[M, 4\], and are float64"):
        golden.sparse_dense(np.zeros((1, 4)), weight)
    with pytest.raises(PatternError, match="selectors of the engine take n:m, and the weight is tw4@50%"):
        golden.IntegerWeight.of(pruned("tw4@50%", (8, 16), 0))


@pytest.mark.parametrize(
    ("values", "positions", "message"),
    [
        ([[1, 2], [3, 0]], [[0, 4], [0, 0]], "points outside its group of 4, or beyond input 5"),
        ([[1, 2], [3, 1]], [[0, 3], [0, 2]], "points outside its group of 4, or beyond input 5"),
        ([[1, 0], [3, 0]], [[0, 9], [0, 0]], "points outside its group of 4"),
        ([[1, 2], [3, 0]], [[1, 1], [0, 0]], "must rise: each slot selects an input of its own"),
        ([[1, 2], [3, 0]], [[2, 1], [0, 0]], "must rise"),
        ([[1, 2]], [[0, 1]], r"must be \[N, 2, 2\], and are int8 \[1, 1, 2\]"),
    ],
)
def test_weights_that_no_selector_could_follow_are_refused(values, positions, message):
    with pytest.raises(ArgumentError, match=message):
        golden.IntegerWeight(2, 4, 6, np.array([values], np.int8), np.array([positions], np.uint16), np.ones(1))


def exactly(accumulator, multiplier, shift, bits=8):
    """Rational arithmetic: the nearest integer, halves away from zero, saturated."""
    ratio = Fraction(accumulator * multiplier, 1 << shift)
    nearest = int(abs(ratio) + Fraction(1, 2))
    return max(-(2 ** (bits - 1)), min(2 ** (bits - 1) - 1, nearest if ratio >= 0 else -nearest))


@given(
    st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=20),
    st.floats(2.0**-34, 2.0**29),
    st.sampled_from([8, 16, 24, 32]),
)
@example([-(2**31), 2**31 - 1], 2.0**-32, 32)
@example([-(2**31), 2**31 - 1, 1, -1], 0.5, 8)
@example([1], 1 - 2.0**-40, 8)
def test_requantisation_is_rational_rounding(accumulators, scale, bits):
    factor = golden.fixed_point(scale)
    multiplier, shift = int(factor.multiplier), int(factor.shift)
    assert multiplier == 0 or (2**30 <= multiplier < 2**31 and 1 <= shift <= 62)
    assert abs(Fraction(multiplier, 1 << shift) - Fraction(scale)) <= max(
        Fraction(scale) / 2**31, Fraction(1, 2**63)
    ) or (multiplier == 0 and scale < 2.0**-32)
    outputs = golden.requantise(np.array(accumulators), factor, bits)
    assert outputs.tolist() == [exactly(a, multiplier, shift, bits) for a in accumulators]
    if bits == 32 or scale < 1:
        inner = [a for a in accumulators if a != -(2**31)]
        limit = 2 ** (bits - 1) - 1
        mirrored = golden.requantise(-np.array(inner, dtype=np.int64), factor, bits)
        assert np.clip(-mirrored, -limit, limit).tolist() == [
            max(-limit, v) for a, v in zip(accumulators, outputs.tolist(), strict=True) if a != -(2**31)
        ]


def test_each_channel_has_its_own_factor():
    outputs = golden.requantise(np.array([[100, 100, 100]]), golden.fixed_point([1.0, 0.5, 2.0**-40]))
    assert outputs.tolist() == [[100, 50, 0]]


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_scales_that_are_no_factors_are_refused(scale):
    with pytest.raises(ArgumentError, match="must be positive and finite"):
        golden.fixed_point([1.0, scale])
    with pytest.raises(ArgumentError, match=r"below 2\*\*30, and .* far too coarse"):
        golden.fixed_point(2.0**30)


def test_accumulators_wider_than_int32_are_refused():
    with pytest.raises(ArgumentError, match="accumulators are int32, and 0 to 2147483648 were given"):
        golden.requantise(np.array([0, 2**31]), golden.fixed_point(0.1))


def test_quantisation_is_symmetric_and_saturates():
    quantised = golden.quantise([[1.0, -2.0], [0.0, 0.0], [3.0, 1.5]], axis=0)
    assert quantised.values.tolist() == [[64, -127], [0, 0], [127, 64]]
    assert quantised.scale.tolist() == [2 / 127, 1.0, 3 / 127]
    assert golden.quantise([5.0, -5.0, 0.25, -0.25], scale=0.5).values.tolist() == [10, -10, 1, -1]
    assert golden.quantise([1e9, -1e9], scale=0.5).values.tolist() == [127, -128]
    assert golden.quantise([1.0], bits=16).values.dtype == np.int16
    with pytest.raises(ArgumentError, match="NaN or infinity"):
        golden.quantise([np.nan])
    np.testing.assert_allclose(golden.dequantise(quantised.values, quantised.scale[:, None])[0], [64 / 63.5, -2])
