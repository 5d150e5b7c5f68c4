"""Activations are fused if a class's code is known to be ``act(dense(x))``, and outputs never change."""

import copy

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import tilewright
from tilewright import NM, kernels
from tilewright.formats import pack
from tilewright.runtime import sparse_layers
from tilewright.runtime.fuse import _name_of


class Base(nn.Module):
    def __init__(self, activation=None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.dense, self.norm = nn.Linear(64, 64), nn.LayerNorm(64)
        self.intermediate_act_fn = nn.GELU() if activation is None else activation


class PlainIntermediate(Base):
    def forward(self, x):
        x = self.dense(x)
        x = self.intermediate_act_fn(x)
        return x  # noqa: RET504


class OtherName(Base):
    def forward(self, value: torch.Tensor) -> torch.Tensor:
        value = self.dense(value)
        value = self.intermediate_act_fn(value)
        return value  # noqa: RET504


class NormBetweenIntermediate(Base):
    def forward(self, x):
        return self.intermediate_act_fn(self.norm(self.dense(x)))


class NormFirstIntermediate(Base):
    def forward(self, x):
        x = self.norm(x)
        x = self.dense(x)
        x = self.intermediate_act_fn(x)
        return x  # noqa: RET504


class TwiceIntermediate(Base):
    def forward(self, x):
        return self.intermediate_act_fn(self.dense(x)) + self.dense(x)


class GateIntermediate(Base):
    def forward(self, x):
        return x * self.intermediate_act_fn(self.dense(x)) if x.ndim > 2 else self.dense(x)


class PlainChild(PlainIntermediate):
    def forward(self, x):
        return super().forward(x) - self.dense(x)


class Doubled(nn.GELU):
    def forward(self, x):
        return 2 * super().forward(x)


FUSED = {
    "same code": PlainIntermediate,
    "another name": OtherName,
    "tanh": lambda: PlainIntermediate(nn.GELU("tanh")),
    "relu": lambda: PlainIntermediate(nn.ReLU()),
    "silu": lambda: PlainIntermediate(nn.SiLU()),
    "Tanh": lambda: PlainIntermediate(nn.Tanh()),
}
LEFT = {
    "norm between": NormBetweenIntermediate,
    "norm first": NormFirstIntermediate,
    "used twice": TwiceIntermediate,
    "only sometimes": GateIntermediate,
    "overridden": PlainChild,
    "activation of one's own": lambda: PlainIntermediate(Doubled()),
    "activation without a kernel": lambda: PlainIntermediate(nn.Softplus()),
}


def packed(model, tmp_path, fresh=None):
    tilewright.sparsify_(model, "2:4")
    tilewright.save(model, tmp_path)
    return tilewright.load_(fresh or copy.deepcopy(model), tmp_path, measure=False)


@pytest.mark.parametrize("shape", [(4, 64), (2, 3, 64)])
@pytest.mark.parametrize("kind", [*FUSED, *LEFT])
def test_outputs_do_not_change(kind, shape, tmp_path):
    model = nn.Sequential({**FUSED, **LEFT}[kind]()).eval()
    loaded = packed(model, tmp_path)
    assert loaded[0].dense.activation == ("none" if kind in LEFT else loaded[0].dense.activation)
    assert (loaded[0].dense.activation != "none") == (kind in FUSED)
    x = torch.randn(shape)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), model(x), atol=1e-4, rtol=1e-4)


def test_the_two_kinds_of_gelu_are_told_apart(tmp_path):
    x = torch.linspace(-4, 4, 64).repeat(8, 1)
    for number, (activation, name) in enumerate([(nn.GELU(), "gelu"), (nn.GELU("tanh"), "gelu_tanh")]):
        model = nn.Sequential(PlainIntermediate(activation)).eval()
        loaded = packed(model, tmp_path / str(number))
        assert loaded[0].dense.activation == name
        with torch.no_grad():
            torch.testing.assert_close(loaded(x), model(x), atol=2e-6, rtol=1e-5)


def test_a_hook_or_a_forward_of_its_own_keeps_a_layer_apart(tmp_path):
    model = nn.Sequential(PlainIntermediate(), PlainIntermediate()).eval()
    fresh = copy.deepcopy(model)
    fresh[0].intermediate_act_fn.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    fresh[1].forward = lambda x: fresh[1].dense(x)
    loaded = packed(model, tmp_path, fresh)
    assert [loaded[i].dense.activation for i in (0, 1)] == ["none", "none"]


def test_a_layer_in_two_places_is_not_fused(tmp_path):
    model = nn.Sequential(PlainIntermediate(), PlainIntermediate()).eval()
    model[1] = nn.Sequential(model[0].dense, nn.ReLU())
    loaded = packed(model, tmp_path)
    x = torch.randn(4, 64)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), model(x), atol=1e-4, rtol=1e-4)


FAMILIES = {
    "Bert": {},
    "Roberta": {"max_position_embeddings": 66},
    "Electra": {"embedding_size": 32},
    "ViT": {"image_size": 16, "patch_size": 8},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_relatives_of_bert_are_fused(family, tmp_path):
    torch.manual_seed(0)
    small = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "vocab_size": 64,
    }
    small = {k: v for k, v in small.items() if family != "ViT" or k != "vocab_size"}
    config = getattr(transformers, f"{family}Config")(**small, **FAMILIES[family])
    model = getattr(transformers, f"{family}Model")(config).eval()
    tilewright.sparsify_(model, "2:4", targets=["encoder.*"] if family != "ViT" else None)
    tilewright.save(model, tmp_path)
    loaded = tilewright.load(tmp_path, measure=False)
    inputs = torch.randn(1, 3, 16, 16) if family == "ViT" else torch.randint(2, 60, (2, 7))
    with torch.no_grad():
        torch.testing.assert_close(loaded(inputs)[0], model(inputs)[0], atol=1e-4, rtol=1e-3)
    if family != "ViT":
        assert [layer.activation for layer in sparse_layers(loaded).values()].count("gelu") == 1


@pytest.mark.parametrize("key", [*transformers.activations.ACT2CLS, "torch gelu", "torch tanh gelu", "torch elu"])
def test_an_activation_is_fused_under_the_name_of_the_function_it_computes(key):
    """The two kinds of GELU differ by 5e-4, enough to notice if one is used for the other."""
    of_torch = {"torch gelu": nn.GELU(), "torch tanh gelu": nn.GELU("tanh"), "torch elu": nn.ELU()}
    activation = of_torch.get(key) or transformers.activations.ACT2FN[key]
    name = _name_of(activation)
    fused = {
        "gelu",
        "gelu_new",
        "gelu_python",
        "gelu_pytorch_tanh",
        "gelu_python_tanh",
        "relu",
        "silu",
        "swish",
        "tanh",
    }
    assert (name is not None) == (key in fused | {"torch gelu", "torch tanh gelu"})
    if name is not None:
        x = torch.linspace(-4, 4, 400).reshape(-1, 4)
        got = kernels.linear(x.numpy(), pack(np.eye(4, dtype=np.float32), NM(1, 4)), None, name)
        np.testing.assert_allclose(got, activation(x).numpy(), atol=2e-6)
