"""Both sides of every limit of the golden integers, and numbers worked out by hand."""

import math

import numpy as np
import pytest

from tilewright.errors import ArgumentError
from tilewright.hardware import golden
from tilewright.hardware.golden.encoder import best_scale
from tilewright.hardware.golden.floats import float_softmax

from ..frozen import check_value, values_of


@pytest.mark.parametrize("kind", values_of("tilewright.hardware.golden"), ids=lambda kind: kind.__name__)
def test_values_are_frozen(kind):
    check_value(kind)


def test_noise_by_hand():
    assert golden.sqnr(np.array([3.0, 4.0]), np.array([3.0, 3.0])) == pytest.approx(10 * math.log10(25))
    assert golden.sqnr(np.array([3.0, 4.0]), np.array([3.0, 4.0])) == math.inf


def test_a_row_without_keys_attends_to_nothing():
    scores = np.zeros((1, 2, 3, 4))
    assert not float_softmax(scores, np.zeros((1, 4), dtype=bool)).any()
    assert (float_softmax(scores, np.array([[True, False, True, False]]))[..., ::2] == 0.5).all()


def test_an_output_without_weights_scales_its_bias_by_sixteen_bits():
    """Its step is ``scale_out / 2**16``: a bias of 1 at an output scale of 1/4 is 262,144 steps, and comes out as 4."""
    weight = np.array([[0.5, -1.0], [0.0, 0.0]])
    linear = golden.IntegerLinear.of(weight, np.array([0.0, 1.0]), 0.5, 0.25)
    assert linear.bias.tolist() == [0, 4 * 65536]
    assert linear.run(np.zeros((1, 2), dtype=np.int8)).tolist() == [[0, 4]]


@pytest.mark.parametrize(("bits", "kind"), [(None, np.int8), (8, np.int8), (9, np.int16), (16, np.int16)])
def test_a_product_is_as_wide_as_asked_and_a_byte_by_default(bits, kind):
    linear = golden.IntegerLinear.of(
        np.full((1, 4), 127.0), np.zeros(1), 1.0, 1e-3, **({} if bits is None else {"bits": bits})
    )
    high = 2 ** ((bits or 8) - 1)
    rows = np.array([[127] * 4, [-127] * 4], dtype=np.int8)
    got = linear.run(rows)
    assert got.dtype == kind
    assert got.tolist() == [[high - 1], [-high]]


def test_sums_of_a_layer_have_sixteen_bits_and_its_steps_eight():
    rng = np.random.default_rng(0)
    sides = {"query": (8, 8), "key": (8, 8), "value": (8, 8), "output": (8, 8), "up": (12, 8), "down": (8, 12)}
    weights = {name: rng.standard_normal(shape) for name, shape in sides.items()}
    layer = golden.FloatLayer(
        weights, {n: np.zeros(s[0]) for n, s in sides.items()}, np.ones((2, 8)), np.zeros((2, 8)), 2
    )
    integer = golden.IntegerLayer.of(layer, rng.standard_normal((2, 3, 8)))
    assert {name: part.bits for name, part in integer.linears.items()} == {
        "query": 8, "key": 8, "value": 8, "up": 8, "output": 16, "down": 16,
    }  # fmt: skip
    assert integer.softmax.lanes == 16
    half = integer._add(np.array([32767, -32768], dtype=np.int16), np.array([127, -128], dtype=np.int8), 0)
    assert half.tolist() == [32767, -32768]


@pytest.mark.parametrize(("bits", "octaves"), [(4, 3), (8, 3), (15, 3), (16, 0), (17, 0)])
def test_the_peak_gives_way_up_to_fifteen_bits(bits, octaves):
    """A function that is flat above an eighth of the peak makes saturation free, so that the finest of the scales wins."""
    x = np.linspace(-1, 1, 1001)
    scale = best_scale(x, bits, through=lambda values: np.clip(values, -0.1, 0.1))
    assert scale == pytest.approx(1 / (2 ** (bits - 1) - 1) / 2**octaves)


@pytest.mark.parametrize(
    "scales", [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (math.inf, 1.0), (1.0, math.inf), (math.nan, 1.0)]
)
def test_scales_of_a_table_are_positive_and_finite(scales):
    with pytest.raises(ArgumentError, match="positive"):
        golden.gelu_table(*scales)
    assert golden.gelu_table(0.5, 0.25)[128] == 0


@pytest.mark.parametrize(
    ("gamma", "beta"),
    [((2, 4), (2, 4)), ((4,), (5,)), ((0,), (0,)), ((1, 4), (4,)), ((4,), (1, 4)), (((1 << 15) + 1,),) * 2],
)
def test_gamma_and_beta_are_two_rows_of_one_length(gamma, beta):
    with pytest.raises(ArgumentError, match="gamma and beta of one length from 1 to 32768"):
        golden.LayerNormUnit.of(np.ones(gamma), np.ones(beta), 0.0, 1.0, 1.0)
    assert golden.LayerNormUnit.of(np.ones(1 << 15), np.ones(1 << 15), 0.0, 1.0, 1.0).shift == 26


