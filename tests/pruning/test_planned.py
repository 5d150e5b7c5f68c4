"""Budgets that scan: the split against brute force and a linear program, and its use in `sparsify_`."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import nn

from tilewright.errors import ArgumentError
from tilewright.patterns import NM, Block, TileElementWise, TileVectorWise, TileWise, Unstructured, parse
from tilewright.pruning import (
    Calibration,
    Limit,
    Scan,
    ScanPoint,
    masks_of,
    patterns_of,
    prunable,
    sensitivity_scan,
    sparsify_,
)
from tilewright.pruning.plans.planned import _members, _sparsities, family

from .models import mlp


def deep() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(16, 24), nn.Tanh(), nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, 8))


def calibration() -> Calibration:
    x = torch.randn(64, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        # The noise keeps the model away from a minimum of the loss.
        y = deep()(x) + 0.1 * torch.randn(64, 8, generator=torch.Generator().manual_seed(1))
    return Calibration([(x, y)], lambda model, batch: (model(batch[0]) - batch[1]).square().mean())


def kept_share(model: nn.Module) -> float:
    masks = masks_of(model)
    kept = sum(int(masks[w.name].sum()) if w.name in masks else w.tensor.numel() for w in prunable(model))
    return kept / sum(w.tensor.numel() for w in prunable(model))


@pytest.mark.parametrize(
    ("pattern", "members"),
    [
        (NM(1, 4), "3:4 2:4 1:4"),
        (NM(2, 4, tile=8), "3:4x8 2:4x8 1:4x8"),
        (NM(5, 8, transposable=True), "7:8t 6:8t 5:8t 4:8t 3:8t 2:8t 1:8t"),
        (NM(4, 64), "32:64 16:64 8:64 4:64 2:64 1:64"),
        (NM(5, 33), "32:33 16:33 8:33 5:33 4:33 2:33 1:33"),
        (TileWise(16, 0.6), "tw16@25% tw16@50% tw16@60% tw16@75% tw16@80% tw16@87.5% tw16@95%"),
        (TileVectorWise(16, 0.75), "tvw16@50% tvw16@75% tvw16@87.5% tvw16@95%"),
        (TileElementWise(16, 0.9, 0.05), "tew16@25%+5% tew16@50%+5% tew16@75%+5% tew16@87.5%+5% tew16@90%+5%"),
        (Unstructured(0.5), "any@25% any@50% any@75% any@87.5% any@95%"),
        (Block(4, 4, 0.0), "block4x4@0% block4x4@25% block4x4@50% block4x4@75% block4x4@87.5% block4x4@95%"),
    ],
)
def test_a_family_holds_what_it_is_named_for(pattern, members):
    assert [str(member) for member in family(pattern)] == members.split()


def test_members_are_the_best_of_all_combinations():
    data, scan = calibration(), sensitivity_scan(deep(), ["3:4", "2:4", "1:4"], calibration())
    by_layer: dict[str, list[tuple[float, float, str]]] = {}
    for row in scan.report().rows:
        kept = row["density"] * np.prod(row["shape"])
        by_layer.setdefault(row["name"], []).append((max(0.0, row["loss increase"]), kept, row["pattern"]))
    total = sum(np.prod(row["shape"]) for row in scan.report().rows if row["pattern"] == "dense")
    fitting = [
        combination
        for combination in product(*by_layer.values())
        if sum(kept for _, kept, _ in combination) <= total / 2
    ]
    best = min(fitting, key=lambda combination: sum(loss for loss, _, _ in combination))
    model = deep()
    sparsify_(model, "2:4", budget="sensitivity", data=data)
    patterns = patterns_of(model)
    assert [str(patterns.get(name, "dense")) for name in by_layer] == [text for _, _, text in best]
    assert len({text for _, _, text in best}) > 1  # otherwise the test would not distinguish layers
    assert kept_share(model) <= 0.5


@pytest.mark.parametrize(
    "text", ["tw4@60%", "any@90%", "tew4@60%+5%", "tvw4@70%", "block4x4@50%", "2:8", "2:8x4", "4:8t"]
)
@pytest.mark.parametrize("score", ["magnitude", "taylor"])
def test_the_density_is_that_of_the_pattern(text, score):
    model, uniform = deep(), deep()
    data = calibration()
    report = sparsify_(model, text, budget="sensitivity", score=score, data=data)
    sparsify_(uniform, text)
    assert report.summary["budget"] == "sensitivity"
    # Tiles and blocks come in whole numbers; for other patterns the split is exact to four decimals.
    assert kept_share(model) <= kept_share(uniform) + (0.02 if "w" in text or "block" in text else 1e-3)
    assert kept_share(model) >= kept_share(uniform) - 0.06
    assert len({patterns_of(model).get(weight.name) for weight in prunable(model)}) > 1  # None for dense: uneven


def scan_of(rows):
    """Return a scan with these points: (name, number of elements, pattern text, density, increase of the loss)."""
    points = [
        ScanPoint(name, (size // 4, 4), None if text == "dense" else parse(text), density, rise=rise, bytes=1)
        for name, size, text, density, rise in rows
    ]
    return Scan(tuple(points), dense_loss=1.0, patterns=3, batches=1, score="magnitude", cached=0)


def envelope(kept: np.ndarray, losses: np.ndarray, at: float) -> float:
    """Return the least loss of a mixture of points that keeps at most a given density."""
    solution = linprog(losses, A_ub=[kept], b_ub=[at + 1e-9], A_eq=[np.ones(len(kept))], b_eq=[1.0])
    assert solution.status == 0, solution.message
    return float(solution.fun)


@settings(max_examples=40)
@given(data=st.data(), layers=st.integers(1, 4), sparsity=st.sampled_from([0.3, 0.5, 0.8]))
def test_sparsities_split_as_a_linear_program_would(data, layers, sparsity):
    pattern = Unstructured(sparsity)
    rows, curves = [], []
    for index in range(layers):
        size = data.draw(st.sampled_from([16, 64, 1024]))
        rises = data.draw(st.lists(st.floats(-0.2, 2), min_size=len(family(pattern)), max_size=len(family(pattern))))
        points = [("dense", 1.0, 0.0), *((str(p), p.density, r) for p, r in zip(family(pattern), rises, strict=True))]
        rows += [(f"{index}", size, *point) for point in points]
        curves.append((size, np.array([d for _, d, _ in points]), np.array([max(0.0, r) for _, _, r in points])))
    patterns = _sparsities(scan_of(rows), pattern)
    densities = [1.0 if chosen is None else chosen.density for chosen in patterns.values()]
    total = sum(size for size, _, _ in curves)
    assert sum(size * d for (size, _, _), d in zip(curves, densities, strict=True)) <= (1 - sparsity) * total + 1e-6
    loss = sum(envelope(kept, losses, d) for (_, kept, losses), d in zip(curves, densities, strict=True))
    objective = np.concatenate([losses for _, _, losses in curves])
    room = np.concatenate([size * kept for size, kept, _ in curves])
    one_per_layer = np.array(
        [[float(layer == row) for layer, (_, kept, _) in enumerate(curves) for _ in kept] for row in range(layers)]
    )
    best = linprog(objective, A_ub=[room], b_ub=[(1 - sparsity) * total], A_eq=one_per_layer, b_eq=np.ones(layers))
    assert best.status == 0, best.message
    steepest = max(float(np.abs(np.diff(losses) / np.diff(kept)).max()) for _, kept, losses in curves)
    assert (
        best.fun - 1e-7 <= loss <= best.fun + 1e-4 * layers * steepest + 1e-6
    )  # densities are cut after four decimals


def test_flat_curves_prune_evenly_and_no_more_than_asked():
    rows = [
        (name, 16, text, density, 0.0)
        for name in "ab"
        for text, density in [("dense", 1.0), ("any@50%", 0.5), ("any@75%", 0.25), ("any@95%", 0.05)]
    ]
    patterns = _sparsities(scan_of(rows), Unstructured(0.75))
    assert patterns == {"a": Unstructured(0.75), "b": Unstructured(0.75)}


def test_flat_losses_prune_no_more_than_asked_to_whole_patterns():
    rises = {"a": (-0.1, 0.0, 0.0), "b": (0.0, -0.2, -0.3), "c": (0.0, 0.0, 0.5)}
    rows = [
        (name, 16, text, density, rise)
        for name, increases in rises.items()
        for text, density, rise in zip(
            ("dense", "3:4", "2:4", "1:4"), (1.0, 0.75, 0.5, 0.25), (0.0, *increases), strict=True
        )
    ]
    assert _members(scan_of(rows), NM(2, 4)) == dict.fromkeys("abc", NM(2, 4))


@pytest.mark.parametrize("limit", [Limit(size=1600), Limit(size=1600, patterns=["2:4", "tw4@75%"])])
def test_constrained_holds_the_size(limit):
    model, data = deep(), calibration()
    sparsify_(model, "2:4", budget="constrained", data=data, limit=limit)
    scan = sensitivity_scan(deep(), limit.patterns or ["3:4", "2:4", "1:4"], data)
    patterns = patterns_of(model)
    sizes = [
        row["bytes"]
        for row in scan.report().rows
        if row["pattern"] == (str(patterns[row["name"]]) if row["name"] in patterns else "dense")
    ]
    assert len(sizes) == 3
    assert sum(sizes) <= 1600
    if limit.patterns:
        assert {str(p) for p in patterns.values()} <= {"2:4", "tw4@75%"}


def test_constrained_holds_the_latency():
    model, data = deep(), calibration()
    limit = Limit(latency=7.0, seconds=lambda name, pattern: 4.0 if pattern is None else float(pattern.n))
    sparsify_(model, "2:4", budget="constrained", data=data, limit=limit)
    chosen = patterns_of(model)
    assert sum(float(chosen[w.name].n) if w.name in chosen else 4.0 for w in prunable(model)) <= 7.0


def test_each_target_keeps_its_own_family():
    model = deep()
    targets = {"0": "2:4", "2": "2:4", "4": "tw4@50%"}
    sparsify_(model, "2:4", budget="sensitivity", data=calibration(), targets=targets)
    patterns = {name: str(pattern) for name, pattern in patterns_of(model).items()}
    assert patterns["4.weight"] == "tw4@50%"  # the only layer of its family: nothing to trade
    assert {text.partition(":")[2] for name, text in patterns.items() if name != "4.weight"} <= {"4"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"budget": "sensitivity"}, "needs data=Calibration"),
        ({"budget": "constrained", "data": calibration()}, "needs limit=Limit"),
        ({"budget": "constrained", "data": calibration(), "limit": Limit()}, "one limit"),
        (
            {"budget": "constrained", "data": calibration(), "limit": Limit(size=10)},
            "a limit of 10 bytes cannot be met: the candidates take",
        ),
        (
            {"budget": "constrained", "data": calibration(), "limit": Limit(latency=1)},
            "the seconds of 0.weight at dense are unknown",
        ),
        (
            {"budget": "sensitivity", "data": calibration(), "limit": Limit(size=10)},
            "limit only applies to budget='constrained', not to 'sensitivity'",
        ),
        ({"limit": Limit(size=10)}, "limit only applies to budget='constrained', not to 'uniform'"),
        ({"budget": "even"}, "unknown budget 'even'; expected one of"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(options, sentence):
    model = deep()
    with pytest.raises(ArgumentError, match=sentence):
        sparsify_(model, "2:4", **options)
    assert not masks_of(model)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), deep().parameters(), strict=True))


def test_batches_that_can_be_walked_once_do():
    data = calibration()
    once = replace(data, batches=iter(list(data.batches)))
    first, second = deep(), deep()
    sparsify_(first, "2:4", budget="sensitivity", score="taylor", data=once)
    sparsify_(second, "2:4", budget="sensitivity", score="taylor", data=calibration())
    assert patterns_of(first) == patterns_of(second)


def test_one_layer_has_nothing_to_trade():
    model = mlp()
    x = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    data = Calibration([x], lambda m, batch: (m(batch) - 1).square().mean())
    sparsify_(model, "tw4@60%", targets=["0"], budget="sensitivity", data=data)
    assert patterns_of(model) == {"0.weight": TileWise(4, 0.6)}
