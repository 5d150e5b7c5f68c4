"""Batches: seekable, each item once per pass, of similar length; and the digest that distinguishes inputs."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tilewright.errors import ArgumentError
from tilewright.records import digest
from tilewright.training import Batches


@given(st.integers(1, 60), st.data(), st.integers(0, 5), st.booleans())
def test_every_pass_draws_distinct_items_and_any_step_can_be_asked_for_first(count, data, seed, bucketed) -> None:
    size = data.draw(st.integers(1, count))
    lengths = [(7 * i) % 13 for i in range(count)] if bucketed else None

    def fresh() -> Batches:
        return Batches(range(count), size, seed=seed, collate=list, lengths=lengths)

    batches = fresh()
    assert batches.per_pass == count // size
    steps = range(3 * batches.per_pass)
    seen = [batches[step] for step in steps]
    assert all(fresh()[step] == seen[step] for step in reversed(steps))
    for number in range(3):
        drawn = [item for step in range(batches.per_pass) for item in seen[number * batches.per_pass + step]]
        assert len(set(drawn)) == len(drawn) == batches.per_pass * size
        assert set(drawn) <= set(range(count))


def test_seed_and_pass_change_the_order() -> None:
    orders = {tuple(Batches(range(100), 50, seed=seed).indices(step)) for seed in (0, 1) for step in (0, 1, 2, 3)}
    assert len(orders) == 8


def test_lengths_make_batches_alike_but_not_sorted() -> None:
    lengths = np.random.default_rng(0).integers(1, 500, 1024)
    plain = Batches(range(1024), 16, collate=list)
    bucketed = Batches(range(1024), 16, collate=list, lengths=lengths)

    def padded(batches: Batches) -> int:
        return sum(16 * int(lengths[batches[step]].max()) for step in range(64))

    assert padded(bucketed) < 1.15 * lengths.sum() < padded(plain)
    longest = [int(lengths[bucketed[step]].max()) for step in range(16)]  # one pool that is sorted together
    assert longest != sorted(longest)


def test_tensors_are_stacked_by_default() -> None:
    items = list(torch.arange(12).reshape(6, 2))
    batches = Batches(items, 3, seed=2)
    assert torch.equal(batches[1], torch.stack([items[i] for i in batches.indices(1)]))


def test_impossible_batches_are_refused() -> None:
    with pytest.raises(ArgumentError, match="size must be from 1 to the number of items, 3; got 8"):
        Batches([1, 2, 3], 8)
    with pytest.raises(ArgumentError, match="lengths must have one entry per item; got 2 for 3 items"):
        Batches([1, 2, 3], 1, lengths=[1, 2])
    with pytest.raises(ArgumentError, match="step must be 0 or more; got -1"):
        Batches([1, 2, 3], 1)[-1]


def test_digest_tells_values_apart() -> None:
    values = [
        1, 1.0, True, "1", b"1", None, [1], [[1]], [1, 1], [[1], 1], {"a": 1}, {"b": 1}, ["a", 1],
        torch.tensor([1]), torch.tensor([1.0]), torch.tensor([[1]]), np.array([1]), torch.tensor(1, dtype=torch.bfloat16), object(),
    ]  # fmt: skip
    assert len({digest(value) for value in values}) == len(values)
    assert digest({"a": torch.arange(6).reshape(2, 3).T}) == digest({"a": torch.arange(6).reshape(2, 3).T.contiguous()})
    assert digest("a", "b") != digest("ab")
    assert digest((1, 2)) == digest([1, 2])
