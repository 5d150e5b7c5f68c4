"""sparsify_: what it prunes, what it reports, and that it changes nothing when it refuses."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

import tilewright
from tilewright.errors import ArgumentError, PatternError, TargetError
from tilewright.patterns import NM, TileWise, as_matrix, mask, project, verify_mask
from tilewright.pruning import Calibration, masks_of, patterns_of, prunable, sparsify_

from .models import Tied, Zoo, mlp

PATTERNS = ["2:4", "2:4x4", "1:2t", "bank64@32x", "tw4@50%", "tew4@50%+5%", "tvw4@75%", "block4x4@50%", "any@60%"]


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_unchanged(model: nn.Module, before: dict[str, torch.Tensor]) -> None:
    after = model.state_dict()
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        assert torch.equal(after[name].nan_to_num(7), tensor.nan_to_num(7)), name


def test_two_of_four_by_hand() -> None:
    model = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -3.0, 2.0, 0.5], [4.0, 4.0, 4.0, -5.0]]))
    report = sparsify_(model, "2:4")
    assert model.weight.tolist() == [[0.0, -3.0, 2.0, 0.0], [4.0, 0.0, 0.0, -5.0]]
    assert model.weight_mask.tolist() == [[False, True, True, False], [True, False, False, True]]
    assert report.rows == (
        {"name": "weight", "shape": [2, 4], "pattern": "2:4", "density": 0.5, "sparsity": 0.5, "reason": ""},
    )
    assert not np.signbit(model.weight.detach().numpy()[0, 0])


@pytest.mark.parametrize("text", PATTERNS)
def test_every_pattern_on_every_kind_of_weight(text: str) -> None:
    torch.manual_seed(2)
    zoo = Zoo()
    dense = snapshot(zoo)
    pattern = tilewright.parse(text)
    report = sparsify_(zoo, pattern, ignore=["conv"])
    rows = {row["name"]: row for row in report.rows}
    weights = {weight.name: weight for weight in prunable(zoo)}
    assert rows.keys() == weights.keys() | {"deconv.weight"}
    assert report.ok
    masks = masks_of(zoo)
    assert set(masks) == {name for name, row in rows.items() if not row["reason"]}
    assert set(patterns_of(zoo).values()) == {pattern}
    for name, kept in masks.items():
        weight = weights[name]
        scores = as_matrix(dense[name].abs().numpy(), weight.layout)
        assert np.array_equal(as_matrix(kept.numpy(), weight.layout), mask(pattern, scores)), name
        assert verify_mask(pattern, as_matrix(kept.numpy(), weight.layout), check_density=False)
        assert torch.equal(weight.tensor, torch.where(kept, dense[name], 0)), name
        assert rows[name]["density"] == pytest.approx(float(kept.float().mean()))
    assert rows["conv.weight"]["reason"] == "ignored by 'conv'"
    assert "transposed convolution" in str(rows["deconv.weight"]["reason"])
    assert torch.equal(zoo.embed.weight, dense["embed.weight"])
    json.loads(report.to_json())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_half_and_double_weights_get_the_same_mask_as_their_values_say(dtype: torch.dtype) -> None:
    model = mlp(dtype)
    expected = mask(NM(2, 4), model[0].weight.detach().double().abs().numpy())
    sparsify_(model, "2:4")
    assert np.array_equal(model[0].weight_mask.numpy(), expected)
    assert model[0].weight.dtype == dtype
    assert not model[0].weight[~model[0].weight_mask].any()


def test_noncontiguous_weight_is_zeroed_in_place() -> None:
    model = nn.Linear(8, 8)
    storage = torch.randn(8, 8)
    model.weight = nn.Parameter(storage.T)
    sparsify_(model, "2:4")
    assert torch.equal(model.weight == 0, ~model.weight_mask)
    assert torch.equal(storage.T, model.weight)


def test_global_budget_ranks_layers_together_and_uniform_does_not() -> None:
    weights = {"0.weight": (16, 8), "2.weight": (4, 16)}

    def scaled() -> nn.Sequential:
        model = mlp()
        with torch.no_grad():
            model[2].weight.mul_(10)
        return model

    together, apart = scaled(), scaled()
    scores = {name: scaled().state_dict()[name].abs().numpy() for name in weights}
    sparsify_(together, "tw4@50%", budget="global")
    sparsify_(apart, "tw4@50%", budget="uniform")
    expected = project(TileWise(4, 0.5), scores)
    for name, kept in masks_of(together).items():
        assert np.array_equal(kept.numpy(), expected[name])
    assert masks_of(together)["2.weight"].float().mean() > 0.6
    assert all(float(kept.float().mean()) == pytest.approx(0.5, abs=0.13) for kept in masks_of(apart).values())
    fixed, same = scaled(), scaled()
    sparsify_(fixed, "2:4", budget="global")
    sparsify_(same, "2:4", budget="uniform")
    assert all(torch.equal(kept, masks_of(same)[name]) for name, kept in masks_of(fixed).items())


def test_mapping_gives_each_target_its_pattern_and_the_first_match_wins() -> None:
    model = mlp()
    report = sparsify_(model, "2:4", targets={"2": "1:4", "Linear": "1:2"})
    assert {name: str(pattern) for name, pattern in patterns_of(model).items()} == {
        "0.weight": "1:2",
        "2.weight": "1:4",
    }
    assert report.summary["sparsity of the pruned"] == pytest.approx((64 + 48) / (128 + 64))


def test_untargeted_weights_stay_dense_with_a_reason() -> None:
    model = mlp()
    report = sparsify_(model, "2:4", targets=["0"])
    assert [row["reason"] for row in report.rows] == ["", "no target matches it"]
    assert (report.summary["pruned weights"], report.summary["dense weights"]) == (1, 1)


def test_pruning_again_replaces_masks_and_keeps_those_of_others() -> None:
    model = mlp()
    sparsify_(model, "2:4")
    first = {name: kept.clone() for name, kept in masks_of(model).items()}
    report = sparsify_(model, "1:4", targets=["0"])
    masks = masks_of(model)
    assert not (masks["0.weight"] & ~first["0.weight"]).any()
    assert float(masks["0.weight"].float().mean()) == 0.25
    assert torch.equal(masks["2.weight"], first["2.weight"])
    assert str(patterns_of(model)["0.weight"]) == "1:4"
    assert report.rows[1]["pattern"] == "2:4"
    assert report.rows[1]["reason"] == "unchanged by this call: no target matches it"


def test_layer_that_cannot_take_the_pattern_is_skipped_or_refused() -> None:
    model = nn.Sequential(nn.Linear(8, 2), nn.Linear(2, 4))
    before = snapshot(model)
    with pytest.raises(
        PatternError, match=r"1 targeted weight cannot be pruned, which strict does not allow: 1\.weight: 2:4 keeps 2"
    ):
        sparsify_(model, "2:4", strict=True)
    assert_unchanged(model, before)
    report = sparsify_(model, "2:4")
    assert (
        report.rows[1]["reason"]
        == "2:4 keeps 2 of every 4 inputs and the weight has only 2, so nothing would be pruned"
    )
    assert report.rows[1]["density"] == 1.0
    assert masks_of(model).keys() == {"0.weight"}


def test_strict_refuses_a_tied_weight_that_was_named_but_not_one_that_was_not() -> None:
    with pytest.raises(PatternError, match=r"head\.weight: it is the same parameter as embed\.weight"):
        sparsify_(Tied(), "2:4", targets=["head", "once"], strict=True)
    report = sparsify_(Tied(), "2:4", strict=True)
    assert [row["name"] for row in report.rows if not row["reason"]] == ["once.weight"]


def test_nothing_taken_is_reported_as_not_ok() -> None:
    report = sparsify_(nn.Linear(2, 4), "2:4")
    assert not report.ok
    assert report.summary["pruned weights"] == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_broken_weight_is_named_and_nothing_changes(value: float) -> None:
    model = mlp()
    with torch.no_grad():
        model[2].weight[1, 2] = value
    before = snapshot(model)
    with pytest.raises(PatternError, match=r"2\.weight has 1 NaN or infinite element out of 64; nothing was changed"):
        sparsify_(model, "2:4")
    assert_unchanged(model, before)
    assert not masks_of(model)


def test_interruption_while_solving_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = mlp()
    sparsify_(model, "2:4", targets=["0"])
    before = snapshot(model)
    calls = []

    def interrupt(*args: object) -> object:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return project(*args)

    monkeypatch.setattr("tilewright.pruning.budgets.project", interrupt)
    with pytest.raises(KeyboardInterrupt):
        sparsify_(model, "1:4")
    assert_unchanged(model, before)
    assert {name: str(pattern) for name, pattern in patterns_of(model).items()} == {"0.weight": "2:4"}


def test_wrong_words_are_refused() -> None:
    with pytest.raises(ArgumentError, match="unknown score 'size'; expected one of 'magnitude', 'taylor'"):
        sparsify_(mlp(), "2:4", score="size")
    with pytest.raises(ArgumentError, match="unknown budget 'even'; expected one of 'uniform', 'global'"):
        sparsify_(mlp(), "2:4", budget="even")
    with pytest.raises(PatternError, match="unknown pattern '2-4'; did you mean '2:4'\\? Expected"):
        sparsify_(mlp(), "2-4")
    with pytest.raises(TargetError, match="ReLU has no weight that can be pruned"):
        sparsify_(nn.ReLU(), "2:4")
    with pytest.raises(TargetError, match="targets must be a list of expressions"):
        sparsify_(mlp(), "2:4", targets="0")
    with pytest.raises(TargetError, match="targets must be a list of expressions"):
        sparsify_(mlp(), "2:4", targets=[])
    with pytest.raises(TargetError, match="ignore must be a list of expressions"):
        sparsify_(mlp(), "2:4", ignore="0")
    with pytest.raises(ArgumentError, match="'magnitude' takes no data"):
        sparsify_(mlp(), "2:4", data=Calibration([], lambda model, batch: torch.zeros(())))


def test_the_verb_is_the_public_one() -> None:
    assert tilewright.sparsify_ is sparsify_
    assert copy.deepcopy(sparsify_(mlp(), "2:4")).ok
