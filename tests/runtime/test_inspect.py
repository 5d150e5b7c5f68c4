"""`verify` on models, checkpoints and other tools' folders."""

import pytest
import torch
from models import mixed, perceptron
from safetensors.torch import save_file
from torch import nn

import tilewright
from tilewright.errors import ArgumentError, FormatError, PatternError, TargetError
from tilewright.pruning import remove_masks_


def test_a_pruned_model_verifies():
    model = mixed()
    tilewright.sparsify_(model, "2:4")
    report = tilewright.verify(model, exact=True)
    assert report.ok
    assert report.summary["weights"] == 4
    assert {row["density"] for row in report.rows} == {0.5}


def test_a_weight_that_regrew_is_found_with_its_place():
    model = perceptron()
    tilewright.sparsify_(model, "2:4")
    with torch.no_grad():
        model[0].weight[3, 8:12] = 1.0
    report = tilewright.verify(model)
    assert not report.ok
    row = report.rows[0]
    assert (row["layer"], row["holds"]) == ("0.weight", False)
    assert row["finding"] == "output 3 keeps 4 of the inputs 8 to 11, but 2:4 allows 2"
    assert report.rows[1]["holds"]


def test_a_checkpoint_verifies_and_another_pattern_does_not(tmp_path):
    model = perceptron()
    tilewright.sparsify_(model, "2:4")
    tilewright.save(model, tmp_path / "m")
    assert tilewright.verify(tmp_path / "m", exact=True).ok
    assert not tilewright.verify(str(tmp_path / "m"), "1:4").ok
    assert tilewright.verify(tmp_path / "m", "4:8").ok


def test_zeros_of_another_tool_are_verified(tmp_path):
    weight = torch.tensor([[0.0, 1, 2, 0, 0, 3, 0, 4]])
    save_file(
        {"fc.weight": weight, "embed.weight": torch.ones(4, 8), "bias": torch.ones(3)}, tmp_path / "a.safetensors"
    )
    report = tilewright.verify(tmp_path, "2:4", exact=True)
    assert report.ok
    assert [row["layer"] for row in report.rows] == ["fc.weight"]


def test_a_loaded_model_verifies(tmp_path):
    model = perceptron()
    tilewright.sparsify_(model, "tw8@60%")
    tilewright.save(model, tmp_path / "m")
    assert tilewright.verify(tilewright.load_(perceptron(), tmp_path / "m", measure=False)).ok


@pytest.mark.parametrize(("pattern", "ok"), [("2:4", False), ("any@50%", True), ("tw8@50%", True)])
def test_a_layer_that_lost_everything_is_a_finding_and_under_nm_a_fault(pattern, ok):
    model = perceptron()
    tilewright.sparsify_(model, pattern)
    with torch.no_grad():
        model[2].weight_mask.zero_()
        model[2].weight.zero_()
    report = tilewright.verify(model)
    assert report.ok == ok
    assert report.rows[1]["finding"] == "every element pruned"
    assert report.summary["weights pruned entirely"] == 1


LEFT_OUT = [
    ({"ignore": ["head"]}, {"body.0", "body.2"}),
    ({"ignore": ["*.0", "re:.*head"]}, {"body.2"}),
    ({"ignore": ["body.0.weight", "head"]}, {"body.2"}),
    ({"targets": ["body.*"]}, {"body.0", "body.2"}),
    ({"targets": {"body.0": "2:4", "body.*": "4:8"}}, {"body.0", "body.2"}),
    ({"targets": ["body.*"], "ignore": ["body.0", "head", "embed"]}, {"body.2"}),
]


def with_dense_head():
    model = nn.ModuleDict({"embed": nn.Embedding(9, 16), "body": perceptron(), "head": nn.Linear(32, 9)})
    tilewright.sparsify_(model, "2:4", targets=["body.*"])
    return model


