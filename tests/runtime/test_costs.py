"""Measured costs: one entry per layer and pattern, never more than dense, usable for a plan."""

import math

import pytest
import torch
from torch import nn

from tilewright.errors import ArgumentError, CheckFailed
from tilewright.pruning import Calibration, Limit, candidates, patterns_of, plan, sensitivity_scan, sparsify_
from tilewright.runtime import measured_costs
from tilewright.runtime.measured import costs
from tilewright.runtime.measured.timing import Timing


class Mixed(nn.Module):
    """Two linear layers of one shape, one of another, and a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(32, 32), nn.Linear(32, 32, bias=False), nn.Linear(32, 6)
        self.conv = nn.Conv1d(4, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(x).relu()).relu())


@pytest.fixture
def timed(monkeypatch):
    """Replace timing by a function of the layer alone; return the calls made."""
    calls = []

    def fake(dense, sparse, inputs):
        (x,) = inputs
        calls.append((tuple(dense.weight.shape), getattr(sparse, "pattern", "dense"), len(x)))
        slow = 10.0 if getattr(sparse, "pattern", "") == "3:4" else 0.5
        return [Timing(float(dense.weight.numel()), slow * dense.weight.numel(), True)]

    monkeypatch.setattr(costs, "timings", fake)
    return calls


def test_layers_of_one_shape_are_measured_once(timed):
    found = measured_costs(Mixed(), ["2:4", "3:4", "8:64"], tokens=7)
    assert timed == [((32, 32), "2:4", 7), ((32, 32), "3:4", 7), ((32, 32), "8:64", 7)] + [
        ((6, 32), text, 7) for text in ("2:4", "3:4", "8:64")
    ]
    assert {name for name, _ in found} == {"first.weight", "second.weight", "head.weight"}
    assert found["second.weight", "dense"] == 1024.0
    assert found["second.weight", "2:4"] == 512.0
    assert found["second.weight", "3:4"] == 1024.0  # slower packed, so it would run dense


def test_a_refused_pattern_has_no_entry_and_dense_always_has(timed):
    found = measured_costs(Mixed(), ["2:64", "48:64"])
    assert ("head.weight", "2:64") in found
    assert ("head.weight", "48:64") not in found
    assert measured_costs(Mixed(), "48:64")["head.weight", "dense"] == 6 * 32


def test_the_real_thing_is_positive_and_leaves_the_model_alone():
    model = Mixed()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = measured_costs(model, ["2:4", "tw4@50%"], tokens=3)
    assert len(found) == 9
    assert all(0 < seconds < math.inf for seconds in found.values())
    for name in ("first.weight", "second.weight", "head.weight"):
        assert max(found[name, "2:4"], found[name, "tw4@50%"]) <= found[name, "dense"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_kernel_that_is_wrong_is_not_timed(monkeypatch):
    monkeypatch.setattr(costs.SparseLinear, "forward", lambda self, x: torch.ones(len(x), self.out_features))
    with pytest.raises(CheckFailed, match="its speed is not measured"):
        measured_costs(Mixed(), ["2:4"])


def test_nothing_to_measure_is_said():
    with pytest.raises(ArgumentError, match="no linear layer that could run packed"):
        measured_costs(nn.Sequential(nn.Conv1d(4, 4, 3)), ["2:4"])
    with pytest.raises(ArgumentError, match="tokens must be a positive integer"):
        measured_costs(Mixed(), ["2:4"], tokens=0)


def test_costs_lead_to_a_plan_that_sparsify_takes(timed):
    model, x = Mixed(), torch.randn(16, 32, generator=torch.Generator().manual_seed(0))
    data = Calibration([x], lambda m, batch: (m(batch) - 1).square().mean())
    scan = sensitivity_scan(model, ["2:4", "1:4"], data, ignore=["conv"])
    seconds = measured_costs(model, ["2:4", "1:4"])
    found = plan(candidates(scan, seconds=seconds), latency=1700)
    assert found.seconds <= 1700
    twin = Mixed()
    twin.load_state_dict(model.state_dict())
    sparsify_(model, "2:4", targets=found.targets)
    limit = Limit(latency=1700, seconds=seconds, patterns=["2:4", "1:4"])
    sparsify_(twin, "2:4", budget="constrained", data=data, limit=limit, ignore=["conv"])
    assert patterns_of(model) == patterns_of(twin) == found.targets
