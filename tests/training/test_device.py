"""Masks computed on the weights' device match the definition, for every layout, including ties and short groups."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tilewright import NM
from tilewright import mask as best_mask
from tilewright.errors import PatternError
from tilewright.patterns import as_matrix, from_matrix
from tilewright.pruning import Assignment, prunable
from tilewright.training.methods import device
from tilewright.training.methods.device import group_mask, solve_where_they_are


@given(st.integers(1, 7), st.integers(1, 40), st.integers(2, 17), st.data(), st.booleans())
def test_group_masks_are_those_of_the_definition(rows, inputs, m, data, ties) -> None:
    n = data.draw(st.integers(1, m))
    generator = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    shape = (rows, inputs)
    scores = generator.integers(0, 3, shape).astype(np.float32) if ties else generator.random(shape, dtype=np.float32)
    if n < m and inputs <= n:
        return  # the pattern refuses such a weight
    assert np.array_equal(group_mask(torch.from_numpy(scores), n, m).numpy(), best_mask(NM(n, m), scores))


@pytest.mark.parametrize("layout", ["linear", "conv", "transposed"])
def test_layouts_go_there_and_back(layout: str) -> None:
    tensor = torch.randn(6, 5, 3, 2) if layout == "conv" else torch.randn(6, 5)
    matrix = device._matrix(tensor, layout)
    assert np.array_equal(matrix.numpy(), as_matrix(tensor.numpy(), layout))
    stored = device._stored(matrix, layout, tuple(tensor.shape))
    assert torch.equal(stored, tensor)
    assert np.array_equal(stored.numpy(), from_matrix(matrix.numpy(), layout, tuple(tensor.shape)))


class _Elsewhere:
    """A tensor that claims to be on an accelerator."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor, self.device = tensor, torch.device("cuda")


def test_only_plain_groups_are_computed_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    model = nn.Sequential(nn.Conv2d(8, 6, 3), nn.Linear(8, 6), nn.Linear(8, 6))
    weights = prunable(model)
    patterns = [NM(2, 4), NM(1, 4), NM(2, 4, tile=2)]
    assignments = [Assignment(weight, pattern) for weight, pattern in zip(weights, patterns, strict=True)]
    expected = solve_where_they_are(assignments, lambda weight: weight.tensor.detach().abs(), "uniform")
    remote = [
        Assignment(replace(c.weight, tensor=_Elsewhere(c.weight.tensor)), c.pattern) for c in assignments[:2]
    ] + assignments[2:]
    calls = []
    monkeypatch.setattr(device, "group_mask", lambda *a: calls.append(a) or group_mask(*a))

    def scorer(weight):
        return getattr(weight.tensor, "tensor", weight.tensor).detach().abs()

    masks = solve_where_they_are(remote, scorer, "uniform")
    assert len(calls) == 2
    assert all(torch.equal(masks[name], mask) for name, mask in expected.items())
    with pytest.raises(PatternError, match=r"scores of 0\.weight contain NaN or infinite elements"):
        solve_where_they_are(remote[:1], lambda weight: scorer(weight) * float("nan"), "uniform")
