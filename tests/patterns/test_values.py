"""Patterns are values: they print, parse back, compare, hash and pickle, and reject invalid input with clear messages."""

import copy
import dataclasses
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright.errors import PatternError
from tilewright.patterns import (
    NM,
    Banked,
    Block,
    TileElementWise,
    TileVectorWise,
    TileWise,
    Unstructured,
    parse,
)

fractions = st.floats(0, 1, exclude_max=True, allow_nan=False).map(lambda f: round(f, 6)).filter(lambda f: f < 1)
tiles = st.integers(1, 256)


@st.composite
def patterns(draw):
    kind = draw(st.sampled_from(["nm", "tw", "tew", "tvw", "block", "any"]))
    if kind == "nm":
        m = draw(st.integers(1, 512))
        tile = draw(tiles)
        return NM(draw(st.integers(1, m)), m, tile, draw(st.booleans()) if tile == 1 else False)
    if kind == "tew":
        extra = draw(st.floats(0.001, 0.4).map(lambda f: round(f, 4)))
        return TileElementWise(draw(tiles), draw(st.floats(0, 0.59).map(lambda f: round(f, 4))), extra)
    if kind == "tvw":
        n, m = draw(st.sampled_from([(2, 4), (1, 4), (4, 8), (1, 2)]))
        return TileVectorWise(
            draw(st.integers(m, 128)), draw(st.floats(1 - n / m, 0.999).map(lambda f: round(f, 4))), n, m
        )
    if kind == "block":
        return Block(draw(tiles), draw(tiles), draw(fractions))
    return TileWise(draw(tiles), draw(fractions)) if kind == "tw" else Unstructured(draw(fractions))


@given(patterns())
def test_text_parses_back_to_an_equal_value(pattern):
    assert parse(str(pattern)) == pattern
    assert hash(parse(str(pattern))) == hash(pattern)


@pytest.mark.parametrize("ratio", [1, 2, 4, 8, 16, 32])
def test_a_bank_prints_as_it_was_written_and_is_no_other_pattern(ratio):
    text, plain = f"bank64@{ratio}x", NM(64 // ratio, 64)
    for bank in (Banked(ratio), parse(text), pickle.loads(pickle.dumps(Banked(ratio))), copy.deepcopy(parse(text))):
        assert (str(bank), bank.canonical) == (text, str(plain))
        assert bank == plain
        assert hash(bank) == hash(plain)
        assert parse(str(bank)) == bank
    assert str(plain) == f"{64 // ratio}:64"
    assert str(parse(str(plain))) == str(plain)
    assert {plain: "seen"}[Banked(ratio)] == "seen"


def test_what_a_bank_is_changed_into_prints_as_what_it_is():
    assert str(dataclasses.replace(Banked(4), n=8)) == "bank64@8x"
    assert str(dataclasses.replace(Banked(4), n=48)) == "48:64"
    assert str(dataclasses.replace(Banked(4), tile=4)) == "16:64x4"
    assert str(dataclasses.replace(Banked(4), m=128)) == "16:128"
    assert str(dataclasses.replace(Banked(4), transposable=True)) == "16:64t"


@given(patterns())
def test_patterns_pickle(pattern):
    assert pickle.loads(pickle.dumps(pattern)) == pattern


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2:4", NM(2, 4)),
        ("1:8", NM(1, 8)),
        ("2:4x8", NM(2, 4, tile=8)),
        ("2:4t", NM(2, 4, transposable=True)),
        ("bank64@16x", NM(4, 64)),
        ("tw16@75%", TileWise(16, 0.75)),
        ("tew64@75%+5%", TileElementWise(64, 0.75, 0.05)),
        ("tvw64@75%", TileVectorWise(64, 0.75)),
        ("tvw64@80%:1:4", TileVectorWise(64, 0.8, 1, 4)),
        ("block32x32@75%", Block(32, 32, 0.75)),
        ("any@90%", Unstructured(0.9)),
        (" any@33.3% ", Unstructured(0.333)),
    ],
)
def test_the_documented_texts(text, value):
    assert parse(text) == value


@pytest.mark.parametrize(
    "text", ["", "2:4x", "4", "2:4:8", "tw16@0.75", "any@100%", "5:4", "0:4", "tw0@5%", "2:4x8t", None, 7]
)
def test_other_texts_are_refused(text):
    with pytest.raises(PatternError):
        parse(text)


def test_refusals_say_what_was_given_and_what_to_do():
    with pytest.raises(
        PatternError, match=r"^unknown pattern 'nonsense'; expected one of the forms 2:4, .*percentages are sparsity"
    ):
        parse("nonsense")
    with pytest.raises(PatternError, match=r"5:4 keeps 5 of every 4.*n counts the kept"):
        NM(5, 4)
    with pytest.raises(PatternError, match=r"got 75; write 75% as 0.75"):
        Unstructured(75)
    with pytest.raises(PatternError, match=r"unknown ratio 3 for a bank of 64; expected 1, 2, 4, 8, 16 or 32"):
        Banked(3)
    with pytest.raises(PatternError, match=r"the lowest possible sparsity is 50%"):
        TileVectorWise(64, 0.25)
    with pytest.raises(PatternError, match=r"cannot be transposable"):
        NM(2, 4, tile=8, transposable=True)


@pytest.mark.parametrize("ratio", [1, 2, 4, 8, 16, 32])
def test_banks_keep_one_over_ratio(ratio):
    assert Banked(ratio).density == 1 / ratio
    assert Banked(ratio).m == 64


def test_patterns_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        NM(2, 4).n = 3


@pytest.mark.parametrize(
    ("pattern", "shape", "reason"),
    [
        (NM(2, 4), (8, 2), "the weight has only 2, so nothing would be pruned"),
        (NM(2, 4), (8,), "expected a matrix"),
        (NM(2, 4, transposable=True), (8, 10), "multiples of 4"),
        (TileVectorWise(64, 0.75), (1, 64), "needs at least 2 outputs"),
        (Unstructured(0.5), (0, 4), "at least one element"),
    ],
)
def test_shapes_that_cannot_take_a_pattern(pattern, shape, reason):
    assert reason in pattern.refusal(shape)


def test_shapes_that_can():
    assert NM(2, 4).refusal((8, 3)) is None
    assert TileWise(64, 0.5).refusal((3, 5)) is None
