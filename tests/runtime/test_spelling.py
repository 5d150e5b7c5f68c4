"""A pattern is reported the way it was written, even after saving and loading."""

import json

import pytest
import torch
from models import bert, perceptron

import tilewright
from tilewright.errors import FormatError
from tilewright.formats import read_checkpoint


def texts(report):
    return {row["pattern"] for row in report.rows if row["pattern"]}


@pytest.mark.parametrize("text", ["bank64@2x", "bank64@4x", "16:64", "2:4"])
def test_reports_print_the_pattern_as_written(tmp_path, text):
    model = perceptron()
    assert texts(tilewright.sparsify_(model, text)) == {text}
    assert texts(tilewright.verify(model)) == texts(tilewright.explain(model)) == {text}
    tilewright.save(model, tmp_path / "m")
    assert texts(tilewright.verify(tmp_path / "m")) == {text}
    loaded = tilewright.load_(perceptron(seed=1), tmp_path / "m", measure=False)
    assert texts(tilewright.verify(loaded)) == texts(tilewright.explain(loaded)) == {text}
    assert f"pattern={text}" in repr(loaded)


def test_the_file_holds_the_canonical_text_and_a_dense_layer_keeps_the_written_one(tmp_path):
    model = bert()
    tilewright.sparsify_(model, "bank64@2x", targets=["encoder.*intermediate*", "encoder.*output.dense"])
    tilewright.save(model, tmp_path / "m")
    block = json.loads((tmp_path / "m" / "config.json").read_text())["quantization_config"]
    entries = [entry for parameters in block["modules"].values() for entry in parameters.values()]
    assert {entry["pattern"] for entry in entries} == {"32:64"}
    assert block["spelling"] == {"32:64": "bank64@2x"}
    again = tilewright.load(tmp_path / "m")  # measured: layers as small as these run dense
    assert texts(tilewright.explain(again)) == {"bank64@2x"}
    tilewright.save(again, tmp_path / "n")
    assert texts(tilewright.verify(tmp_path / "n")) == {"bank64@2x"}


@pytest.mark.parametrize("spelling", [{"32:64": "bank64@4x"}, {"32:64": "half"}, {"32:64": 5}, [], {"32:64": " 32:64"}])
def test_a_spelling_of_another_pattern_is_damage(tmp_path, spelling):
    model = perceptron()
    tilewright.sparsify_(model, "bank64@2x")
    tilewright.save(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"]["spelling"] = spelling
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(FormatError, match="spelling must map texts of patterns"):
        read_checkpoint(tmp_path)


def test_masks_go_through_a_state_dict_with_their_spelling():
    from tilewright.pruning import load_masked_, patterns_of

    model, fresh = perceptron(), perceptron(seed=1)
    tilewright.sparsify_(model, "bank64@4x")
    state = model.state_dict()
    load_masked_(fresh, state, patterns_of(model))
    assert texts(tilewright.verify(fresh)) == {"bank64@4x"}
    assert torch.equal(fresh[0].weight, model[0].weight)
