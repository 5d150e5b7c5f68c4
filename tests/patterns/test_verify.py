"""`verify_mask` finds the first violation and names its place; statistics and views are checked by hand."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tilewright.errors import ArgumentError, PatternError
from tilewright.formats import pack
from tilewright.patterns import (
    NM,
    as_matrix,
    from_matrix,
    mask,
    parse,
    project,
    split_elements,
    statistics,
    verify_mask,
)


def good(text, shape=(64, 64), seed=0):
    return mask(parse(text), np.abs(np.random.default_rng(seed).standard_normal(shape)).astype(np.float32))


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("2:4", (5, 8), "output 5 keeps 3 of the inputs 8 to 11, but 2:4 allows 2"),
        ("2:4x8", (0, 8), "outputs 0 to 7 together keep 3 of the inputs 8 to 11"),
        ("1:4t", (5, 8), "output 5 keeps 2 of the inputs 8 to 11"),
    ],
)
def test_one_element_too_many_is_found(text, place, words):
    found = good(text)
    group = found[5, 8:12]
    found[5, 8 + int(np.flatnonzero(~group)[0])] = True
    verdict = verify_mask(parse(text), found)
    assert not verdict.ok
    assert verdict.where == place
    assert words in verdict.message


def test_the_second_direction_of_a_transposable_mask_is_checked():
    found = good("1:4")
    found[:] = False
    found[0:2, 0] = True
    verdict = verify_mask(parse("1:4t"), found)
    assert verdict.message == "input 0 is kept by 2 of the outputs 0 to 3, but 1:4t allows 1"


def test_fewer_than_allowed_is_fine_unless_exact():
    found = good("2:4")
    found[7, 4:8] = False
    assert verify_mask(NM(2, 4), found)
    verdict = verify_mask(NM(2, 4), found, exact=True)
    assert verdict.where == (7, 4)
    assert "keeps 0 of the inputs 4 to 7, but 2:4 needs 2" in verdict.message


def test_a_ragged_tile_is_found_when_exact():
    for text in ("2:4x8", "tw8@50%"):
        found = good(text)
        row = int(np.flatnonzero(found.any(axis=1))[3])
        column = int(np.flatnonzero(found[row])[2])
        found[row, column] = False
        assert verify_mask(parse(text), found)
        verdict = verify_mask(parse(text), found, exact=True)
        assert verdict.where == (row, column)


def test_vector_wise_groups_are_found():
    found = good("tvw16@75%")
    row = int(np.flatnonzero(found.any(axis=1))[0])
    tile = np.flatnonzero(found.any(axis=1))[:16]
    columns = np.flatnonzero(found[tile].any(axis=0))
    found[row, columns[:4]] = True
    verdict = verify_mask(parse("tvw16@75%"), found)
    assert verdict.where == (row, int(columns[0]))
    assert "keeps 4 of a group of 4 compacted inputs" in verdict.message


def test_too_many_restored_elements_are_found():
    found = good("tew16@80%+2%")
    assert verify_mask(parse("tew16@80%+2%"), found)
    rng = np.random.default_rng(1)
    assert "lie outside whole tile columns" in verify_mask(parse("tew16@80%+2%"), rng.random((64, 64)) < 0.2).message


def test_half_blocks_are_found_when_exact():
    found = good("block8x8@50%")
    row, column = (int(i) for i in np.argwhere(found)[0])
    found[row, column] = False
    verdict = verify_mask(parse("block8x8@50%"), found, exact=True)
    assert verdict.where == (row, column)
    assert "keeps 63 of its 64 elements" in verdict.message


@pytest.mark.parametrize("text", ["tw8@75%", "any@75%", "block8x8@75%", "tvw8@75%", "tew8@75%+1%"])
def test_too_dense_is_found_unless_told_not_to_look(text):
    dense = good(text.replace("75%", "55%"))
    verdict = verify_mask(parse(text), dense)
    assert not verdict
    assert "asks for a sparsity of 75%" in verdict.message
    assert verify_mask(parse(text), dense, check_density=False)


def test_a_shape_the_pattern_cannot_take_is_no_pass():
    assert "cannot take 2:4" in verify_mask(NM(2, 4), np.ones((4, 2), dtype=bool)).message


@given(
    tile=st.sampled_from([1, 2, 4, 8, 16]),
    sparsity=st.sampled_from([30, 50, 70, 80]),
    extra=st.sampled_from([1, 5, 10]),
    shape=st.tuples(st.integers(1, 40), st.integers(8, 80)),
    seed=st.integers(0, 999),
)
@example(tile=8, sparsity=70, extra=5, shape=(2, 51), seed=0)
@example(tile=8, sparsity=70, extra=1, shape=(2, 68), seed=3)
def test_masks_with_restored_elements_obey_their_pattern_however_few_outputs_there_are(
    tile, sparsity, extra, shape, seed
):
    text = f"tew{tile}@{sparsity}%+{extra}%"
    found = good(text, shape, seed)
    rest = np.count_nonzero(split_elements(found, tile, fewest=True)[1])
    assert shape[1] < 32 or rest <= 2 * (extra / 100 * found.size + tile)
    verdict = verify_mask(parse(text), found, check_density=False)
    assert verdict, verdict.message


@given(st.integers(0, 99))
@settings(max_examples=40)
def test_one_layer_may_get_most_of_the_restored_elements(seed):
    rng = np.random.default_rng(seed)
    pattern = parse("tew8@70%+5%")
    shapes = zip(rng.integers(2, 64, 4), rng.integers(32, 90, 4), strict=True)
    scores = {str(shape): rng.random(shape) * rng.uniform(0.2, 3) for shape in shapes}
    for found in project(pattern, scores).values():
        assert verify_mask(pattern, found, check_density=False)
        assert pack(np.where(found, 1, 0).astype(np.float32), pattern, found).kept == found.sum()


def test_split_elements_adds_up():
    found = good("tew8@70%+5%", (96, 80))
    base, rest = split_elements(found, 8)
    assert not (base & rest).any()
    np.testing.assert_array_equal(base | rest, found)
    assert rest.mean() <= 0.06
    nothing, everything = split_elements(np.zeros((4, 4), dtype=bool), 8)
    assert not nothing.any()
    assert not everything.any()


def test_statistics_by_hand():
    found = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]], dtype=bool)
    facts = statistics(found, tile=2)
    assert facts.density == 6 / 16
    assert facts.sparsity == 10 / 16
    assert facts.row_density.tolist() == [0.5, 0.25, 0.75, 0]
    assert facts.tile_density.tolist() == [0.375, 0.375]
    assert facts.balance == 1.0
    assert (facts.empty_outputs, facts.empty_inputs) == (1, 1)
    assert statistics(found).balance == 0.375 / 0.75
    with pytest.raises(ArgumentError, match="`tile` at least 1; got shape"):
        statistics(found, tile=0)


def test_convolutions_are_seen_with_channels_fastest():
    weight = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    matrix = as_matrix(weight, "conv")
    assert matrix[0].tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    np.testing.assert_array_equal(from_matrix(matrix, "conv", weight.shape), weight)


@pytest.mark.parametrize(
    ("layout", "shape"), [("linear", (3, 5)), ("transposed", (5, 3)), ("conv", (4, 6, 3)), ("conv", (2, 3, 4, 5, 6))]
)
def test_views_are_undone(layout, shape):
    weight = np.random.default_rng(0).random(shape)
    np.testing.assert_array_equal(from_matrix(as_matrix(weight, layout), layout, shape), weight)


def test_views_refuse_what_does_not_fit():
    with pytest.raises(
        PatternError, match="unknown weight layout 'dense'; expected one of 'linear', 'conv', 'transposed'"
    ):
        as_matrix(np.zeros((2, 2)), "dense")
    with pytest.raises(PatternError, match="must have two dimensions"):
        as_matrix(np.zeros((2, 2, 2)), "linear")
    with pytest.raises(PatternError, match="does not fill a linear weight"):
        from_matrix(np.zeros((2, 2)), "linear", (4, 1))