@pytest.mark.parametrize("kind", ["model", "checkpoint", "zeros"])
@pytest.mark.parametrize(("choice", "expected"), LEFT_OUT)
def test_a_dense_head_is_left_out(tmp_path, kind, choice, expected):
    model = with_dense_head()
    place = tmp_path / "m"
    if kind == "checkpoint":
        tilewright.save(model, place)
    elif kind == "zeros":
        remove_masks_(model)
        place.mkdir()
        save_file(model.state_dict(), place / "model.safetensors")
    report = tilewright.verify(model if kind == "model" else place, "2:4", **choice)
    assert report.ok
    assert {row["layer"].removesuffix(".weight") for row in report.rows} == expected
    wanted = choice["targets"] if isinstance(choice.get("targets"), dict) else {}
    assert {row["pattern"] for row in report.rows} == (set(wanted.values()) or {"2:4"})
    if kind != "checkpoint":  # a checkpoint has only packed weights to check, and the head is not packed
        assert not tilewright.verify(model if kind == "model" else place, "2:4").ok


def test_class_names_pick_the_modules_of_a_model(tmp_path):
    model = with_dense_head()
    tilewright.save(model, tmp_path)
    fresh = nn.ModuleDict({"embed": nn.Embedding(9, 16), "body": perceptron(), "head": nn.Linear(32, 9)})
    loaded = tilewright.load_(fresh, tmp_path, measure=False)
    for form in (model, loaded):
        assert len(tilewright.verify(form, targets=["Linear"], ignore=["Embedding"]).rows) == 2


@pytest.mark.parametrize("kind", ["model", "checkpoint", "zeros"])
@pytest.mark.parametrize("role", ["targets", "ignore"])
def test_an_expression_that_matches_nothing_is_an_error(tmp_path, kind, role):
    model = with_dense_head()
    if kind == "checkpoint":
        tilewright.save(model, tmp_path)
    elif kind == "zeros":
        save_file(model.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(TargetError, match=rf"^{role}: 'boddy.0' matches no weight; the closest names are body\.0"):
        tilewright.verify(model if kind == "model" else tmp_path, "2:4", **{role: ["boddy.0"]})


def test_text_instead_of_a_list_is_refused():
    with pytest.raises(TargetError, match=r"ignore must be a list of expressions, got 'head'; write \['head'\]"):
        tilewright.verify(perceptron(), "2:4", ignore="head")
    with pytest.raises(TargetError, match=r"targets must be a list of expressions or a mapping"):
        tilewright.verify(perceptron(), "2:4", targets=[])


def test_nothing_to_verify_is_said(tmp_path):
    with pytest.raises(ArgumentError, match=r"nothing to verify.*--pattern"):
        tilewright.verify(perceptron())
    with pytest.raises(FormatError, match="does not exist"):
        tilewright.verify(tmp_path / "nowhere")
    with pytest.raises(FormatError, match="contains no safetensors file"):
        tilewright.verify(tmp_path, "2:4")
    (tmp_path / "a.safetensors").write_bytes(b"garbage")
    with pytest.raises(FormatError, match=r"a.safetensors is not a readable safetensors file"):
        tilewright.verify(tmp_path, "2:4")
    with pytest.raises(PatternError, match="unknown pattern 'half'"):
        tilewright.verify(perceptron(), "half")


def test_explain_tells_dense_layers_apart():
    model = mixed()
    tilewright.sparsify_(model, "2:4", targets=["fc"])
    rows = {row["layer"]: row["reason"] for row in tilewright.explain(model).rows}
    assert rows["fc"] == "masked for training; save and load it to run sparse"
    assert rows["conv"] == "not pruned; Conv2d has no sparse kernel"


def test_the_density_of_all_weights_together_is_counted():
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 8))
    tilewright.sparsify_(model, "2:4", targets={"0": "1:4", "1": "2:4"})
    summary = tilewright.verify(model).summary
    assert summary["density"] == (8 + 16) / 64
    assert summary["sparsity"] == 1 - (8 + 16) / 64
