"""Plans from candidates: limits, costs as tables and functions, and error messages."""

import pytest
import torch
from torch import nn

from tilewright.errors import ArgumentError
from tilewright.patterns import NM, TileWise
from tilewright.pruning import (
    Calibration,
    Candidate,
    candidates,
    masks_of,
    patterns_of,
    plan,
    sensitivity_scan,
    sparsify_,
)

from .models import mlp

TWO = {
    "a": (Candidate(None, 0.0, 4.0, 100), Candidate(NM(2, 4), 0.1, 3.0, 60), Candidate(NM(1, 4), 0.5, 1.0, 40)),
    "b": (Candidate(None, 0.0, 4.0, 100), Candidate(NM(2, 4), 0.2, 2.0, 60)),
}


@pytest.mark.parametrize(
    ("limit", "chosen"),
    [
        ({"size": 1000}, {}),
        ({"size": 160}, {"a": NM(2, 4)}),
        ({"size": 120}, {"a": NM(2, 4), "b": NM(2, 4)}),
        ({"size": 100}, {"a": NM(1, 4), "b": NM(2, 4)}),
        ({"latency": 7.0}, {"a": NM(2, 4)}),
        ({"latency": 6.0}, {"b": NM(2, 4)}),
        ({"latency": 5.0}, {"a": NM(2, 4), "b": NM(2, 4)}),
    ],
)
def test_a_plan_a_reader_can_check_by_eye(limit, chosen):
    best = plan(TWO, **limit)
    assert best.targets == chosen
    assert best.loss == pytest.approx(sum(best.chosen[name].loss for name in TWO))
    assert (best.seconds if "latency" in limit else best.bytes) <= next(iter(limit.values()))


def test_the_report_of_a_plan_has_a_row_a_layer():
    report = plan(TWO, size=160).report()
    assert [(row["name"], row["pattern"]) for row in report.rows] == [("a", "2:4"), ("b", "dense")]
    assert report.summary == {"predicted loss increase": 0.1, "seconds": 7.0, "bytes": 160.0}


@pytest.mark.parametrize(
    ("choices", "limits", "sentence"),
    [
        (TWO, {}, "exactly one limit: latency in seconds, or size in bytes"),
        (TWO, {"size": 1, "latency": 1}, "one limit"),
        (TWO, {"size": 99}, "99 bytes cannot be met: the candidates take 100 in total at least, and 200 at most"),
        ({}, {"size": 1}, "the model has no candidates"),
        ({"a": ()}, {"size": 1}, "a has no candidates"),
        (
            {"a": [Candidate(NM(2, 4), 0.1)]},
            {"size": 1},
            "the bytes of a at 2:4 are unknown, but the limit is in bytes",
        ),
        ({"a": [Candidate(None, 0.1, -1.0)]}, {"latency": 1}, "seconds of a at dense must be a finite number"),
        ({"a": [Candidate(None, float("nan"), 1.0)]}, {"latency": 1}, "losses of candidates must be finite"),
    ],
)
def test_what_cannot_be_planned_is_said(choices, limits, sentence):
    with pytest.raises(ArgumentError, match=sentence):
        plan(choices, **limits)


def scanned(patterns=("2:4", "1:4")):
    model, x = mlp(), torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    data = Calibration([x], lambda m, batch: (m(batch) - 1).square().mean())
    return model, data, sensitivity_scan(model, list(patterns), data)


def test_costs_are_a_table_or_a_function():
    _, _, scan = scanned()
    table = {("0.weight", "dense"): 3.0, ("0.weight", "2:4"): 2.0, ("0.weight", "1:4"): 1.0}
    table |= {("2.weight", text): seconds for (_, text), seconds in table.items()}
    by_table = candidates(scan, seconds=table)
    by_function = candidates(scan, seconds=lambda name, pattern: 3.0 if pattern is None else float(pattern.n))
    assert by_table == by_function
    assert [candidate.seconds for candidate in by_table["0.weight"]] == [3.0, 2.0, 1.0]
    assert all(candidate.loss >= 0 for options in by_table.values() for candidate in options)
    assert [candidate.bytes for candidate in by_table["0.weight"]] == [row["bytes"] for row in scan.report().rows[:3]]
    assert candidates(scan, dense=False)["0.weight"] == candidates(scan)["0.weight"][1:]
    with pytest.raises(
        ArgumentError, match=r"no seconds given for 0\.weight at dense; add an entry for \('0\.weight', 'dense'\)"
    ):
        candidates(scan, seconds={})


def test_a_plan_is_what_sparsify_takes():
    model, _, scan = scanned()
    whole = sum(options[0].bytes for options in candidates(scan).values())
    best = plan(candidates(scan), size=0.7 * whole)
    assert best.targets
    sparsify_(model, "2:4", targets=best.targets)
    assert patterns_of(model) == best.targets
    assert set(masks_of(model)) == set(best.targets)


def test_layers_that_cannot_take_a_pattern_have_no_candidate_for_it():
    _, _, scan = scanned(["2:4", str(TileWise(4, 0.5)), "4:16"])
    offers = candidates(scan)
    assert [str(candidate.pattern) for candidate in offers["0.weight"]] == ["None", "2:4", "tw4@50%", "4:16"]
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 8))
    data = Calibration([torch.ones(2, 4)], lambda m, batch: m(batch).square().mean())
    scan = sensitivity_scan(model, ["2:4", "4:16"], data)
    assert [str(candidate.pattern) for candidate in candidates(scan)["0.weight"]] == ["None", "2:4"]
    refused = [row for row in scan.report().rows if row["reason"]]
    assert [(row["pattern"], row["loss"], row["loss increase"]) for row in refused] == 2 * [("4:16", None, None)]
