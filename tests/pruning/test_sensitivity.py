"""The scan against pruning by hand, that it restores the model, and how it resumes from its file."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from tilewright.errors import ArgumentError, FormatError, TargetError
from tilewright.patterns import TileWise
from tilewright.pruning import Calibration, sensitivity_scan, sparsify_
from tilewright.pruning.plans.result import DENSE

from .models import Conv1D, mlp


def squared_error(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def calibration(count: int = 3, width: int = 8) -> Calibration:
    generator = torch.Generator().manual_seed(4)
    pairs = [(torch.randn(5, width, generator=generator), torch.randn(5, 4, generator=generator)) for _ in range(count)]
    return Calibration(pairs, squared_error)


def state(model: nn.Module) -> dict[str, bytes]:
    return {
        name: value.detach().reshape(-1).view(torch.uint8).numpy().tobytes()
        for name, value in model.state_dict().items()
    }


def mean_loss(model: nn.Module, data: Calibration) -> float:
    with torch.no_grad():
        return sum(float(data.loss(model, batch)) for batch in data.batches) / len(data.batches)


@pytest.mark.parametrize("score", ["magnitude", "taylor"])
@pytest.mark.parametrize("patterns", [["2:4", "1:4"], ["tw4@50%"], ["any@30%", "2:4x2"]])
def test_each_row_is_the_loss_with_that_layer_alone_pruned(score, patterns):
    model, data = mlp(), calibration()
    scan = sensitivity_scan(model, patterns, data, score=score)
    assert [(row["name"], row["pattern"]) for row in scan.report().rows] == [
        (name, text) for name in ("0.weight", "2.weight") for text in (DENSE, *patterns)
    ]
    for row in scan.report().rows:
        twin = mlp()
        if row["pattern"] != DENSE:
            pruned_report = sparsify_(
                twin, row["pattern"], targets=[row["name"]], score=score, data=None if score == "magnitude" else data
            )
            assert row["density"] == next(r["density"] for r in pruned_report.rows if r["name"] == row["name"])
        assert row["loss"] == pytest.approx(mean_loss(twin, data), rel=1e-6)
        assert row["loss increase"] == pytest.approx(row["loss"] - mean_loss(mlp(), data), abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_model_is_left_bit_for_bit(dtype):
    model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.BatchNorm1d(16), Conv1D(4, 16)).to(dtype)
    with torch.no_grad():
        model[0].weight[0, :2] = torch.tensor([-0.0, 1e-30])
    model[1].eval()
    before, random = state(model), torch.get_rng_state()
    pairs = [(x.to(dtype), y.to(dtype)) for x, y in calibration().batches]
    scan = sensitivity_scan(model, ["1:4", "tw4@75%"], Calibration(pairs, squared_error))
    assert state(model) == before
    assert [module.training for module in model] == [True, False, True, True]
    assert torch.equal(torch.get_rng_state(), random)
    assert model[0].weight.grad is None
    assert scan.report().rows[0]["bytes"] == 16 * 8 * (2 if dtype == torch.bfloat16 else 4)


def test_after_an_exception_too(tmp_path):
    model, calls = mlp(), 0

    def failing(twin: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt
        return squared_error(twin, batch)

    before, data = state(model), calibration()
    with pytest.raises(KeyboardInterrupt):
        sensitivity_scan(model, ["2:4", "1:4"], replace(data, loss=failing), cache=tmp_path / "scan.jsonl")
    assert state(model) == before
    assert model.training
    lines = (tmp_path / "scan.jsonl").read_text().splitlines()
    assert [json.loads(line).get("pattern") for line in lines] == [None, "2:4"]  # 3 dense, 3 at 2:4, then interrupted


def test_a_scan_goes_on_from_its_file(tmp_path):
    data, path = calibration(), tmp_path / "deep" / "scan.jsonl"
    whole = sensitivity_scan(mlp(), ["2:4", "1:4"], data, cache=path)
    assert whole.report().summary["from the cache"] == 0
    text = path.read_text()
    first_two = "".join(f"{line}\n" for line in text.splitlines()[:3])
    path.write_text(first_two + '{"name": "2.weight", "pattern": "2:4", "loss": 1')  # an incomplete write
    counted = []
    counting = replace(data, loss=lambda model, batch: counted.append(1) or squared_error(model, batch))
    again = sensitivity_scan(mlp(), ["2:4", "1:4"], counting, cache=path)
    assert again.points == whole.points
    assert again.report().summary["from the cache"] == 2
    assert len(counted) == 3 * (1 + 2)  # the dense model, and the two results that were missing
    assert path.read_text() == text


def test_the_file_of_another_scan_is_refused(tmp_path):
    path = tmp_path / "scan.jsonl"
    sensitivity_scan(mlp(), ["2:4"], calibration(), cache=path)
    kept = path.read_bytes()
    changed = mlp()
    with torch.no_grad():
        changed[2].bias += 1
    with pytest.raises(ArgumentError, match="belongs to another scan: model is"):
        sensitivity_scan(changed, ["2:4"], calibration(), cache=path)
    with pytest.raises(ArgumentError, match="belongs to another scan: score is magnitude in the file and taylor here"):
        sensitivity_scan(mlp(), ["2:4"], calibration(), cache=path, score="taylor")
    with pytest.raises(ArgumentError, match="batches is 3 in the file and 2 here"):
        sensitivity_scan(mlp(), ["2:4"], calibration(2), cache=path)
    assert path.read_bytes() == kept
    path.write_text("a letter\n")
    with pytest.raises(FormatError, match="is not the file of a sensitivity scan"):
        sensitivity_scan(mlp(), ["2:4"], calibration(), cache=path)
    assert path.read_text() == "a letter\n"


def test_sparsities_go_with_one_pattern():
    scan = sensitivity_scan(mlp(), TileWise(4, 0.5), calibration(), sparsities=[0.25, 0.5], targets=["0"])
    assert [row["pattern"] for row in scan.report().rows] == [DENSE, "tw4@25%", "tw4@50%"]
    for patterns in (["2:4"], ["tw4@50%", "tw8@50%"]):
        with pytest.raises(ArgumentError, match="sparsities need a single pattern that has a sparsity"):
            sensitivity_scan(mlp(), patterns, calibration(), sparsities=[0.5])


def test_an_iterator_of_batches_will_do():
    data = calibration()
    once = replace(data, batches=iter(data.batches))
    assert sensitivity_scan(mlp(), ["2:4"], once).points == sensitivity_scan(mlp(), ["2:4"], data).points


def test_ignored_and_other_weights_are_left_out():
    model = copy.deepcopy(mlp())
    assert {row["name"] for row in sensitivity_scan(model, ["2:4"], calibration(), ignore=["2"]).report().rows} == {
        "0.weight"
    }
    with pytest.raises(TargetError, match="matches nothing"):
        sensitivity_scan(model, ["2:4"], calibration(), targets=["three"])
    with pytest.raises(TargetError, match="must be lists of expressions"):
        sensitivity_scan(model, ["2:4"], calibration(), targets={"0": "2:4"})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"batches": []}, "got no batches"),
        ({"loss": lambda model, batch: model(batch[0])}, r"with the model unchanged it is a tensor of shape \[5, 4\]"),
        (
            {"loss": lambda model, batch: float("nan")},
            "finite scalar; with the model unchanged it is nan at calibration batch 0",
        ),
        ({"loss": None}, r"needs data=Calibration\(batches, loss\) to measure the loss"),
    ],
)
def test_what_cannot_be_measured_is_said(change, sentence):
    with pytest.raises(ArgumentError, match=sentence):
        sensitivity_scan(mlp(), ["2:4"], replace(calibration(), **change))
    with pytest.raises(ArgumentError, match="needs at least one pattern"):
        sensitivity_scan(mlp(), [], calibration())
    with pytest.raises(ArgumentError, match="unknown score 'size'"):
        sensitivity_scan(mlp(), ["2:4"], calibration(), score="size")


def test_a_loss_that_only_a_pruned_layer_makes_infinite_names_the_layer():
    def reciprocal(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return torch.tensor(1.0) if bool(model[0].weight.all()) else torch.tensor(float("inf"))

    with pytest.raises(ArgumentError, match=r"with 0.weight at 2:4 it is inf"):
        sensitivity_scan(mlp(), ["2:4"], replace(calibration(), loss=reciprocal))