def unit(gamma=1.0, beta=0.0, eps=0.0, scale_in=1.0, scale_out=1.0):
    return golden.LayerNormUnit.of(np.array([gamma]), np.array([beta]), eps, scale_in, scale_out)


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ({"gamma": 2.0**26 - 1}, {"gamma": 2.0**26}),  # shift 27 - 26 = 1, and 0
        (
            {"eps": 1 - 2**-20, "scale_in": 2**-30},
            {"eps": 1.0, "scale_in": 2**-30},
        ),  # epsilon is below 2**60, and 2**60
        ({"beta": 2.0**21 - 1}, {"beta": 2.0**21}),  # shift 26: the offset has 47 bits beside its sign, and one more
        ({"beta": -(2.0**21) + 1}, {"beta": -(2.0**21)}),
    ],
)
def test_a_norm_holds_what_its_registers_hold(inside, outside):
    assert unit(**inside).shift >= 1
    with pytest.raises(ArgumentError, match="cannot reach an output scale"):
        unit(**outside)


@pytest.mark.parametrize(
    "bad", [{"scale_in": 0.0}, {"scale_out": 0.0}, {"scale_in": -1.0}, {"scale_out": -1.0}, {"eps": -1e-9}]
)
def test_scales_of_a_norm_are_positive(bad):
    with pytest.raises(ArgumentError, match="positive scales"):
        unit(**bad)


def test_gains_saturate_at_fifteen_bits_and_shifts_at_46():
    assert unit(1 - 2**-20).gain.tolist() == [32767]  # 32,768 once rounded
    assert unit(1 - 2**-14).gain.tolist() == [32766]
    assert (unit(0.0).shift, unit(2.0**-30).shift, unit(2.0**-19).shift, unit(2.0**-18).shift) == (46, 46, 45, 44)


@pytest.mark.parametrize(("inside", "outside"), [(32767, 32768), (-32768, -32769)])
def test_a_norm_takes_int16_to_its_ends(inside, outside):
    norm = golden.LayerNormUnit.of(np.ones(2), np.zeros(2), 0.0, 1.0, 1 / 64)
    rows = [0, inside]
    assert (
        norm.run(np.array([rows]))[0].tolist()
        == golden.layer_norm_row(norm, rows)
        == [-64, 64][:: 1 if inside > 0 else -1]
    )
    for refused in (lambda: norm.run(np.array([[0, outside]])), lambda: golden.layer_norm_row(norm, [0, outside])):
        with pytest.raises(ArgumentError, match="takes int16"):
            refused()


@pytest.mark.parametrize(("n", "m", "inputs", "slots"), [(2, 4, 10, 6), (2, 4, 8, 4), (1, 8, 9, 2), (4, 4, 5, 8)])
def test_slots_are_groups_times_n_and_outputs_are_rows(n, m, inputs, slots):
    groups = -(-inputs // m)
    empty = np.zeros((5, groups, n))
    weight = golden.IntegerWeight(n, m, inputs, empty.astype(np.int8), empty.astype(np.uint16), np.ones(5))
    assert (weight.slots, weight.outputs) == (slots, 5)


@pytest.mark.parametrize(
    ("bits", "length", "bound"),
    [
        # 2**(1/256) - 1 = 0.002711275, 2**-14 + 2**-15 + 2**-16 = 0.000106812, and 4 / 2**22 = 0.000000954: in all 0.002819041
        (7, 1, 1.5 + 128 * 0.002819041),
        (12, 1, 1.5 + 4096 * 0.002819041),
        # 65,539 / 2**22 = 0.015625715 in place of the last
        (7, 65536, 1.5 + 128 * 0.018443802),
    ],
)
def test_the_softmax_states_no_more_error_than_its_parts_add_up_to(bits, length, bound):
    assert golden.SoftmaxUnit(1.0, bits=bits).error_bound(length) == pytest.approx(bound, rel=1e-6)


@pytest.mark.parametrize("lanes", [1, 16, 64])
def test_masked_scores_add_nothing_however_many_they_are(lanes):
    """Two of 65,536 share a row: half of ``2**15`` each, where one unit of the sum too few for each masked score would make 16,448."""
    row = np.zeros((1, golden.LONGEST_ROW), dtype=int)
    keep = np.zeros(row.shape, dtype=bool)
    keep[0, [7, 60_000]] = True
    result = golden.SoftmaxUnit(1.0, lanes, 15).run(row, keep)
    assert result[keep].tolist() == [16384, 16384]
    assert not result[~keep].any()
