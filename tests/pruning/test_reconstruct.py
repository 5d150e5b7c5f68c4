"""The update through `sparsify_`: order of layers, budgets, what is refused, and that a failure restores the model."""

import copy
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tilewright.errors import ArgumentError
from tilewright.patterns import NM, as_matrix, parse, verify_mask
from tilewright.pruning import Calibration, Obs, masks_of, prunable, sparsify_
from tilewright.pruning.inputs.activations import Moments, collect
from tilewright.pruning.inputs.coroutines import Pass
from tilewright.pruning.inputs.layers import hosts
from tilewright.pruning.inputs.sequence import in_sequence
from tilewright.pruning.matrices import as_rows
from tilewright.pruning.update.obs import update_rows

from .models import Conv1D


class Net(nn.Module):
    """A convolution, shared inputs, attention, a recurrent layer, and a layer used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 8, 3, padding=1)
        self.left, self.right = nn.Linear(8, 8), nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.gpt = Conv1D(8, 8)
        self.twice = nn.Linear(8, 8)
        self.lstm = nn.LSTM(8, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).transpose(1, 2).relu()
        x = x + self.left(x).tanh() * self.right(x)
        x = x + self.attention(x, x, x)[0]
        x = self.twice(self.twice(self.gpt(x).tanh()).tanh())
        out: Tensor = self.lstm(x)[0]
        return out


def net() -> Net:
    torch.manual_seed(0)
    return Net().double()


def batches(count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    sizes = [(5, 7), (4, 9), (6, 3)]
    return [torch.randn(n, 4, t, generator=generator, dtype=torch.float64) for n, t in sizes[:count]]


def test_weights_are_visited_in_the_order_of_use_with_what_the_changed_model_gives() -> None:
    model, seen = net(), []

    def visit(weight: Any, sums: list[Moments]) -> None:
        # The weights visited so far have changed, so collecting again on the current model must give the same moments.
        if weight.module is not model.twice:
            now = collect(model, [weight], Calibration(batches()))[weight.name]
            for moments, expected in zip(sums, now, strict=True):
                assert moments.outputs == expected.outputs
                assert moments.count == expected.count
                torch.testing.assert_close(moments.gram, expected.gram, rtol=1e-8, atol=1e-8)
        seen.append(weight.name)
        with torch.no_grad():
            weight.tensor.mul_(0.5)

    outputs = in_sequence(model, prunable(model), Calibration(batches()), visit)
    names = ["conv", "left", "right", "attention.in_proj", "attention.out_proj", "gpt", "twice", "lstm"]
    assert [name.removesuffix(".weight").removesuffix("_weight") for name in seen[:7]] == names[:7]
    assert seen[7:] == ["lstm.weight_ih_l0", "lstm.weight_hh_l0"]
    for x, out in zip(batches(), outputs, strict=True):
        torch.testing.assert_close(out, model(x).detach())


def test_a_layer_used_twice_is_seen_at_both_uses() -> None:
    model, sums_of = net(), {}
    expected = collect(model, prunable(model), Calibration(batches()))["twice.weight"]

    def visit(weight: Any, sums: list[Moments]) -> None:
        sums_of[weight.name] = sums

    in_sequence(model, prunable(model), Calibration(batches()), visit)
    assert sums_of["twice.weight"][0].count == expected[0].count == 2 * (5 * 7 + 4 * 9 + 6 * 3)
    torch.testing.assert_close(sums_of["twice.weight"][0].gram, expected[0].gram)


def test_the_reference_gives_what_the_dense_model_sees() -> None:
    model, dense = net(), net()
    model.conv.weight.data *= 0.9
    sums: dict[str, list[Moments]] = {}

    def visit(weight: Any, moments: list[Moments]) -> None:
        sums[weight.name] = moments

    in_sequence(model, prunable(model), Calibration(batches()), visit, dense)
    rows = [torch.cat([m.conv(x).transpose(1, 2).relu().reshape(-1, 8) for x in batches()]) for m in (dense, model)]
    cross = sums["left.weight"][0].cross
    assert cross is not None
    torch.testing.assert_close(cross, (rows[0].T @ rows[1]).detach())


def test_the_update_is_the_one_of_each_layer_in_order() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).double()
    dense, x = copy.deepcopy(model), torch.randn(50, 8, dtype=torch.float64)
    report = sparsify_(model, "2:4", score="second-order", update="obs", data=Calibration([x[:20], x[20:]]))
    hidden = x
    for name in ("0", "2"):
        weight = dense.get_submodule(name).weight.detach()
        sums = [Moments(slice(0, len(weight)), 50, hidden.T @ hidden, hidden.sum(dim=0))]
        alone = update_rows(weight, sums, NM(2, 4), None, Obs())
        torch.testing.assert_close(model.get_submodule(name).weight.detach(), alone.weights)
        assert torch.equal(masks_of(model)[f"{name}.weight"], torch.from_numpy(alone.mask))
        row = next(row for row in report.rows if row["name"] == f"{name}.weight")
        assert row["error updated"] == pytest.approx(alone.after)
        assert row["error masked"] == pytest.approx(alone.before)
        hidden = model[1](model[0](x)).detach()
    assert report.summary["update"] == "obs"
    apart = copy.deepcopy(dense)
    sparsify_(apart, "2:4", score="second-order", update=Obs(sequential=False), data=Calibration([x]))
    torch.testing.assert_close(apart[0].weight, model[0].weight)
    assert not torch.allclose(apart[2].weight, model[2].weight)


@pytest.mark.parametrize("target", ["own", "dense"])
def test_biases_move_with_their_weights_and_keep_the_means(target: str) -> None:
    model, dense = net(), net()
    update = Obs(target=target, bias=True)
    sparsify_(model, "2:4", score="second-order", update=update, data=Calibration(batches()), ignore=["twice", "lstm"])
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, dense.get_parameter(n))}
    names = ["conv", "left", "right", "gpt", "attention.out_proj"]
    assert moved == {f"{n}.{kind}" for n in names for kind in ("weight", "bias")} | {
        "attention.in_proj_weight",
        "attention.in_proj_bias",
    }
    outs = []
    for network in (model, dense):
        hidden = [network.conv(x).transpose(1, 2).relu() for x in batches()]
        seen = hidden if target == "dense" else [model.conv(x).transpose(1, 2).relu() for x in batches()]
        outs.append(torch.cat([network.left(h).reshape(-1, 8) for h in seen]).mean(dim=0).detach())
    torch.testing.assert_close(outs[0], outs[1])


def test_a_bias_that_two_modules_share_stays() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].bias = model[0].bias
    before = [m.bias.detach().clone() for m in model]
    data = Calibration([torch.randn(32, 8) + 1])
    sparsify_(model, "2:4", score="second-order", update=Obs(bias=True), data=data)
    assert [bool(torch.equal(m.bias, b)) for m, b in zip(model, before, strict=True)] == [True, True, False]


@pytest.mark.parametrize("pattern", ["2:4", "tw4@50%", "block2x2@50%", "any@60%", "tew4@60%+5%", "tvw8@60%"])
@pytest.mark.parametrize("score", ["magnitude", "wanda", "second-order", "taylor"])
@pytest.mark.parametrize("budget", ["uniform", "global"])
def test_every_score_pattern_and_budget_takes_an_update(pattern: str, score: str, budget: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8))
    plain, x = copy.deepcopy(model), torch.randn(64, 8)
    data = Calibration([x], lambda m, b: m(b).square().mean())
    report = sparsify_(model, pattern, score=score, budget=budget, update="obs", data=data)
    for name, mask in masks_of(model).items():
        assert verify_mask(parse(pattern), as_matrix(mask.numpy(), "linear"), check_density=budget == "uniform")
        assert not model.get_parameter(name).detach()[~mask].any()
    assert all(row["error updated"] <= row["error masked"] for row in report.rows)  # type: ignore[operator]
    if score != "second-order" or (budget == "global" and pattern != "2:4"):
        sparsify_(plain, pattern, score=score, budget=budget, data=None if score == "magnitude" else data)
        for name, mask in masks_of(plain).items():
            assert torch.equal(mask, masks_of(model)[name])


def test_all_kinds_of_layers_are_updated_in_their_own_form() -> None:
    model, dense = net(), net()
    x = torch.cat([b[:, :, :3] for b in batches()])
    report = sparsify_(model, "2:4", score="second-order", update="obs", data=Calibration(batches()))
    assert len(masks_of(model)) == len(prunable(model)) == 9
    apart, plain = net(), net()
    sparsify_(plain, "2:4")
    errors = [float((m(x) - dense(x)).square().mean().detach()) for m in (model, plain)]
    assert errors[0] < errors[1]
    assert all(row["error updated"] <= row["error masked"] for row in report.rows)  # type: ignore[operator]
    for weight in prunable(model):
        rows = as_rows(weight, weight.tensor.detach())
        assert verify_mask(NM(2, 4), (rows != 0).numpy(), check_density=False)
    assert set(hosts(apart, prunable(apart))) == {"conv", "left", "right", "attention", "gpt", "twice", "lstm"}


def test_half_precision_weights_stay_half() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8)).bfloat16()
    x = torch.randn(64, 8).bfloat16()
    report = sparsify_(model, "2:4", score="second-order", update="obs", data=Calibration([x]))
    assert model[0].weight.dtype == torch.bfloat16
    assert report.rows[0]["error updated"] < report.rows[0]["error masked"]  # type: ignore[operator]


@pytest.mark.parametrize("target", ["own", "dense"])
def test_a_failure_on_the_way_leaves_the_model_as_it_was(target: str) -> None:
    model, threads = net(), threading.active_count()
    state = {name: value.clone() for name, value in model.state_dict().items()}

    def fails_late(m: nn.Module, batch: Tensor) -> Tensor:
        m(batch)
        raise RuntimeError("the disk is full")

    data = Calibration(batches(), forward=fails_late)
    counted = Calibration([0], forward=lambda m, _: [m(b) for b in batches()])
    with pytest.raises(RuntimeError, match="the disk is full"):
        sparsify_(model, "2:4", score="second-order", update=Obs(target=target), data=data)
    model.register_forward_hook(_breaker(model))
    with pytest.raises(KeyboardInterrupt):
        sparsify_(model, "2:4", score="second-order", update=Obs(target=target), data=counted)
    assert list(model.state_dict()) == list(state)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert threading.active_count() == threads
    assert model.training
    assert not any(m._forward_pre_hooks for m in model.modules())


def _breaker(model: Net) -> Any:
    before = model.conv.weight.detach().clone()

    def stop(*_: Any) -> None:
        if not torch.equal(model.conv.weight, before):
            raise KeyboardInterrupt

    return stop


def test_a_pass_stops_and_goes_on_and_can_be_abandoned() -> None:
    order: list[str] = []

    def work(forward: Pass) -> str:
        order.append("begun")
        forward.wait("first")
        order.append("went on")
        try:
            forward.wait("second")
        finally:
            order.append("left")
        return "result"

    whole, part, idle = Pass(work), Pass(work), Pass(work)
    whole.step()
    assert (whole.at, whole.done, order) == ("first", False, ["begun"])
    whole.step()
    whole.step()
    assert (whole.done, whole.result) == (True, "result")
    part.step()
    part.step()
    for forward in (whole, part, idle):
        forward.abandon()
    assert order == ["begun", "went on", "left"] * 2
    assert part.result is None


def test_what_an_update_needs_is_said() -> None:
    model, x = nn.Sequential(nn.Linear(8, 4)), torch.randn(4, 8)
    with pytest.raises(ArgumentError, match=r"an update needs data=Calibration\(batches\)"):
        sparsify_(model, "2:4", update="obs")
    with pytest.raises(ArgumentError, match=r"unknown update 'sgpt'; expected one of 'none', 'obs'"):
        sparsify_(model, "2:4", update="sgpt", data=Calibration([x]))
    with pytest.raises(ArgumentError, match="between 1 and 512 batches; got 513"):
        sparsify_(model, "2:4", update="obs", score="second-order", data=Calibration([x] * 513))
    with pytest.raises(ArgumentError, match="between 1 and 512 batches; got 0"):
        sparsify_(model, "2:4", update="obs", score="second-order", data=Calibration([]))
    two = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    with pytest.raises(ArgumentError, match=r"1\.weight is never used"):
        sparsify_(two, "2:4", update="obs", data=Calibration([x], forward=lambda m, b: m[0](b)))
    assert not masks_of(model)
