"""`tilewright export`: dense with zeros, and ONNX with the same outputs in ONNX Runtime, for any batch and length."""

import numpy as np
import onnxruntime
import pytest
import torch

import tilewright as package


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Write packed checkpoints of a language model, of an encoder with a classifier, and of a vision model."""
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        GPT2Config,
        GPT2LMHeadModel,
        ViTConfig,
        ViTForImageClassification,
    )

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    root = tmp_path_factory.mktemp("packed")
    for name, model in {
        "gpt2": GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=100, n_positions=64)),
        "bert": BertForSequenceClassification(BertConfig(**sizes, vocab_size=100, max_position_embeddings=64)),
        "vit": ViTForImageClassification(ViTConfig(**sizes, image_size=8, patch_size=4, num_channels=1)),
    }.items():
        package.sparsify_(model.eval(), "2:4", ignore=["classifier"] if name != "gpt2" else [])
        package.save(model, root / name, files={"vocab.txt": b"[PAD]"})
    return root


def inputs(name, batch, length):
    rng = np.random.default_rng(batch)
    if name == "vit":
        return {"pixel_values": rng.standard_normal((batch, 1, 8, 8)).astype(np.float32)}
    mask = np.ones((batch, length), dtype=np.int64)
    mask[0, length // 2 :] = 0
    return {"input_ids": rng.integers(0, 100, (batch, length)), "attention_mask": mask}


@pytest.mark.parametrize("name", ["gpt2", "bert", "vit"])
def test_onnx_runtime_says_what_the_packed_model_says(tilewright, folders, tmp_path, name):
    result = tilewright("export", folders / name, "--to", "onnx", "--output", tmp_path / "o", "--json", "--quiet")
    assert result.code == 0, result.err
    files = {row["file"]: row["bytes"] for row in result.body["rows"]}
    assert files["model.onnx"] > 10_000
    assert files["vocab.txt"] == 5
    session = onnxruntime.InferenceSession(str(tmp_path / "o" / "model.onnx"), providers=["CPUExecutionProvider"])
    packed = package.load(folders / name, measure=False)
    for batch, length in ((1, 9), (3, 5), (5, 17)):
        arrays = inputs(name, batch, length)
        with torch.no_grad():
            ours = packed(**{key: torch.from_numpy(array) for key, array in arrays.items()}).logits.numpy()
        (theirs,) = session.run(None, arrays)
        real = arrays["attention_mask"].astype(bool) if name == "gpt2" else np.ones(len(ours), bool)
        np.testing.assert_allclose(theirs[real], ours[real], atol=2e-4, rtol=1e-3)


def test_dense_opens_without_this_package(tilewright, folders, tmp_path):
    from transformers import BertForSequenceClassification

    result = tilewright("export", folders / "bert", "--to", "dense", "--output", tmp_path / "d", "--quiet")
    assert result.code == 0, result.err
    model = BertForSequenceClassification.from_pretrained(tmp_path / "d").eval()
    packed = package.load(folders / "bert", measure=False)
    ids = torch.arange(6)[None]
    torch.testing.assert_close(model(ids).logits, packed(ids).logits, atol=1e-4, rtol=1e-3)
    assert package.verify(tmp_path / "d", "2:4", ignore=["classifier"]).ok


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--to", "onx"], "unknown --to 'onx'; did you mean 'onnx'? Expected one of 'dense', 'onnx'"),
        (["--to", "dense", "--output", "SELF"], "is the checkpoint itself"),
        (["--to", "onnx", "--output", "SELF"], "is the checkpoint itself"),
    ],
)
def test_what_makes_no_sense_is_refused(tilewright, folders, tmp_path, words, sentence):
    words = [str(folders / "bert") if word == "SELF" else word for word in words]
    output = [] if "--output" in words else ["--output", tmp_path / "x"]
    result = tilewright("export", folders / "bert", *words, *output)
    assert result.code == 2
    assert sentence in result.err
