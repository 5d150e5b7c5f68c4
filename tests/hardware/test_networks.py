"""The built-in networks against the models they are named after, operation by operation."""

import pytest
import torch

from tilewright.errors import ArgumentError
from tilewright.hardware.capture import capture
from tilewright.hardware.networks import NETWORKS, workload

transformers = pytest.importorskip("transformers")

LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
MODELS = {
    "bert-base": lambda: transformers.BertModel(transformers.BertConfig()),
    "bert-large": lambda: transformers.BertModel(transformers.BertConfig(**LARGE)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(transformers.GPT2Config()),
    "resnet50": lambda: transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=1000)),
    "vit-base": lambda: transformers.ViTModel(transformers.ViTConfig()),
}


def shape_of(o):
    return (o.kind, o.function, o.M, o.N, o.K, o.copies, o.row, o.reads, o.writes, o.steps, sorted(o.inputs))


@pytest.mark.parametrize("name", NETWORKS)
def test_they_are_what_capturing_gives(name):
    with torch.device("meta"):
        model = MODELS[name]()
    long = None if name in ("resnet50", "vit-base") else 48
    written, captured = workload(name, 3, long), capture(model, batch=3, sequence=long)
    assert {o.name: shape_of(o) for o in written} == {o.name: shape_of(o) for o in captured}
    assert all(o.weight is None or o.weight.density == 1 for o in written)


@pytest.mark.parametrize(
    ("name", "sequence", "giga"),
    [("resnet50", None, 4.089), ("bert-base", 128, 11.17), ("bert-large", 384, 123.21), ("vit-base", None, 17.56)],
)
def test_multiply_accumulates(name, sequence, giga):
    assert workload(name, sequence=sequence).macs / 1e9 == pytest.approx(giga, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("bert-basse",), "unknown network 'bert-basse'; did you mean 'bert-base'"),
        (("lenet",), "xpected one of 'bert-base', 'bert-large', 'gpt2', 'resnet50', 'vit-base'"),
        (("bert-base", 0), "batch must be at least 1, got 0"),
        (("bert-base", 1, 513), "takes sequences of 1 to 512 tokens, got 513 tokens"),
        (("resnet50", 1, 128), "takes images of 224 x 224 pixels, not sequences, got 128 tokens"),
    ],
)
def test_refusals(arguments, words):
    with pytest.raises(ArgumentError, match=words):
        workload(*arguments)
