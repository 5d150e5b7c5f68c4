"""Masks follow their parameters into the layers and averages that other tools create from a model."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn

from tilewright.pruning import masks_of, patterns_of, sparsify_


def pruned():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    sparsify_(model, "2:4")
    return model


def trained(model, steps=3):
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(16, 64)).square().mean().backward()
        optimizer.step()
    return [float((layer.weight == 0).float().mean()) for layer in model if hasattr(layer, "weight")]


def torchao(model):
    from torchao.quantization import quantize_
    from torchao.quantization.qat import IntxFakeQuantizeConfig, QATConfig

    quantize_(model, QATConfig(weight_config=IntxFakeQuantizeConfig(torch.int8, "per_channel"), step="prepare"))


class Faked(nn.Linear):
    """A layer that rounds its weight, as in every tool for quantization-aware training."""

    def forward(self, x):
        return nn.functional.linear(x, (self.weight * 16).round() / 16 + self.weight - self.weight.detach(), self.bias)


def by_hand(model):
    for index in (0, 2):
        layer = Faked(*reversed(model[index].weight.shape))
        layer.weight, layer.bias = model[index].weight, model[index].bias
        model[index] = layer


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # from the quantization library
@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("prepare", [torchao, by_hand])
def test_quantization_aware_training_keeps_the_masks(prepare, copied):
    model = copy.deepcopy(pruned()) if copied else pruned()
    expected = {name: mask.clone() for name, mask in masks_of(model).items()}
    prepare(model)
    masks = masks_of(model)
    assert masks.keys() == expected.keys()
    assert all(torch.equal(masks[name], expected[name]) for name in expected)
    assert [str(pattern) for pattern in patterns_of(model).values()] == ["2:4", "2:4"]
    assert trained(model) == [0.5, 0.5]


def test_tying_a_weight_gives_no_mask_to_an_embedding():
    model = pruned()
    embedding = nn.Embedding(64, 64)
    embedding.weight = model[0].weight
    assert not masks_of(embedding)


def test_replacing_a_weight_gives_no_mask_to_the_new_one():
    model = pruned()
    other = nn.Linear(64, 64)
    other.weight = nn.Parameter(model[0].weight.detach().clone())
    assert not masks_of(other)


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"avg_fn": get_ema_avg_fn(0.9)}, {"multi_avg_fn": get_ema_multi_avg_fn(0.9)}],
    ids=["swa", "ema", "ema, many at once"],
)
def test_a_plain_average_keeps_the_masks(options, use_buffers):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8))
    sparsify_(model, "2:4")
    average = AveragedModel(model, use_buffers=use_buffers, **options)
    weights = []
    for _ in range(3):
        with torch.no_grad():
            model[0].weight.add_(model[0].weight_mask * torch.randn(8, 64))
            model[1].running_mean.add_(1)
        average.update_parameters(model)
        weights.append(model[0].weight.detach().clone())
    assert int(average.n_averaged) == 3
    assert torch.equal(average.module[0].weight_mask, model[0].weight_mask)
    assert torch.equal(average.module[0].weight == 0, model[0].weight == 0)
    if not options:
        torch.testing.assert_close(average.module[0].weight, torch.stack(weights).mean(0))
    moved = {False: 3.0, True: 2.0 if not options else 1 * 0.81 + 2 * 0.09 + 3 * 0.1}[use_buffers]
    assert average.module[1].running_mean[0] == pytest.approx(moved)


def test_an_average_follows_masks_that_change():
    model = pruned()
    average = AveragedModel(model, use_buffers=True)
    average.update_parameters(model)
    with torch.no_grad():
        model[0].weight.copy_(torch.randn(64, 64))
    sparsify_(model, "1:4")
    average.update_parameters(model)
    assert torch.equal(average.module[0].weight_mask, model[0].weight_mask)
    assert int(average.module[0].weight.count_nonzero()) <= 64 * 16
