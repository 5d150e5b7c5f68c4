"""Advice: limits that hold, plans that no other beats, targets to pass on, and errors that name the least that can be reached."""

import copy
import itertools
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import tilewright
from tilewright.advice import meet
from tilewright.advice.advisor import advise
from tilewright.errors import ArgumentError, TargetError
from tilewright.hardware.simulate import simulate
from tilewright.patterns import parse
from tilewright.pruning import Calibration, Candidate, masks_of, patterns_of

EXAMPLE = torch.zeros(64, 256)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 16))


def dense_seconds(model, target):
    return advise(model, target, latency=10.0, example=EXAMPLE).summary["dense latency, s"]


@pytest.mark.parametrize(("target", "share"), [("s4", 0.7), ("sta", 0.6), ("s30", 0.8)])
def test_a_latency_is_met_by_the_model_pruned_as_advised(model, target, share):
    limit = share * dense_seconds(model, target)
    advice = advise(model, target, latency=limit, example=EXAMPLE)
    assert advice.ok
    assert advice.targets
    pruned = copy.deepcopy(model)
    report = tilewright.sparsify_(pruned, "2:4", targets=advice.targets, strict=True)
    assert report.ok
    assert patterns_of(pruned) == advice.targets
    run = simulate(pruned, target, example=EXAMPLE, fidelity="analytical", interval=True)
    assert run.seconds <= limit
    assert run.seconds == pytest.approx(advice.summary["predicted latency, s"], rel=1e-6)
    assert run.interval == pytest.approx(
        (advice.summary["predicted latency, low"], advice.summary["predicted latency, high"])
    )
    for row in advice.rows:
        kept = masks_of(pruned).get(row["name"])
        if kept is not None:
            weight = model.get_parameter(row["name"]).detach()
            assert row["loss"] == pytest.approx(float(weight[~kept].square().sum() / weight.square().sum()), rel=1e-4)


def test_dense_is_advised_where_dense_will_do(model):
    advice = advise(model, "a100", latency=1.0, example=EXAMPLE)
    assert advice.ok
    assert advice.targets == {}
    assert all(row["pattern"] == "dense" and row["reason"] for row in advice.rows)


def test_layers_that_gain_nothing_say_so(model):
    advice = advise(model, "v100", latency=1e-7, example=EXAMPLE, patterns=["2:4"])
    assert not advice.ok
    assert all(row["reason"].startswith("no pattern is faster here") for row in advice.rows)
    assert "the least is" in advice.summary["cannot"]


def test_layers_that_cannot_take_a_pattern_say_why():
    odd = nn.Sequential(nn.Linear(256, 513))
    pattern = "2:4t"
    (row,) = advise(odd, "s4", latency=1e-9, example=EXAMPLE, patterns=[pattern]).rows
    assert row["pattern"] == "dense"
    assert row["reason"] == parse(pattern).refusal((513, 256)) != ""


def test_the_least_is_the_least(model):
    advice = advise(model, "sta", latency=1e-7, example=EXAMPLE, patterns=["2:8", "1:8"])
    assert not advice.ok
    least = float(re.search(r"the least is ([\d.e-]+) s", advice.summary["cannot"])[1])
    every = itertools.product([None, "2:8", "1:8"], repeat=3)
    names = [row["name"] for row in advice.rows]
    seconds = []
    for patterns in every:
        pruned = copy.deepcopy(model)
        targets = {name: text for name, text in zip(names, patterns, strict=True) if text}
        if targets:
            tilewright.sparsify_(pruned, "2:4", targets=targets)
        seconds.append(simulate(pruned, "sta", example=EXAMPLE, fidelity="analytical", interval=False).seconds)
    assert least == pytest.approx(min(seconds), rel=1e-3)


def test_data_decides_which_layer_is_spared():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 256))
    x = torch.randn(32, 256)
    reference = model[0](x).detach()
    data = Calibration(
        iter([x]), loss=lambda m, batch: (m[0](batch) - reference).square().mean()
    )  # the loss does not depend on the second layer
    limit = 0.75 * advise(model, "sta", latency=10.0, example=x).summary["dense latency, s"]
    advice = advise(model, "sta", latency=limit, example=x, data=data, patterns=["1:8"])
    assert advice.ok
    assert list(advice.targets) == ["2.weight"]
    assert advice.summary["loss predicted by"].startswith("a sensitivity scan")
    assert advice.summary["predicted loss increase"] == 0
    with torch.no_grad():
        model[0].weight[:, ::8] *= 100  # by its weights alone, the first layer now has less to lose
    blind = advise(model, "sta", latency=limit, example=x, patterns=["1:8"])
    assert list(blind.targets) == ["0.weight"]
    assert "energy pruned away, summed" in blind.summary


def test_a_size_is_met(model):
    dense = advise(model, "s4", size=1e9, example=EXAMPLE).summary["dense bytes"]
    assert dense == sum(4 * p.numel() for p in model.parameters())
    advice = advise(model, "s4", size=0.5 * dense, example=EXAMPLE)
    assert advice.ok
    assert advice.summary["predicted bytes"] <= 0.5 * dense
    none = advise(model, "s4", size=1000, example=EXAMPLE)
    assert not none.ok
    assert "bytes cannot be met with these patterns: the least is" in none.summary["cannot"]


