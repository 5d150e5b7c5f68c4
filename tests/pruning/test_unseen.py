"""What a report says about the parts of a model that pruning does not cover."""

import pytest
import torch
import transformers
from torch import nn

from tilewright.errors import PatternError
from tilewright.pruning import sparsify_

SIZES = {
    "vocab_size": 64,
    "hidden_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def mixtral():
    config = transformers.MixtralConfig(**SIZES, intermediate_size=128, num_local_experts=4)
    return transformers.MixtralForCausalLM(config)


def qwen():
    config = transformers.Qwen3MoeConfig(
        **SIZES, intermediate_size=128, moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2
    )
    return transformers.Qwen3MoeForCausalLM(config)


class Experts(nn.Module):
    """Experts of a custom model."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(16, 4)
        self.experts = nn.Parameter(torch.randn(4, 16, 16))


BUILDS = {"Mixtral": mixtral, "Qwen": qwen, "own": Experts}


def share_of(model, ends):
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return sum(size for name, size in sizes.items() if any(end in name for end in ends)) / sum(sizes.values())


@pytest.mark.parametrize("build", BUILDS)
def test_experts_are_named_and_the_zeros_of_the_whole_model_stated(build):
    model = BUILDS[build]()
    report = sparsify_(model, "2:4")
    parameters = list(model.parameters())
    zeros = sum(int((p == 0).sum()) for p in parameters) / sum(p.numel() for p in parameters)
    assert report.summary["zeros of the whole model"] == pytest.approx(zeros)
    assert "experts" in report.summary["not tried"]
    percent = float(report.summary["not tried"].split("%")[0])
    ends = ["experts"] + (["mlp.gate.weight"] if build != "own" else [])  # routers are plain parameters there
    assert percent == pytest.approx(100 * share_of(model, ends), abs=0.06)
    assert "not tried" in str(report)


@pytest.mark.parametrize("build", BUILDS)
def test_strict_refuses_what_it_cannot_see(build):
    model = BUILDS[build]()
    with pytest.raises(
        PatternError, match=r"of the model is in three-dimensional parameters \(\d+ of them, the first .*experts"
    ):
        sparsify_(model, "2:4", strict=True)
    assert not any((p == 0).all() for p in model.parameters() if p.ndim == 3)
    assert sparsify_(model, "2:4", strict=True, ignore=["*experts*"]).ok
    assert sparsify_(BUILDS[build](), "2:4", strict=True, targets=["*lm_head*" if build != "own" else "router"]).ok


def test_models_of_layers_alone_have_nothing_untried():
    model = nn.Sequential(nn.Embedding(8, 16), nn.Linear(16, 16))
    report = sparsify_(model, "2:4", strict=True)
    assert "not tried" not in report.summary
    assert report.summary["zeros of the whole model"] == pytest.approx(128 / (128 + 256 + 16))
