"""`pack` and `unpack` are exact inverses; `Packed` rejects arrays that contradict each other."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright.errors import FormatError, PatternError
from tilewright.formats import Packed, pack
from tilewright.patterns import NM, TileVectorWise, TileWise, mask, parse

from ..frozen import check_value, values_of

TEXTS = ["2:4", "1:8", "3:6x5", "2:4x8", "2:4t", "4:64", "32:64x4", "tw16@75%", "tw3@50%", "tew8@70%+5%", "tvw16@75%"]
TEXTS += ["tvw8@80%:1:4", "block8x4@60%", "block32x32@75%", "any@90%", "any@0%"]


def masked(text, shape, seed=0, dtype=np.float32):
    weight = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    kept = mask(parse(text), np.abs(weight))
    return np.where(kept, weight, 0).astype(dtype), kept


@given(text=st.sampled_from(TEXTS), outputs=st.integers(1, 40), inputs=st.integers(1, 70), seed=st.integers(0, 99))
def test_unpack_undoes_pack(text, outputs, inputs, seed):
    pattern = parse(text)
    if pattern.refusal((outputs, inputs)):
        return
    weight, kept = masked(text, (outputs, inputs), seed)
    packed = pack(weight, pattern, kept)
    np.testing.assert_array_equal(packed.unpack(), weight)
    np.testing.assert_array_equal(packed.mask(), kept)
    assert packed.kept == kept.sum()
    assert packed.density == kept.mean()


@given(text=st.sampled_from(TEXTS), outputs=st.integers(1, 40), inputs=st.integers(1, 70), seed=st.integers(0, 99))
def test_packing_needs_no_mask(text, outputs, inputs, seed):
    pattern = parse(text)
    if pattern.refusal((outputs, inputs)):
        return
    weight, _ = masked(text, (outputs, inputs), seed)
    np.testing.assert_array_equal(pack(weight, pattern).unpack(), weight)


@pytest.mark.parametrize("text", TEXTS)
def test_half_precision_keeps_its_bits(text):
    weight, kept = masked(text, (48, 64), dtype=np.float16)
    packed = pack(weight, parse(text), kept)
    assert packed.dtype == "float16"
    np.testing.assert_array_equal(packed.unpack().view(np.uint16), weight.view(np.uint16))


def test_bfloat16_bits_are_carried():
    weight, kept = masked("2:4", (8, 16))
    bits = (weight.view(np.uint32) >> 16).astype(np.uint16)
    bits[~kept] = 0
    packed = pack(bits, NM(2, 4), kept, dtype="bfloat16")
    np.testing.assert_array_equal(packed.unpack(), bits)


def test_kept_zeros_stay_kept():
    kept = np.array([[True, True, False, False]])
    packed = pack(np.zeros((1, 4), dtype=np.float32), NM(2, 4), kept)
    np.testing.assert_array_equal(packed.mask(), kept)


def test_a_small_weight_by_eye():
    weight = np.array([[0, 1, 2, 0, 0], [0, 3, 4, 0, 5], [0, 0, 0, 0, 0], [6, 0, 0, 0, 0]], dtype=np.float32)
    tiles = pack(weight, TileWise(2, 0.5))
    assert tiles.rows.tolist() == [0, 1, 3]
    assert tiles.columns.tolist() == [1, 2, 4, 0]
    assert tiles.pointers.tolist() == [0, 3, 4]
    assert tiles.values.tolist() == [1, 3, 2, 4, 0, 5, 6]


def test_columns_widen_beyond_sixteen_bits():
    weight = np.zeros((1, 65540), dtype=np.float32)
    weight[0, 65539] = 1
    assert pack(weight, parse("any@99%")).columns.dtype == np.uint32
    assert pack(weight[:, :65536], parse("any@99%")).columns.dtype == np.uint16


def test_wrong_weights_are_refused_in_sentences():
    weight, kept = masked("2:4", (4, 8))
    with pytest.raises(PatternError, match=r"does not obey 2:4: output 0 keeps 4 of the inputs 0 to 3"):
        pack(np.ones((4, 8), dtype=np.float32), NM(2, 4))
    with pytest.raises(FormatError, match=r"which the mask prunes; apply the mask first"):
        pack(np.ones((4, 8), dtype=np.float32), NM(2, 4), kept)
    with pytest.raises(FormatError, match=r"must be float32 or float16.*got float64"):
        pack(weight.astype(np.float64), NM(2, 4))
    with pytest.raises(FormatError, match=r"mask must be boolean of shape \[4, 8\]"):
        pack(weight, NM(2, 4), kept[:2])
    with pytest.raises(FormatError, match=r"matrix; got float32 \[8\]"):
        pack(weight[0], NM(2, 4))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("values", lambda a: a[:-1], "values must have"),
        ("values", lambda a: a.astype(np.float64), "values must be a contiguous one-dimensional float32"),
        ("columns", lambda a: a[::-1].copy(), "columns must ascend strictly"),
        ("columns", lambda a: a + np.uint16(200), "columns must be in 0 to 63"),
        ("columns", lambda a: a.astype(np.int64), "columns must be a contiguous one-dimensional uint16"),
        ("pointers", lambda a: a[::-1].copy(), "pointers must ascend from 0"),
        ("pointers", lambda a: a[:-1].copy(), "pointers must have"),
        ("pointers", lambda a: a + 1, "pointers must ascend from 0"),
        ("rows", lambda a: a[::-1].copy(), "rows must ascend strictly"),
        ("rows", lambda a: a + np.int32(1000), "rows must be in 0 to"),
    ],
)
def test_arrays_that_contradict_each_other_are_refused(name, change, words):
    weight, _ = masked("tw8@75%", (64, 64))
    packed = pack(weight, TileWise(8, 0.75))
    with pytest.raises(FormatError, match=words):
        dataclasses.replace(packed, **{name: change(getattr(packed, name))})


def test_positions_are_checked_group_by_group():
    weight, kept = masked("tvw16@75%", (64, 64))
    packed = pack(weight, parse("tvw16@75%"), kept)
    for bad in (packed.positions[::-1].copy(), np.full_like(packed.positions, 4), np.zeros_like(packed.positions)):
        with pytest.raises(FormatError, match="positions must ascend strictly inside each group of 4"):
            dataclasses.replace(packed, positions=bad)
    with pytest.raises(FormatError, match="tile-vector-wise weights must have positions, and no others"):
        dataclasses.replace(packed, positions=None)


@pytest.mark.parametrize(("n", "m"), [(1, 4), (2, 4), (3, 8), (7, 8), (1, 2), (1, 16)])
@pytest.mark.parametrize("beyond", [0, 1, 2, 3])
def test_the_last_place_of_a_group_is_the_last_that_is_taken(n, m, beyond):
    """For full groups, and for a shorter last group, which has fewer positions."""
    columns = 2 * m + min(beyond, m - 1)
    lengths = [length for length in (m, m, columns - 2 * m) if length]
    kept = [min(n, length) for length in lengths]
    base = np.concatenate([np.arange(count) for count in kept]).astype(np.uint8)
    weight = Packed(
        pattern=TileVectorWise(m, 1 - n / m / 2, n, m),
        shape=(1, columns),
        dtype="float32",
        tile=m,
        values=np.ones(len(base), dtype=np.float32),
        columns=np.arange(columns, dtype=np.uint16),
        pointers=np.array([0, columns]),
        positions=base,
    )
    for group, length in enumerate(lengths):
        last = sum(kept[: group + 1]) - 1
        positions = base.copy()
        positions[last] = length - 1
        assert dataclasses.replace(weight, positions=positions).mask().sum() == len(base)
        positions[last] = length
        with pytest.raises(
            FormatError, match=f"value {last} of output 0 of a tile of {columns} columns has position {length}"
        ):
            dataclasses.replace(weight, positions=positions)


def test_residual_is_checked_too():
    weight, kept = masked("tew8@70%+5%", (64, 64))
    packed = pack(weight, parse("tew8@70%+5%"), kept)
    bad = dataclasses.replace(packed.residual, columns=packed.residual.columns[::-1].copy())
    with pytest.raises(FormatError, match="residual columns must ascend strictly"):
        dataclasses.replace(packed, residual=bad)


def test_packed_is_smaller_in_memory_and_knows_it():
    weight, _ = masked("32:64x4", (256, 256))
    packed: Packed = pack(weight, parse("32:64x4"))
    assert packed.nbytes == sum(a.nbytes for a in packed.arrays().values())
    assert packed.nbytes < 0.6 * weight.nbytes


@pytest.mark.parametrize("kind", values_of("tilewright.formats"), ids=lambda kind: kind.__name__)
def test_values_are_frozen(kind):
    check_value(kind)
    if kind.__name__ in ("Checkpoint", "StoredWeight"):  # they contain arrays
        assert not kind.__dataclass_params__.eq


def test_the_first_element_that_the_mask_prunes_is_named():
    weight, kept = np.zeros((2, 8), np.float32), np.zeros((2, 8), bool)
    weight[0, 3], weight[1, 5] = 2, 7
    with pytest.raises(FormatError, match=r"the weight is 2\.0 at output 0, input 3"):
        pack(weight, NM(2, 4), kept)
