"""A pruned model is saved without its zeros and loaded as the same model, running packed."""

import json

import numpy as np
import pytest
import torch
import transformers
from models import Tied, bert, gpt2, mixed, perceptron
from torch import nn

import tilewright
from tilewright.errors import ArgumentError, FormatError, NotSupportedError
from tilewright.formats import read_checkpoint
from tilewright.runtime import SparseLinear, sparse_layers
from tilewright.runtime.checkpoint.loading import _built_as

TEXTS = ["2:4", "16:32x4", "tw8@60%", "tew8@60%+5%", "tvw8@75%", "block8x8@50%", "any@80%"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_module_you_built_comes_back(text, tmp_path):
    model = perceptron()
    tilewright.sparsify_(model, text)
    tilewright.save(model, tmp_path / "m")
    fresh = tilewright.load_(perceptron(seed=9), tmp_path / "m", measure=False)
    assert set(sparse_layers(fresh)) == {"0", "2"}
    x = torch.randn(5, 64)
    torch.testing.assert_close(fresh(x), model(x), atol=1e-5, rtol=1e-4)


def test_layers_without_a_kernel_come_back_dense_with_the_reason(tmp_path):
    model = mixed()
    tilewright.sparsify_(model, "2:4")
    tilewright.save(model, tmp_path / "m")
    with torch.device("meta"):
        skeleton = mixed(seed=9)
    fresh = tilewright.load_(skeleton, tmp_path / "m", measure=False)
    assert isinstance(fresh["fc"], SparseLinear)
    for name in ("conv.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0", "norm.running_mean", "steps", "narrow"):
        assert torch.equal(fresh.state_dict()[name], model.state_dict()[name]), name
    rows = {row["layer"]: row for row in tilewright.explain(fresh).rows}
    assert rows["conv"]["runs"] == "dense"
    assert rows["conv"]["reason"] == "no sparse kernel for Conv2d yet: unpacked to dense"
    assert rows["fc"]["runs"] == "sparse"


def test_a_model_can_itself_be_one_layer(tmp_path):
    model = nn.Linear(64, 32)
    tilewright.sparsify_(model, "2:4")
    tilewright.save(model, tmp_path / "m")
    fresh = tilewright.load_(nn.Linear(64, 32), tmp_path / "m", measure=False)
    assert isinstance(fresh, SparseLinear)
    x = torch.randn(3, 64)
    torch.testing.assert_close(fresh(x), model(x), atol=1e-5, rtol=1e-4)


def test_tied_weights_are_stored_once_and_stay_tied(tmp_path):
    model = Tied()
    tilewright.sparsify_(model, "2:4", targets=["inner"])
    tilewright.save(model, tmp_path / "m")
    assert set(read_checkpoint(tmp_path / "m").dense) == {"embed.weight", "inner.bias"}
    fresh = tilewright.load_(Tied(), tmp_path / "m", measure=False)
    ids = torch.arange(10)
    torch.testing.assert_close(fresh(ids), model(ids), atol=1e-5, rtol=1e-4)
    assert fresh.head.weight is fresh.embed.weight


def test_a_transformers_model_comes_back_as_its_class(tmp_path):
    model = bert()
    tilewright.sparsify_(model, "2:4", targets=["encoder.*"])
    tilewright.save(model, tmp_path / "m")
    fresh = tilewright.load(tmp_path / "m", measure=False)
    assert type(fresh) is type(model)
    assert len(sparse_layers(fresh)) == 12
    assert not fresh.training
    ids = torch.randint(0, 100, (3, 9))
    torch.testing.assert_close(fresh(ids).last_hidden_state, model(ids).last_hidden_state, atol=1e-4, rtol=1e-3)


def test_the_activation_after_an_intermediate_layer_is_fused(tmp_path):
    model = bert()
    tilewright.sparsify_(model, "2:4", targets=["encoder.*"])
    tilewright.save(model, tmp_path / "m")
    fresh = tilewright.load(tmp_path / "m", measure=False)
    assert fresh.encoder.layer[0].intermediate.dense.activation == "gelu"
    assert isinstance(fresh.encoder.layer[0].intermediate.intermediate_act_fn, nn.Identity)


def test_auto_classes_read_it(tmp_path):
    from transformers import AutoModel, BertForSequenceClassification

    model = bert()
    tilewright.sparsify_(model, "2:4", targets=["encoder.*"])
    tilewright.save(model, tmp_path / "m")
    ids = torch.randint(0, 100, (3, 9))
    fresh = AutoModel.from_pretrained(tmp_path / "m")
    torch.testing.assert_close(fresh(ids).last_hidden_state, model(ids).last_hidden_state, atol=1e-4, rtol=1e-3)
    headed = BertForSequenceClassification.from_pretrained(tmp_path / "m")
    assert len(sparse_layers(headed)) == 12
    torch.testing.assert_close(headed.bert(ids).last_hidden_state, model(ids).last_hidden_state, atol=1e-4, rtol=1e-3)


def test_transposed_weights_and_generation(tmp_path):
    model = gpt2()
    tilewright.sparsify_(model, "2:4x4", targets=["transformer.h.*"])
    tilewright.save(model, tmp_path / "m")
    fresh = tilewright.load(tmp_path / "m", measure=False)
    assert len(sparse_layers(fresh)) == 8
    ids = torch.randint(0, 100, (2, 7))
    torch.testing.assert_close(fresh(ids).logits, model(ids).logits, atol=1e-4, rtol=1e-3)
    assert fresh.lm_head.weight is fresh.transformer.wte.weight
    options = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(fresh.generate(ids, **options), model.generate(ids, **options))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_values_can_be_stored_narrow_and_saved_again(dtype, tmp_path):
    model = perceptron()
    tilewright.sparsify_(model, "2:4")
    tilewright.save(model, tmp_path / "a", dtype=dtype)
    first = tilewright.load_(perceptron(), tmp_path / "a", measure=False)
    tilewright.save(first, tmp_path / "b")
    a, b = (read_checkpoint(tmp_path / name).weights for name in "ab")
    for name in a:
        assert b[name].packed.dtype == dtype
        np.testing.assert_array_equal(a[name].packed.values, b[name].packed.values)
    x = torch.randn(5, 64)
    torch.testing.assert_close(first(x), model(x), atol=0.05, rtol=0.05)


def test_shards_and_recipes_are_written(tmp_path):
    model = perceptron()
    tilewright.sparsify_(model, "2:4")
    tilewright.save(model, tmp_path / "m", recipe={"name": "r"}, recipe_hash="abc", max_shard_bytes=4000)
    assert len(list((tmp_path / "m").glob("model-*.safetensors"))) > 1
    checkpoint = read_checkpoint(tmp_path / "m")
    assert (checkpoint.recipe, checkpoint.recipe_hash) == ({"name": "r"}, "abc")
    x = torch.randn(5, 64)
    fresh = tilewright.load_(perceptron(seed=3), tmp_path / "m", measure=False)
    torch.testing.assert_close(fresh(x), model(x), atol=1e-5, rtol=1e-4)


def test_nothing_pruned_is_nothing_to_save(tmp_path):
    with pytest.raises(ArgumentError, match=r"no weight of this Sequential is pruned.*prune it first"):
        tilewright.save(perceptron(), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_weight_that_regrew_is_not_saved(tmp_path):
    model = perceptron()
    tilewright.sparsify_(model, "2:4")
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    with pytest.raises(FormatError, match=r"0.weight cannot be packed: .*apply the mask first"):
        tilewright.save(model, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_wrong_modules_are_refused_before_anything_changes(tmp_path):
    model = perceptron()
    tilewright.sparsify_(model, "2:4")
    tilewright.save(model, tmp_path / "m")
    deeper = nn.Sequential(*perceptron(), nn.Linear(32, 2))
    before = {name: tensor.clone() for name, tensor in deeper.state_dict().items()}
    with pytest.raises(FormatError, match=r"2 tensors are missing from the checkpoint, first 3.weight"):
        tilewright.load_(deeper, tmp_path / "m")
    assert all(torch.equal(before[name], tensor) for name, tensor in deeper.state_dict().items())
    with pytest.raises(FormatError, match=r"0.weight has shape \[96, 64\] in .*, but \[96, 60\] in the module"):
        tilewright.load_(nn.Sequential(nn.Linear(60, 96), nn.ReLU(), nn.Linear(96, 32)), tmp_path / "m")


def test_load_says_what_it_cannot_load(tmp_path):
    with pytest.raises(FormatError, match="does not exist"):
        tilewright.load(tmp_path / "nowhere")
    model = perceptron()
    tilewright.sparsify_(model, "2:4")
    tilewright.save(model, tmp_path / "m")
    with pytest.raises(NotSupportedError, match=r"saved from a Sequential.*tilewright.load_\(module, path\)"):
        tilewright.load(tmp_path / "m")


def test_save_pretrained_points_to_save(tmp_path):
    model = bert()
    tilewright.sparsify_(model, "2:4", targets=["encoder.*"])
    tilewright.save(model, tmp_path / "m")
    fresh = tilewright.load(tmp_path / "m", measure=False)
    with pytest.raises(FormatError, match=r"cannot be written by save_pretrained; use tilewright.save\(model, path\)"):
        fresh.save_pretrained(tmp_path / "n")
    tilewright.save(fresh, tmp_path / "n")
    again = tilewright.load(tmp_path / "n", measure=False)
    ids = torch.randint(0, 100, (3, 9))
    assert torch.equal(again(ids).last_hidden_state, fresh(ids).last_hidden_state)


def test_loading_never_holds_a_packed_weight_dense(tmp_path, monkeypatch):
    from tilewright.formats import Packed

    model = bert()
    tilewright.sparsify_(model, "2:4", targets=["encoder.*"])
    tilewright.save(model, tmp_path / "m")

    def refuse(self):
        raise AssertionError("a packed weight was expanded")

    monkeypatch.setattr(Packed, "unpack", refuse)
    tilewright.load(tmp_path / "m", measure=False)


def test_config_keeps_the_model_s_own_keys(tmp_path):
    model = bert()
    tilewright.sparsify_(model, "2:4", targets=["encoder.*"])
    tilewright.save(model, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    assert config["model_type"] == "bert"
    assert config["architectures"] == ["BertModel"]
    assert config["quantization_config"]["quant_method"] == "tilewright"


def test_adapters_are_merged_before_saving(tmp_path):
    from tilewright.training import lora_, merge_lora_

    model = perceptron()
    tilewright.sparsify_(model, "2:4")
    lora_(model, rank=2)
    with pytest.raises(
        ArgumentError, match=r"0 has an adapter next to its weight.*call tilewright.training.merge_lora_"
    ):
        tilewright.save(model, tmp_path / "m")
    assert not (tmp_path / "m").exists()
    merge_lora_(model)
    tilewright.save(model, tmp_path / "m")


@pytest.mark.parametrize("text", ["# My notes\n", "", "About # Packed by Tilewright, a word\n", "\udcff"])
def test_a_readme_of_your_own_stays(tmp_path, text):
    (tmp_path / "README.md").write_bytes(text.encode("utf-8", "surrogateescape"))
    model = perceptron()
    tilewright.sparsify_(model, "2:4")
    for _ in range(2):
        tilewright.save(model, tmp_path)
        assert (tmp_path / "README.md").read_bytes() == text.encode("utf-8", "surrogateescape")


def test_a_readme_of_ours_is_replaced(tmp_path):
    for pattern in ("2:4", "1:4"):
        model = perceptron()
        tilewright.sparsify_(model, pattern)
        tilewright.save(model, tmp_path)
        assert f"`{pattern}` (" in (tmp_path / "README.md").read_text()


def test_a_model_is_built_with_the_arguments_that_its_tensors_betray():
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    for switch in (True, False):
        names = set(transformers.BertModel(config, add_pooling_layer=switch).state_dict())
        assert _built_as(transformers.BertModel, config, names) == ({} if switch else {"add_pooling_layer": False})