def test_both_limits_are_met(model):
    dense = advise(model, "sta", latency=10.0, example=EXAMPLE).summary
    limits = {"latency": 0.7 * dense["dense latency, s"], "size": 0.45 * dense["dense bytes"]}
    advice = advise(model, "sta", **limits, example=EXAMPLE)
    assert advice.ok
    assert advice.summary["predicted latency, s"] <= limits["latency"]
    assert advice.summary["predicted bytes"] <= limits["size"]


class Sums:
    """A clock that only adds."""

    def __init__(self, offers, rest):
        self.offers, self.rest = offers, rest

    def network(self, chosen, *, interval=False):
        from tilewright.advice import Latency

        total = self.rest + sum(
            next(candidate.seconds for candidate in candidates if candidate.pattern == chosen.get(name))
            for name, candidates in self.offers.items()
        )
        return Latency(total, total, total)


def test_plans_within_a_latency_are_the_best_there_are():
    generator = torch.Generator().manual_seed(0)
    kinds = [None, parse("2:4"), parse("1:4")]
    for _ in range(20):
        numbers = torch.rand(4, 3, 2, generator=generator).tolist()
        offers = {
            f"layer{i}": [
                Candidate(kind, 0.0 if kind is None else loss, seconds + (kind is None), 1.0)
                for kind, (loss, seconds) in zip(kinds, row, strict=True)
            ]
            for i, row in enumerate(numbers)
        }
        clock = Sums(offers, 0.5)
        outcome = meet(offers, clock, 3.5, None, 0.0)
        ways = [
            sum(candidate.loss for candidate in way)
            for way in itertools.product(*offers.values())
            if 0.5 + sum(candidate.seconds for candidate in way) <= 3.5
        ]
        assert bool(ways) != bool(outcome.missed)
        if ways:
            assert sum(candidate.loss for candidate in outcome.chosen.values()) == pytest.approx(min(ways))


class Hiding(Sums):
    """A clock on which shorter layers hide less: pruning saves half of what it seems to."""

    def network(self, chosen, *, interval=False):
        from tilewright.advice import Latency

        dense = super().network({}).seconds
        total = dense - (dense - super().network(chosen).seconds) / 2
        return Latency(total, total, total)


def test_what_layers_do_not_save_is_asked_of_others():
    kinds = [
        Candidate(None, 0, 2.0, 1.0),
        Candidate(parse("2:4"), 1.0, 1.0, 1.0),
        Candidate(parse("1:4"), 3.0, 0.0, 1.0),
    ]
    offers = {f"layer{i}": kinds for i in range(4)}
    outcome = meet(offers, Hiding(offers, 1.0), 7.0, None, 0.0)  # 9 dense: saving 2 takes 4 of the layers' seconds
    assert not outcome.missed
    assert sum(candidate.seconds for candidate in outcome.chosen.values()) == 4.0
    assert sum(candidate.loss for candidate in outcome.chosen.values()) == 4.0
    assert meet(offers, Hiding(offers, 1.0), 4.9, None, 0.0).missed.endswith(
        "the least is 5 s, with every layer at its fastest"
    )


def test_this_machine_is_measured(model):
    advice = advise(model, "cpu", latency=1.0, example=EXAMPLE, patterns=["tw16@75%"])
    assert advice.ok
    assert advice.targets == {}
    summary = advice.summary
    assert summary["dense latency, low"] <= summary["dense latency, s"] <= summary["dense latency, high"]
    fast = advise(model, "cpu", latency=1e-9, example=EXAMPLE, patterns=["tw16@75%"])
    assert not fast.ok
    for row in fast.rows:
        assert row["us"] <= row["us, dense"]
        assert row["pattern"] == "tw16@75%" or row["reason"].startswith("no pattern is faster here")
    assert not any(module.training is False for module in model.modules())


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m: advise(m, "s4", example=EXAMPLE), ArgumentError, "needs a limit: latency in seconds, size in bytes, or both"),
        (lambda m: advise(m, "s4", latency=-1, example=EXAMPLE), ArgumentError, "latency is -1; it must be a positive"),
        (lambda m: advise(m, "s5", latency=1, example=EXAMPLE), ArgumentError, "unknown accelerator 's5'; expected one of 'a100'"),
        (lambda m: advise(m, "cpu", latency=1, example=EXAMPLE, dtype="int8"), ArgumentError, "dtype is int8, but layers run in float32 on the CPU"),
        (lambda m: advise(m, "s4", latency=1), ArgumentError, "pass those of one call as example="),
        (lambda m: advise(m, "s4", latency=1, example=EXAMPLE, ignore=["nothing"]), TargetError, "ignore 'nothing' matches nothing"),
        (lambda m: advise("bert-base", "s4", latency=1), ArgumentError, "bert-base is not a folder; pass the folder of a model"),
        (lambda m: advise(3, "s4", latency=1), ArgumentError, "model is of type int; expected a torch module"),
        (lambda m: advise(m, "t4-dense", latency=1, example=EXAMPLE, patterns=["2:"]), tilewright.errors.PatternError, "2:"),
    ],
)  # fmt: skip
def test_refusals(model, call, error, words):
    with pytest.raises(error, match=words):
        call(model)


def test_the_page_runs():
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "advise.md").read_text()
    names = {"__name__": "page"}
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 3
    for code in blocks:
        exec(compile(code, "page", "exec"), names)
