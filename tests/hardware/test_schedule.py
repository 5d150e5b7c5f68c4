"""Tiles through loader, lanes and storer against two other ways to compute the same times."""

import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tilewright.errors import ArgumentError
from tilewright.hardware.schedule import closed_form, events

times = st.integers(0, 12)
tiles = st.lists(st.tuples(times, times, times), max_size=12)


def columns(rows):
    return tuple([row[i] for row in rows] for i in range(3)) if rows else ([], [], [])


def longest_path(rows, buffers):
    """End of the last store as the longest path through the graph of what waits for what; every edge written out."""
    ends = {}
    for i, row in enumerate(rows):
        waits = {
            ("load", i): [("load", i - 1), ("compute", i - buffers)],
            ("compute", i): [("load", i), ("compute", i - 1), ("store", i - buffers)],
            ("store", i): [("compute", i), ("store", i - 1)],
        }
        for unit, length in zip(("load", "compute", "store"), row, strict=True):
            ends[unit, i] = max((ends[w] for w in waits[unit, i] if w[1] >= 0), default=0) + length
    return ends["store", len(rows) - 1] if rows else 0


def step_by_step(rows, buffers):
    """A clock that ticks: three units that each take the next tile when its buffer is there; works for times of 1 and more."""
    progress = [0, 0, 0]
    left = [None, None, None]
    for cycle in itertools.count():
        if progress[2] == len(rows):
            return cycle
        ready = [
            progress[0] < len(rows) and progress[0] - progress[1] < buffers,
            progress[1] < progress[0] and progress[1] - progress[2] < buffers,
            progress[2] < progress[1],
        ]
        for unit in range(3):
            if left[unit] is None and ready[unit]:
                left[unit] = rows[progress[unit]][unit]
        for unit in range(3):
            if left[unit] is not None:
                left[unit] -= 1
                if left[unit] == 0:
                    left[unit] = None
                    progress[unit] += 1
    raise AssertionError


@given(tiles, st.integers(1, 4))
@example([(4, 10, 2)] * 3, 1)
def test_events_are_the_longest_path(rows, buffers):
    timing = events(*columns(rows), buffers)
    assert timing.total == longest_path(rows, buffers)
    assert timing.total == timing.busy + timing.starved + timing.blocked + timing.tail
    assert timing.busy == sum(row[1] for row in rows)
    assert min(timing.starved, timing.blocked, timing.tail) >= 0


@given(st.lists(st.tuples(*[st.integers(1, 9)] * 3), min_size=1, max_size=10), st.integers(1, 3))
def test_events_are_what_a_ticking_clock_sees(rows, buffers):
    assert events(*columns(rows), buffers).total == step_by_step(rows, buffers)


@given(times, times, times, st.integers(1, 20), st.integers(2, 4))
def test_closed_form_is_exact_for_tiles_that_are_alike(load, compute, store, count, buffers):
    timing = closed_form([load] * count, [compute] * count, [store] * count)
    assert timing.total == events([load] * count, compute, store, buffers).total
    assert timing.total == timing.busy + timing.starved + timing.blocked + timing.tail
    assert min(timing.starved, timing.blocked, timing.tail) >= 0


@given(tiles, st.integers(1, 4))
def test_closed_form_is_never_above_events_nor_events_above_one_after_the_other(rows, buffers):
    bound = closed_form(*columns(rows))
    exact = events(*columns(rows), buffers)
    assert bound.total <= exact.total <= sum(map(sum, rows))
    assert bound.busy == exact.busy
    assert bound.total == bound.busy + bound.starved + bound.blocked + bound.tail
    assert min(bound.starved, bound.blocked, bound.tail) >= 0


@given(tiles, st.integers(1, 3))
def test_more_buffers_never_cost_time(rows, buffers):
    assert events(*columns(rows), buffers + 1).total <= events(*columns(rows), buffers).total


@given(tiles)
def test_one_buffer_lets_nothing_overlap_with_the_lanes(rows):
    timing = events(*columns(rows), 1)
    # The next load may overlap with the store, never with the computation.
    assert timing.total >= sum(load + compute for load, compute, _ in rows)


def test_numbers_stand_for_every_tile():
    assert events([4] * 5, 10, 2) == events([4] * 5, [10] * 5, [2] * 5)
    assert events(np.array([4, 4]), np.int64(10), 2).total == 26


def test_nothing_to_do_takes_no_time():
    assert events([], [], []).total == closed_form([], [], []).total == 0


@pytest.mark.parametrize("form", [events, closed_form])
def test_refusals(form):
    with pytest.raises(ArgumentError, match="cannot be negative"):
        form([1], [-1], [1])
    with pytest.raises(ArgumentError, match="buffers must be at least 1, got 0"):
        events([1], [1], [1], 0)
