"""Common variations of a training loop: averages, loss scaling, skipped steps, every kind of optimizer, recomputation."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

from tilewright.errors import ArgumentError
from tilewright.patterns import verify_mask
from tilewright.pruning import masks_of, patterns_of, sparsify_
from tilewright.training import SRSTE, FixedMask, Gradual, MaskedAverage, Method, Sparsifier, check_masks, copy_masks_

from .test_sparsifier import data, loop, loss_of, network, sgd

STEPS = 9
METHODS = [
    FixedMask(),
    Gradual("1:4", end=6, every=2),
    Gradual("any@70%", end=6, every=2, regrow=True),
    SRSTE("2:4", decay=1e-2),
]


def started(method: Method) -> tuple[nn.Sequential, Sparsifier]:
    model = network()
    if isinstance(method, FixedMask):
        sparsify_(model, "2:4")
    return model, Sparsifier(model, method)


def holds(model: nn.Module) -> bool:
    """Return whether the non-zero elements of every weight obey its pattern."""
    weights = dict(model.named_parameters())
    return all(
        bool(verify_mask(pattern, weights[name].detach().numpy() != 0, check_density=False))
        and not weights[name].detach()[~masks_of(model)[name]].any()
        for name, pattern in patterns_of(model).items()
    )


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("buffers", [False, True])
@pytest.mark.parametrize("early", [False, True])
def test_an_average_keeps_the_pattern_while_masks_change(method: Method, buffers: bool, early: bool) -> None:
    if early and isinstance(method, FixedMask):
        pytest.skip("fixed masks are there from the beginning")
    decay = 0.8
    model = network()
    average = MaskedAverage(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=buffers)
    if isinstance(method, FixedMask):
        sparsify_(model, "2:4")
    sparsifier = Sparsifier(model, method)
    if not early:
        average = MaskedAverage(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=buffers)
    sparsifier.attach(optimizer := sgd(model))
    expected: dict[str, torch.Tensor] = {}
    for step in range(STEPS):
        loop(model, optimizer, 1, step)
        average.update_parameters(model)
        assert holds(average.module)
        masks = masks_of(model)
        for name, parameter in model.named_parameters():
            new = parameter.detach()
            mean = decay * expected[name] + (1 - decay) * new if expected.get(name) is not None else new.clone()
            expected[name] = mean * masks[name] if name in masks else mean
    for name, parameter in average.module.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], rtol=1e-5, atol=1e-7)
    assert all(torch.equal(mask, masks_of(model)[name]) for name, mask in masks_of(average.module).items())
    loop(model, optimizer, 1, STEPS)
    assert all(not torch.equal(a, b) for a, b in zip(average.module.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("buffers", [False, True])
def test_equal_averages_keep_the_pattern_too(buffers: bool) -> None:
    model, sparsifier = started(SRSTE("2:4"))
    model.append(nn.BatchNorm1d(8))
    average = MaskedAverage(model, use_buffers=buffers)
    sparsifier.attach(optimizer := sgd(model, lr=0.5))
    total = torch.zeros(8)
    for step in range(STEPS):
        loop(model, optimizer, 1, step)
        average.update_parameters(model)
        total += model[3].running_mean
        assert holds(average.module)
    goal = total / STEPS if buffers else model[3].running_mean
    torch.testing.assert_close(average.module[3].running_mean, goal)
    assert list(average.module.state_dict()) == list(model.state_dict())


def test_a_plain_average_holds_and_a_copy_of_another_kind_is_put_right() -> None:
    model, sparsifier = started(SRSTE("2:4"))
    average = AveragedModel(model)
    sparsifier.attach(optimizer := sgd(model, lr=0.5))
    for step in range(STEPS):
        loop(model, optimizer, 1, step)
        average.update_parameters(model)
    assert holds(average.module)
    copy = started(SRSTE("2:4"))[0]
    assert not torch.equal(copy[0].weight_mask, model[0].weight_mask)
    copy_masks_(copy, model)
    assert torch.equal(copy[0].weight_mask, model[0].weight_mask)
    assert holds(copy)
    with pytest.raises(ArgumentError, match=r"the target has no weight 0\.weight, which has a mask in the source"):
        copy_masks_(nn.Linear(2, 2), model)


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_implementations_of_an_optimizer_agree(method: Method, kind: type[torch.optim.Optimizer]) -> None:
    results = []
    for flags in ({}, {"foreach": True}, {"foreach": False}, {"fused": True}):
        model, sparsifier = started(method)
        extra = {"momentum": 0.9} if kind is torch.optim.SGD else {}
        optimizer = kind(model.parameters(), lr=0.02, weight_decay=0.1, **extra, **flags)
        sparsifier.attach(optimizer)
        loop(model, optimizer, STEPS)
        assert holds(model)
        sparsifier.finish()
        results.append([p.detach().clone() for p in model.parameters()])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "kind", ["Adam", "Adagrad", "RMSprop", "NAdam", "RAdam", "Adadelta", "Rprop", "ASGD", "Adamax"]
)
def test_any_optimizer_will_do(kind: str) -> None:
    for method in METHODS:
        model, sparsifier = started(method)
        optimizer = getattr(torch.optim, kind)(model.parameters(), lr=0.01)
        sparsifier.attach(optimizer)
        loop(model, optimizer, STEPS)
        assert holds(model)
        assert sparsifier.finish().ok


@pytest.mark.parametrize("fused", [False, True])
def test_taylor_sums_are_those_of_the_loss_without_its_scale(fused: bool) -> None:
    """The scale doubles between the two summed steps: if it stayed in, the second step would have four times the weight."""
    sums = []
    for scale in (1.0, 1024.0):
        model = network()
        sparsifier = Sparsifier(model, Gradual("any@50%", end=9, every=3, score="taylor", scoring_steps=2))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
        sparsifier.attach(optimizer)
        scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=2, enabled=scale > 1)
        for step in range(2):
            optimizer.zero_grad()
            scaler.scale(loss_of(model, data(step))).backward()
            scaler.step(optimizer)
            scaler.update(scale * 2**step if scale > 1 else None)
        sums.append(sparsifier.state_dict()["sums"])
    assert sums[0].keys() == sums[1].keys() == {"0.weight", "2.weight"}
    for name, total in sums[0].items():
        assert total.count_nonzero() > 0
        torch.testing.assert_close(sums[1][name], total, rtol=1e-4, atol=0)


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("fused", [False, True])
def test_a_loss_scaler_changes_nothing_but_rounding(method: Method, fused: bool) -> None:
    """Also if the optimizer itself unscales, after the hooks, and if a step is skipped."""
    plain, sparsifier = started(method)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, fused=fused)
    sparsifier.attach(optimizer)
    loop(plain, optimizer, STEPS)
    model, sparsifier = started(method)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=fused)
    sparsifier.attach(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
    for step in range(STEPS):
        optimizer.zero_grad()
        scaler.scale(loss_of(model, data(step))).backward()
        scaler.step(optimizer)
        scaler.update()
    for a, b in zip(plain.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    before = copy.deepcopy(model.state_dict())
    optimizer.zero_grad()
    scaler.scale(loss_of(model, data(0)) * float("inf")).backward()
    scaler.step(optimizer)
    scaler.update()
    assert holds(model)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(before.items(), model.state_dict().items(), strict=True))


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_a_step_that_overflowed_can_be_left_out(method: Method) -> None:
    """A manual loop in half precision: a gradient that is not finite is dropped, and the next one used."""
    plain, sparsifier = started(method)
    sparsifier.attach(optimizer := sgd(plain))
    loop(plain, optimizer, STEPS)
    model, sparsifier = started(method)
    sparsifier.attach(optimizer := sgd(model))
    for step in range(STEPS):
        for spoilt in (True, False):
            optimizer.zero_grad()
            (loss_of(model, data(step)) * (float("inf") if spoilt else 1.0)).backward()
            if spoilt:
                sparsifier.prepare()  # as a loop that clips does before it computes the norm
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), float("inf"))
            if torch.isfinite(norm):
                optimizer.step()
    sparsifier.finish()
    for a, b in zip(plain.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_models_of_other_types(method: Method, dtype: torch.dtype) -> None:
    model = network().to(dtype)
    if isinstance(method, FixedMask):
        sparsify_(model, "2:4")
    sparsifier = Sparsifier(model, method).attach(optimizer := sgd(model, lr=0.01))
    for step in range(STEPS):
        optimizer.zero_grad()
        loss_of(model, data(step).to(dtype)).backward()
        optimizer.step()
    weights = dict(model.named_parameters())
    assert all(not weights[name][~mask].any() for name, mask in masks_of(model).items())
    assert sparsifier.finish().ok


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_autocast_sees_masked_weights(method: Method) -> None:
    model, sparsifier = started(method)
    sparsifier.attach(optimizer := sgd(model))
    for step in range(STEPS):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model, data(step))
        loss.backward()
        assert holds(model)
        optimizer.step()
    sparsifier.finish()
    check_masks(model)


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputing_activations_changes_no_bit(method: Method, reentrant: bool) -> None:
    plain, first = started(method)
    first.attach(optimizer := sgd(plain))
    loop(plain, optimizer, STEPS)
    model, second = started(method)
    second.attach(optimizer := sgd(model))
    for step in range(STEPS):
        optimizer.zero_grad()
        x = data(step).requires_grad_(True)
        y = checkpoint(model, x, use_reentrant=reentrant)
        (y - x[:, :8].sin()).square().mean().backward()
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_accumulated_gradients_are_those_of_the_whole_batch(method: Method) -> None:
    whole, first = started(method)
    first.attach(optimizer := sgd(whole))
    loop(whole, optimizer, STEPS)
    model, second = started(method)
    second.attach(optimizer := sgd(model))
    for step in range(STEPS):
        optimizer.zero_grad(set_to_none=step % 2 == 0)
        for part in data(step).split(5):
            (loss_of(model, part) / 2).backward()
        optimizer.step()
    assert all(np.array_equal(mask, masks_of(model)[name]) for name, mask in masks_of(whole).items())
    for a, b in zip(whole.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
