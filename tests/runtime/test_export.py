"""Exported models open in programs that do not know this package, with the same outputs."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from models import Tied, bert, gpt2, mixed, perceptron
from safetensors.torch import load_model

import tilewright
from tilewright.errors import ArgumentError
from tilewright.runtime import export_dense


def unaware(code, *words):
    """Run code in a fresh interpreter that cannot import this package."""
    blocked = "import sys; sys.modules['tilewright'] = None\n" + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", blocked, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


TRANSFORMERS = """
import numpy as np, torch, transformers
place, out, kind, ids = *sys.argv[1:4], torch.tensor([[5, 6, 7, 8]])
model = getattr(transformers, kind).from_pretrained(place).eval()
with torch.no_grad():
    result = model(ids)
np.save(out, getattr(result, "logits", result[0]).float().numpy())
"""


@pytest.mark.parametrize("build", [bert, gpt2], ids=["bert", "gpt2"])
@pytest.mark.parametrize("form", ["pruned", "packed", "checkpoint", "half"])
def test_transformers_opens_it_with_the_same_outputs(build, form, tmp_path):
    model = build()
    tilewright.sparsify_(
        model, "bank64@2x" if form == "pruned" else "2:4", ignore=["pooler.dense"] if build is bert else []
    )
    tilewright.save(model, tmp_path / "packed", dtype="bfloat16" if form == "half" else None)
    packed = tilewright.load(tmp_path / "packed", measure=False)
    given = {"pruned": model, "packed": packed}.get(form, tmp_path / "packed")
    export_dense(given, tmp_path / "dense")
    unaware(TRANSFORMERS, tmp_path / "dense", tmp_path / "y.npy", type(model).__name__)
    result = (model if form == "pruned" else packed)(torch.tensor([[5, 6, 7, 8]]))
    ours = getattr(result, "logits", result[0]).detach().numpy()
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), ours, atol=1e-4, rtol=1e-3)


SENTENCES = """
import numpy as np
from sentence_transformers import SentenceTransformer
np.save(sys.argv[2], SentenceTransformer(sys.argv[1], device="cpu").encode(["a word", "another"]))
"""


@pytest.mark.parametrize("form", ["model", "checkpoint"])
def test_sentence_transformers_opens_it_tokenizer_and_pooling_included(form, tiny_model, tmp_path):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(tiny_model), device="cpu")
    tilewright.sparsify_(model[0].auto_model, "2:4", targets=["encoder.*"])
    tilewright.save(model, tmp_path / "packed")
    export_dense(model if form == "model" else tmp_path / "packed", tmp_path / "dense")
    unaware(SENTENCES, tmp_path / "dense", tmp_path / "y.npy")
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model.encode(["a word", "another"]), atol=1e-4)


@pytest.mark.parametrize("build", [perceptron, mixed, Tied])
@pytest.mark.parametrize("form", ["model", "loaded", "checkpoint"])
def test_a_plain_module_loads_it_as_any_safetensors_file(build, form, tmp_path):
    model, fresh = build(), build()
    tilewright.sparsify_(model, "2:4")
    tilewright.save(model, tmp_path / "packed")
    given = {
        "model": lambda: model,
        "loaded": lambda: tilewright.load_(build(), tmp_path / "packed", measure=False),
        "checkpoint": lambda: tmp_path / "packed",
    }[form]()
    export_dense(given, tmp_path / "dense")
    for parameter in fresh.parameters():
        torch.nn.init.zeros_(parameter)
    load_model(fresh, tmp_path / "dense" / "model.safetensors")
    state = model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in fresh.state_dict().items())


def test_other_files_come_along_and_what_is_about_packing_does_not(tmp_path):
    model = bert()
    tilewright.sparsify_(model, "2:4", targets=["encoder.*"])
    tilewright.save(model, tmp_path / "packed", files={"vocab.txt": b"[PAD]", "more/notes.json": b"{}"})
    export_dense(tmp_path / "packed", tmp_path / "dense", files={"LICENSE": b"ours"})
    inside = {str(path.relative_to(tmp_path / "dense")) for path in (tmp_path / "dense").rglob("*") if path.is_file()}
    assert inside == {"config.json", "model.safetensors", "vocab.txt", "more/notes.json", "LICENSE"}
    assert "quantization_config" not in (tmp_path / "dense" / "config.json").read_text()
    assert tilewright.verify(tmp_path / "dense", "2:4", targets=["encoder.*"]).ok


def test_shards_are_written_beyond_the_size_asked_for(tmp_path):
    model = bert()
    tilewright.sparsify_(model, "2:4")
    export_dense(model, tmp_path, max_shard_bytes=20_000)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2


def test_a_checkpoint_is_not_exported_over_itself(tmp_path):
    model = perceptron()
    tilewright.sparsify_(model, "2:4")
    tilewright.save(model, tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(ArgumentError, match="is the checkpoint itself; export it to another folder"):
        export_dense(tmp_path, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
