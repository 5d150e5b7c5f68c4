"""Which weights are prunable, how they are viewed as matrices, and why others are not prunable."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from tilewright.pruning import prunable
from tilewright.pruning.weights import survey

from .models import Tied, Zoo

EXPECTED = {
    "linear.weight": ("linear", (12, 8)),
    "conv.weight": ("conv", (4, 72)),
    "grouped.weight": ("conv", (8, 12)),
    "gpt.weight": ("transposed", (6, 8)),
    **{
        f"lstm.weight_{kind}_l{layer}{end}": ("linear", (16, 4 if kind == "hh" else 8))
        for layer in (0, 1)
        for end in ("", "_reverse")
        for kind in ("ih", "hh")
    },
    "cell.weight_ih": ("linear", (12, 8)),
    "cell.weight_hh": ("linear", (12, 4)),
    "attention.in_proj_weight": ("linear", (24, 8)),
    "attention.out_proj.weight": ("linear", (8, 8)),
    "cross.q_proj_weight": ("linear", (8, 8)),
    "cross.k_proj_weight": ("linear", (8, 12)),
    "cross.v_proj_weight": ("linear", (8, 16)),
    "cross.out_proj.weight": ("linear", (8, 8)),
}


def test_every_kind_of_weight_is_found_and_seen_as_a_matrix() -> None:
    zoo = Zoo()
    weights = prunable(zoo)
    assert {weight.name: (weight.layout, weight.matrix_shape) for weight in weights} == EXPECTED
    parameters, modules = dict(zoo.named_parameters()), dict(zoo.named_modules())
    for weight in weights:
        assert weight.tensor is parameters[weight.name]
        assert modules[weight.module_name] is weight.module
        assert weight.module._parameters[weight.parameter_name] is weight.tensor


def reason_of(module: nn.Module, name: str = "weight") -> str:
    assert not prunable(module)
    return {weight.name: weight.reason for weight in survey(module)}[name]


def test_huggingface_conv1d_is_recognised() -> None:
    from transformers.pytorch_utils import Conv1D

    (weight,) = prunable(Conv1D(6, 8))
    assert (weight.layout, weight.matrix_shape) == ("transposed", (6, 8))


def test_what_cannot_be_pruned_says_why() -> None:
    assert "transposed convolution" in reason_of(nn.ConvTranspose1d(4, 4, 2))
    assert "meta device" in reason_of(nn.Linear(4, 4, device="meta"))
    assert "no shape yet" in reason_of(nn.LazyLinear(4))
    assert "it is not a parameter but computed from others" in reason_of(parametrizations.weight_norm(nn.Linear(4, 4)))
    integers = nn.Linear(4, 4)
    integers.weight = nn.Parameter(torch.ones(4, 4, dtype=torch.int8), requires_grad=False)
    assert "it is torch.int8, and only float32" in reason_of(integers)
    expanded = nn.Linear(4, 4)
    expanded.weight = nn.Parameter(torch.randn(4, 1).expand(4, 4))
    assert "several of its elements share memory" in reason_of(expanded)
    assert prunable(nn.Linear(1, 4))
    occupied = nn.Linear(4, 4)
    occupied.register_buffer("weight_mask", torch.ones(4))
    assert "already has an attribute named weight_mask" in reason_of(occupied)


def test_tensor_subclass_is_left_alone() -> None:
    class Odd(torch.Tensor):
        pass

    linear = nn.Linear(4, 4)
    odd = torch.randn(4, 4).as_subclass(Odd)
    odd.requires_grad_(True)
    linear._parameters["weight"] = odd  # as quantization libraries do
    assert reason_of(linear) == "it is a Odd, and only plain and sharded (DTensor) parameters can be pruned"


def test_tied_weights_are_refused_and_a_module_with_two_names_counts_once() -> None:
    tied = Tied()
    assert [weight.name for weight in prunable(tied)] == ["once.weight"]
    reasons = {weight.name: weight.reason for weight in survey(tied)}
    assert reasons["head.weight"] == "it is the same parameter as embed.weight, which a mask would prune as well"
    assert "same parameter as right.weight" in reasons["left.weight"]
    assert "same parameter as left.weight" in reasons["right.weight"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_float_type_is_prunable(dtype: torch.dtype) -> None:
    assert len(prunable(nn.Linear(4, 4).to(dtype))) == 1
