"""Numbers with provenance: fields, printing and errors."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilewright.errors import ArgumentError
from tilewright.hardware import Quantity, assumed, derived, sourced

MAKERS = {"sourced": sourced, "derived": derived, "assumed": assumed}
numbers = st.floats(-1e12, 1e12)


@given(st.sampled_from(sorted(MAKERS)), st.lists(numbers, min_size=3, max_size=3).map(sorted))
def test_it_holds_what_it_was_given(kind, ends):
    low, value, high = ends
    quantity = MAKERS[kind](value, "Hz", "a page", low=low, high=high)
    assert (quantity.provenance, quantity.interval, float(quantity), quantity.certain) == (
        kind,
        (low, high),
        value,
        low == high,
    )
    assert pickle.loads(pickle.dumps(quantity)) == copy.deepcopy(quantity) == quantity


@given(numbers)
def test_without_an_interval_it_is_certain(value):
    quantity = sourced(value, "", "a page")
    assert quantity.certain
    assert quantity.interval == (value, value)


@given(numbers, numbers)
def test_one_end_is_enough(value, end):
    quantity = assumed(value, "s", "why", **({"low": end} if end <= value else {"high": end}))
    assert quantity.interval == (min(value, end), max(value, end))


def test_whole_numbers_and_printing():
    quantity = assumed(2.5, "GHz", "between two parts", low=2, high=3)
    assert int(quantity) == 2
    assert str(quantity) == "2.5 GHz (2 to 3) [assumed: between two parts]"
    assert str(sourced(7, "byte", "a page")) == "7 byte [sourced: a page]"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            (1, "Hz", "guessed", "a page"),
            "unknown provenance 'guessed'; expected one of 'sourced', 'derived', 'assumed'",
        ),
        ((1, "Hz", "sourced", "  "), "1 Hz has no source"),
        ((float("nan"), "Hz", "sourced", "a page"), "finite and inside its interval, got nan Hz"),
        ((float("inf"), "Hz", "sourced", "a page"), "finite"),
        ((1, "Hz", "sourced", "a page", 2, 3), "got 1 Hz in 2 to 3"),
        ((1, "Hz", "sourced", "a page", None, 0), "got 1 Hz in 1 to 0"),
    ],
)
def test_refusals(arguments, words):
    with pytest.raises(ArgumentError, match=words):
        Quantity(*arguments)
