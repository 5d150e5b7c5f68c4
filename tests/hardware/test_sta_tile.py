"""Closed forms of the STA-like array against the array stepped register by register: equal in every counter."""

import itertools

import numpy as np
import pytest

from tilewright.errors import ArgumentError
from tilewright.hardware.engines.sta_tile import Array, Word, dense_word, issue, sparse_word, stream

from .sta_array import CollisionError, step_array

COUNTERS = ("busy", "index", "drained", "tail", "total")


def differences(rows, columns, word, words, tiles):
    array = Array(rows, columns, 1, 1, 1)
    expected = stream(array, word, words, tiles)
    counters, left = step_array(rows, columns, words, word.beats, word.decode, tiles)
    assert all(column == sorted(column) and len(column) == rows * tiles for column in left), "sums left out of order"
    return {
        n: (getattr(counters, n), getattr(expected, n))
        for n in COUNTERS
        if getattr(counters, n) != getattr(expected, n)
    }


def modes(array):
    yield dense_word(array)
    m = 2
    while m <= array.window:
        yield from (sparse_word(array, n, m) for n in range(1, m))
        m *= 2


def distinct(inputs):
    """Yield every (words, beats, decode) that K inputs can turn into, on all arrays with up to 4 lanes and a window of 8."""
    counters = set()
    for lanes, window, bits in itertools.product((1, 2, 3, 4), (4, 8), (1, 2, 4, 8)):
        for word in modes(Array(1, 1, lanes, window, bits)):
            for K in inputs:
                counters.add((word.count(K), word.beats, word.decode))
    return sorted(counters)


def test_every_small_array_takes_the_cycles_of_the_closed_form():
    cases = distinct(range(1, 33))
    assert len(cases) > 150
    wrong = {
        (rows, columns, *case): difference
        for rows, columns in itertools.product(range(1, 5), range(1, 5))
        for case in cases
        if (difference := differences(rows, columns, Word(1, 1, *case[1:]), case[0], tiles=2))
    }
    assert not wrong


def test_a_thousand_larger_arrays_take_the_cycles_of_the_closed_form():
    rng = np.random.default_rng(7)
    for _ in range(1000):
        rows, columns, words = (int(x) for x in rng.integers(1, (13, 13, 25)))
        beats, decode, tiles = (int(x) for x in rng.integers((1, 0, 1), (4, 5, 5)))
        case = (rows, columns, words, beats, decode, tiles)
        assert not differences(rows, columns, Word(1, 1, beats, decode), words, tiles), case


@pytest.mark.parametrize(("rows", "words"), [(4, 2), (3, 1), (8, 5)])
def test_tiles_any_closer_would_lose_sums(rows, words):
    counters, _ = step_array(rows, 3, words, 1, 0, tiles=3)
    assert counters.drained == 2 * (rows - words)
    with pytest.raises(CollisionError):
        step_array(rows, 3, words, 1, 0, tiles=3, spacing=rows - 1)


def test_a_word_never_asks_for_more_than_the_array_has():
    for lanes, window in itertools.product((1, 2, 3, 4, 8), (8, 16, 32)):
        array = Array(4, 4, lanes, window, 8)
        m = 2
        while m <= window:
            for n in range(1, m):
                word = sparse_word(array, n, m)
                assert word.activations <= window
                assert word.slots <= word.beats * lanes
                assert word.slots * m == word.activations * n
                assert word.decode * array.index_bits >= word.activations
            m *= 2


def test_one_tile_is_issued_as_derived():
    # A word of one beat has 2 groups of 1:8; its 16 bits at 4 per cycle take 4 cycles, so each word waits 3, the first 4.
    array = Array(4, 4, 2, 16, 4)
    word = sparse_word(array, 1, 8)
    assert (word.activations, word.slots, word.beats, word.decode) == (16, 2, 1, 4)
    assert issue(word, word.count(100)) == (7, 4 + 6 * 3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Array(4, 4, 2, 12, 8), "power of two"),
        (lambda: Array(4, 4, 8, 4, 8), "at least its lanes"),
        (lambda: Array(0, 4, 2, 8, 8), "rows of an array must be at least 1, got 0"),
        (lambda: sparse_word(Array(4, 4, 2, 8, 8), 1, 16), "m from 2 to 8"),
        (lambda: sparse_word(Array(4, 4, 2, 8, 8), 1, 3), "power of two"),
        (lambda: sparse_word(Array(4, 4, 2, 8, 8), 4, 4), "between 1 and m - 1"),
        (lambda: issue(Word(2, 2), 0), "words must be at least 1, got 0"),
    ],
)
def test_arrays_that_cannot_be_built_are_refused(make, words):
    with pytest.raises(ArgumentError, match=words):
        make()
