"""Facts about masks and verdicts checked by hand: what pruning leaves of outputs, how ties and zeros are treated, which fault comes first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright.patterns import NM, Block, TileVectorWise, TileWise, Unstructured, mask, parse, verify_mask, views
from tilewright.patterns.tilewise import split_elements
from tilewright.patterns.transposable import _by_score

from ..frozen import check_value, values_of


@pytest.mark.parametrize("kind", values_of("tilewright.patterns"), ids=lambda kind: kind.__name__)
def test_values_are_frozen(kind):
    check_value(kind)


@pytest.mark.parametrize("tile", [2, 3, 5])
@pytest.mark.parametrize("outputs", [4, 7, 10])
def test_every_tile_shares_its_positions(tile, outputs):
    """The shared score is the sum of squares: 3 and 3 beat 4 and 1, whatever the single outputs prefer."""
    scores = np.random.default_rng(tile).random((outputs, 12)).astype(np.float32)
    kept = mask(NM(1, 3, tile=tile), scores)
    for start in range(0, outputs, tile):
        part = scores[start : start + tile].astype(np.float64)
        best = np.argmax((part**2).sum(axis=0).reshape(4, 3), axis=1)
        expected = (np.arange(3) == best[:, None]).ravel()
        assert (kept[start : start + tile] == expected).all()


@pytest.mark.parametrize(("outputs", "alive"), [(64, 45), (100, 71), (9, 6)])
def test_vector_wise_pruning_leaves_the_root_of_its_outer_density_of_the_outputs(outputs, alive):
    """75% with 2:4 inside leaves half to the tile, and ``sqrt(1/2)`` of the outputs: 45.25, 70.7 and 6.4 of them, the strongest."""
    scores = np.random.default_rng(0).random((outputs, 40)).astype(np.float32) + 0.01
    kept = mask(TileVectorWise(128, 0.75), scores)
    strongest = np.argsort(-(scores.astype(np.float64) ** 2).sum(axis=1))[:alive]
    assert np.flatnonzero(kept.any(axis=1)).tolist() == sorted(strongest.tolist())


def test_an_output_alone_in_its_tile_is_dropped_where_none_can_join_it():
    """All nine outputs would stay, four per tile, but the last one alone cannot use four columns at 2:4: the weakest is pruned."""
    scores = np.random.default_rng(1).random((9, 16)).astype(np.float32) + 0.5
    scores[5] *= 0.01
    kept = mask(TileVectorWise(4, 0.5), scores)
    assert kept.any(axis=1).tolist() == [True] * 5 + [False] + [True] * 3
    assert (kept[[0, 1, 2, 3, 4, 6, 7, 8]].sum(axis=1) == 8).all()


@given(st.integers(0, 99), st.sampled_from([1.0, 1e-30, 1e30]))
def test_entries_are_visited_by_decreasing_score_and_increasing_index(seed, scale):
    rng = np.random.default_rng(seed)
    blocks = (rng.integers(0, 4, (3, 16)) * scale).astype(np.float32)
    blocks += (rng.integers(0, 2, blocks.shape) * np.finfo(np.float32).tiny).astype(np.float32)
    blocks[0, ::3], blocks[0, 1::3] = 0.0, -0.0
    np.testing.assert_array_equal(_by_score(blocks), np.argsort(-blocks, axis=1, kind="stable"))
    np.testing.assert_array_equal(_by_score(blocks.astype(np.float64)), _by_score(blocks))


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        # Up to m = 4 it is the first of all masks: rows keep their lowest inputs as long as the columns allow it.
        ("2:4t", [[0, 1], [0, 1], [2, 3], [2, 3]]),
        ("1:4t", [[0], [1], [2], [3]]),
        # Beyond, entry by entry: rows 0 to 3 fill columns 0 to 3; row 4 has only column 4 and lacks one, and so does column 4. The first
        # element that can be exchanged is (0, 0), which is replaced by (4, 0) and (0, 4).
        ("2:5t", [[1, 4], [0, 1], [2, 3], [2, 3], [0, 4]]),
    ],
)
def test_among_equal_transposable_masks_the_choice_is_the_documented_one(text, rows):
    kept = mask(parse(text), np.ones((len(rows), len(rows)), dtype=np.float32))
    assert [np.flatnonzero(row).tolist() for row in kept] == rows


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (TileVectorWise(64, 0.75), "tvw64@75%"),
        (TileVectorWise(64, 0.75, 1, 4), "tvw64@75%:1:4"),
        (TileVectorWise(64, 0.75, 2, 3), "tvw64@75%:2:3"),
        (NM(2, 4), "2:4"),
        (NM(2, 4, tile=8), "2:4x8"),
        (NM(2, 4, transposable=True), "2:4t"),
        (TileWise(16, 0.75), "tw16@75%"),
        (Block(32, 16, 0.75), "block32x16@75%"),
        (Unstructured(0.9), "any@90%"),
    ],
)
def test_the_shortest_text_is_the_one_that_is_printed(value, text):
    assert str(value) == text
    assert parse(text) == value


def faulty(text, shape, at):
    """Return a mask that violates the pattern at two places, and the first of them."""
    kept = mask(parse(text), np.random.default_rng(0).random(shape).astype(np.float32) + 0.1)
    for place in at:
        kept[place] = ~kept[place]
    return kept


@pytest.mark.parametrize(
    ("text", "at", "first"),
    [
        ("2:4", [(1, slice(4, 8)), (3, slice(0, 4))], None),  # inverted, 2 of 4 are still 2 of 4
        ("1:4", [(1, slice(4, 8)), (3, slice(0, 4))], (1, 4)),
        ("1:4", [(3, slice(0, 4)), (3, slice(8, 12))], (3, 0)),
        ("4:4x2", [(2, 5), (6, 1)], (2, 5)),
        ("tw4@0%", [(2, 5), (6, 1)], (2, 5)),
        ("tw4@0%", [(2, 5), (2, 9), (3, 1)], (2, 5)),
        ("block4x4@0%", [(2, 5), (6, 1)], (0, 4)),
        ("block4x4@0%", [(6, 1), (6, 9)], (4, 0)),
    ],
)
def test_the_first_fault_is_the_one_that_is_told(text, at, first):
    verdict = verify_mask(parse(text), faulty(text, (8, 16), at), exact=True, check_density=False)
    assert verdict.where == first
    assert bool(verdict) == (first is None)


def test_a_broken_block_is_told_with_its_own_size():
    """With 18 inputs the last blocks are two wide: the first fault is in a block of 16 elements, the second in one of 8."""
    kept = np.ones((8, 18), dtype=bool)
    kept[1, 2] = kept[6, 17] = False
    verdict = verify_mask(parse("block4x4@0%"), kept, exact=True, check_density=False)
    assert "at output 0, input 0 keeps 15 of its 16 elements" in verdict.message
    kept[1, 2] = True
    assert (
        "at output 4, input 16 keeps 7 of its 8 elements"
        in verify_mask(parse("block4x4@0%"), kept, exact=True, check_density=False).message
    )


def test_the_first_restored_element_is_told():
    pattern = parse("tew8@50%+1%")
    kept = mask(parse("any@50%"), np.random.default_rng(0).random((64, 256)).astype(np.float32))
    _, restored = split_elements(kept, 8, fewest=True)
    assert verify_mask(pattern, kept).where == tuple(np.argwhere(restored)[0].tolist())


def test_a_matrix_of_a_convolution_is_taken_as_it_is():
    weight = np.arange(6).reshape(2, 3)
    assert np.shares_memory(views.as_matrix(weight, "conv"), weight)
    assert (views.as_matrix(weight, "conv") == weight).all()


@pytest.mark.parametrize(("inputs", "told"), [(31, False), (32, True)])
def test_restored_elements_are_told_apart_from_32_inputs_on(inputs, told):
    """A checkerboard has no whole tile column: with enough inputs that cannot be tile-element-wise pruning."""
    checkerboard = np.indices((64, inputs)).sum(axis=0) % 2 == 0
    verdict = verify_mask(parse("tew8@45%+5%"), checkerboard, check_density=True)
    assert ("outside whole tile columns" in verdict.message) == told
