"""A loaded model reports how it runs, counts its parameters like the dense one, and accepts casts to other types."""

import copy
import logging
import pickle

import pytest
import torch
from models import bert, gpt2, perceptron

import tilewright
from tilewright.runtime import sparse_layers


@pytest.mark.parametrize(("build", "targets"), [(bert, ["encoder.*"]), (gpt2, None)], ids=["bert", "gpt2"])
def test_num_parameters_is_that_of_the_dense_model(build, targets, tmp_path):
    dense, model = build(), build()
    tilewright.sparsify_(model, "2:4", targets=targets)
    tilewright.save(model, tmp_path)
    for measure in (False, True):
        loaded = tilewright.load(tmp_path, measure=measure)
        for words in ({}, {"exclude_embeddings": True}):
            assert loaded.num_parameters(**words) == dense.num_parameters(**words)
            assert copy.deepcopy(loaded).num_parameters(**words) == dense.num_parameters(**words)
        packed = sum(layer.out_features * layer.in_features for layer in sparse_layers(loaded).values())
        assert packed > 0 or measure  # a measured model may end up dense, entirely or in part
        assert loaded.num_parameters(only_trainable=True) <= dense.num_parameters() - packed
    assert pickle.loads(pickle.dumps(loaded)).num_parameters() == dense.num_parameters()


def test_a_sentence_transformer_counts_too(tiny_model, tmp_path):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(tiny_model), device="cpu")
    count = model[0].auto_model.num_parameters()
    tilewright.sparsify_(model[0].auto_model, "2:4", targets=["encoder.*"])
    tilewright.save(model, tmp_path)
    assert tilewright.load(tmp_path, measure=False)[0].auto_model.num_parameters() == count


def test_load_says_in_one_line_what_runs_how(tmp_path, caplog):
    model = perceptron()
    tilewright.sparsify_(model, "2:4", targets=["0"])
    tilewright.save(model, tmp_path)
    with caplog.at_level(logging.INFO, logger="tilewright"):
        tilewright.load_(perceptron(), tmp_path, measure=False)
        tilewright.load_(perceptron(), tmp_path, measure=False, dense=["0"])
    assert [record.getMessage() for record in caplog.records] == [
        "Sequential: of 2 layers 1 run sparse, 0 are packed and run dense, 1 were not pruned; tilewright.explain gives the reasons",
        "Sequential: of 2 layers 0 run sparse, 1 are packed and run dense, 1 were not pruned; tilewright.explain gives the reasons",
    ]


def test_without_a_listener_nothing_is_printed(tmp_path, capfd):
    model = perceptron()
    tilewright.sparsify_(model, "2:4")
    tilewright.save(model, tmp_path)
    tilewright.load_(perceptron(), tmp_path, measure=False)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_a_model_that_is_cast_runs_in_that_type(dtype, tmp_path):
    model = torch.nn.Sequential(torch.nn.LayerNorm(64), perceptron())
    tilewright.sparsify_(model, "2:4")
    tilewright.save(model, tmp_path)
    fresh = torch.nn.Sequential(torch.nn.LayerNorm(64), perceptron())
    loaded = tilewright.load_(fresh, tmp_path, measure=False).to(dtype)
    x = torch.randn(3, 64)
    y = loaded(x.to(dtype))
    assert y.dtype == dtype
    assert loaded[1][0].dense().weight.dtype == dtype
    torch.testing.assert_close(y.float(), model(x), atol=0.05, rtol=0.05)
