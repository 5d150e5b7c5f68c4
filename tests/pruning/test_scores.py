"""Taylor scores against their definition, and that the pass over the data leaves the model unchanged."""

import numpy as np
import pytest
import torch
from torch import nn

from tilewright.errors import ArgumentError, PatternError
from tilewright.patterns import NM, mask
from tilewright.pruning import Calibration, masks_of, prunable, sparsify_
from tilewright.pruning.scores import taylor

from .models import mlp


def batches(count: int = 3) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(4)
    return [(torch.randn(5, 8, generator=generator), torch.randn(5, 4, generator=generator)) for _ in range(count)]


def squared_error(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def test_taylor_is_the_squared_product_summed_over_batches() -> None:
    model = mlp()
    expected = np.zeros((16, 8))
    w = model[0].weight.detach().double()
    for x, y in batches():  # the gradient by hand: y = W2 relu(W1 x + b1) + b2
        x, y = x.double(), y.double()
        before = x @ w.T + model[0].bias.detach().double()
        out = before.relu() @ model[2].weight.detach().double().T + model[2].bias.detach().double()
        back = 2 * (out - y) / out.numel() @ model[2].weight.detach().double() * (before > 0)
        expected += (w * (back.T @ x)).square().numpy()
    sparsify_(model, "2:4", score="taylor", data=Calibration(batches(), squared_error))
    assert np.array_equal(masks_of(model)["0.weight"].numpy(), mask(NM(2, 4), np.sqrt(expected)))
    magnitude = mlp()
    sparsify_(magnitude, "2:4")
    assert not torch.equal(masks_of(magnitude)["0.weight"], masks_of(model)["0.weight"])


def rows(values: list[list[float]]) -> nn.Linear:
    layer = nn.Linear(len(values[0]), len(values), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(values))
    return layer


def test_scores_are_on_the_scale_of_the_product_itself() -> None:
    """Gradients equal the inputs here: two batches of ones and one of threes give ``|w| * sqrt(1 + 1 + 9)``."""
    model = rows([[3.0, -4.0], [3.0, 1.0]])
    ones = torch.ones(1, 2)
    data = Calibration([ones, ones, 3 * ones], lambda model, batch: model(batch).sum())
    weights = prunable(model)
    expected = model.weight.detach().abs() * 11**0.5
    torch.testing.assert_close(taylor(model, weights, data)(weights[0]), expected)


def test_a_tile_shares_the_position_with_the_larger_sum_of_squares() -> None:
    """Products 3 and 3 against 4 and 1: squares 18 against 17 keep the first, fourth powers 162 against 257 would keep the second."""
    model = rows([[3.0, 4.0], [3.0, 1.0]])
    sparsify_(model, "1:2x2", score="taylor", data=Calibration([torch.ones(1, 2)], lambda m, x: m(x).sum()))
    assert masks_of(model)["weight"].tolist() == [[True, False], [True, False]]


def test_the_pass_over_the_data_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.BatchNorm1d(16), nn.Linear(16, 4))
    model[1].eval()
    model[0].weight.requires_grad_(False)
    model[3].weight.grad = torch.ones(4, 16)
    running = model[2].running_mean.clone()
    sparsify_(model, "2:4", score="taylor", data=Calibration(batches(), squared_error))
    assert [module.training for module in model] == [True, False, True, True]
    assert not model[0].weight.requires_grad
    assert model[0].weight.grad is None
    assert torch.equal(model[3].weight.grad, torch.ones(4, 16))
    assert torch.equal(model[2].running_mean, running)


def test_half_precision_products_do_not_vanish_when_squared() -> None:
    model, exact = mlp(torch.float16), mlp(torch.float16).double()
    small = Calibration([(x.half(), y.half()) for x, y in batches()], lambda m, b: squared_error(m, b) * 2**-8)
    wide = Calibration([(x.half().double(), y.half().double()) for x, y in batches()], squared_error)
    sparsify_(model, "2:4", score="taylor", data=small)
    sparsify_(exact, "2:4", score="taylor", data=wide)
    for name, mask_ in masks_of(exact).items():
        assert (masks_of(model)[name] == mask_).float().mean() > 0.95, name


def test_data_is_asked_for_and_checked() -> None:
    def run(data: Calibration | None) -> None:
        model = mlp()
        before = model[0].weight.clone()
        try:
            sparsify_(model, "2:4", score="taylor", data=data)
        finally:
            assert torch.equal(model[0].weight, before)

    with pytest.raises(ArgumentError, match=r"'taylor' needs data=Calibration\(batches, loss\)"):
        run(None)
    with pytest.raises(ArgumentError, match="score 'taylor' got no batches"):
        run(Calibration([], squared_error))
    with pytest.raises(ArgumentError, match=r"calibration batch 0 must be a scalar tensor .* a tensor of shape"):
        run(Calibration(batches(), lambda model, batch: model(batch[0])))
    with pytest.raises(ArgumentError, match=r"calibration batch 0 must be a scalar tensor .* got float"):
        run(Calibration(batches(), lambda model, batch: 0.5))
    with pytest.raises(ArgumentError, match="loss of calibration batch 0 is nan"):
        run(Calibration(batches(), lambda model, batch: squared_error(model, batch) * float("nan")))
    with pytest.raises(PatternError, match=r"the loss does not depend on 2\.weight"):
        run(Calibration(batches(), lambda model, batch: model[0](batch[0]).sum()))
