"""Sparsifier in a plain loop: each method against a few lines of arithmetic, and the usual variations of the loop."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from tilewright import mask as best_mask
from tilewright import parse
from tilewright.errors import ArgumentError, CheckFailed, TargetError
from tilewright.pruning import masks_of, patterns_of, sparsify_
from tilewright.training import SRSTE, FixedMask, Gradual, Sparsifier

STEPS = 12


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 8))


def data(step: int) -> torch.Tensor:
    return torch.randn(10, 12, generator=torch.Generator().manual_seed(step))


def loss_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return (model(x) - x[:, :8].sin()).square().mean()


def loop(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = STEPS, first: int = 0) -> None:
    for step in range(first, first + steps):
        optimizer.zero_grad()
        loss_of(model, data(step)).backward()
        optimizer.step()


def sgd(model: nn.Module, **changes: float) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), **({"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-2} | changes))


def by_hand(model: nn.Sequential, decay: float, pattern: str = "2:4") -> tuple[list[torch.Tensor], int]:
    """SR-STE with SGD, momentum and weight decay, in functions of plain tensors; return the masked weights and mask changes."""
    chosen = parse(pattern)
    dense = {name: p.detach().clone() for name, p in model.named_parameters()}
    speed = {name: torch.zeros_like(p) for name, p in dense.items()}

    def masks() -> dict[str, torch.Tensor]:
        return {n: torch.from_numpy(best_mask(chosen, p.abs().numpy())) for n, p in dense.items() if p.ndim == 2}

    now, changes = masks(), 0
    for step in range(STEPS):
        seen = {n: (p * now[n] if n in now else p).clone().requires_grad_(True) for n, p in dense.items()}
        loss = loss_of(lambda x, p=seen: torch.func.functional_call(model, p, x), data(step))
        for name, gradient in zip(seen, torch.autograd.grad(loss, list(seen.values())), strict=True):
            if name in now:
                gradient = gradient + decay * dense[name] * ~now[name]
            gradient = gradient + 1e-2 * dense[name]
            speed[name] = gradient if step == 0 else 0.9 * speed[name] + gradient
            dense[name] = dense[name] - 0.1 * speed[name]
        new = masks()
        changes += sum(int((new[n] != now[n]).sum()) for n in now)
        now = new
    return [p * now[n] if n in now else p for n, p in dense.items()], changes


@pytest.mark.parametrize("decay", [0.0, 2e-2])
def test_srste_is_the_papers_update(decay: float) -> None:
    model = network()
    expected, changes = by_hand(network(), decay)
    sparsifier = Sparsifier(model, SRSTE("2:4", decay=decay)).attach(optimizer := sgd(model))
    loop(model, optimizer)
    for parameter, goal in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach(), goal, rtol=1e-5, atol=1e-6)
    assert sparsifier.changes == changes > 0
    report = sparsifier.finish()
    assert report.summary["sparsity of the pruned"] == 0.5
    assert patterns_of(model)["0.weight"] == parse("2:4")


def test_srste_shows_masked_weights_between_steps_and_brings_elements_back() -> None:
    model = network()
    Sparsifier(model, SRSTE("1:4")).attach(optimizer := sgd(model))
    seen = [masks_of(model)["0.weight"].clone()]
    for step in range(STEPS):
        loop(model, optimizer, 1, step)
        mask = masks_of(model)["0.weight"]
        assert np.array_equal(mask, model[0].weight.detach() != 0)
        seen.append(mask.clone())
    assert any(bool((later & ~earlier).any()) for earlier, later in itertools.pairwise(seen))


def test_gradual_falls_along_the_cubic_curve_and_never_lets_an_element_back() -> None:
    model = network()
    plan = Gradual("any@80%", begin=2, end=10, every=2)
    sparsifier = Sparsifier(model, plan, steps=STEPS).attach(optimizer := sgd(model))
    before = {name: mask.clone() for name, mask in masks_of(model).items()}
    reached = []
    for step in range(STEPS):
        loop(model, optimizer, 1, step)
        for name, mask in masks_of(model).items():
            assert not (mask & ~before[name]).any()
            before[name] = mask.clone()
        reached.append(sparsifier.report().summary["sparsity of the pruned"])
    expected = [0.8 - 0.8 * (1 - max(min(t // 2 * 2 - 2, 8), 0) / 8) ** 3 for t in range(1, STEPS + 1)]
    assert reached == pytest.approx(expected, abs=0.01)
    assert str(patterns_of(model)["2.weight"]) == "any@80%"


@pytest.mark.parametrize("ratio", [2, 4, 8, 16, 32])
def test_gradual_carries_banks_to_every_ratio(ratio: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(128, 8))
    optimizer = sgd(model)
    sparsifier = Sparsifier(model, Gradual(f"bank64@{ratio}x", end=6, every=2)).attach(optimizer)
    kept = []
    for _ in range(6):
        optimizer.zero_grad()
        model(torch.randn(4, 128)).square().mean().backward()
        optimizer.step()
        kept.append(int(masks_of(model)["0.weight"].view(8, 2, 64).sum(2).unique()))  # all banks keep the same count
    sparsifier.finish()
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] == 64 // ratio


def test_a_mask_that_keeps_everything_is_found_though_others_of_its_pattern_prune() -> None:
    model = network()
    sparsify_(model, "tw4@50%")
    sparsifier = Sparsifier(model, FixedMask()).attach(optimizer := sgd(model))
    model[0].weight_mask.fill_(True)
    loop(model, optimizer, 1)
    with pytest.raises(CheckFailed, match=r"the mask of 0\.weight keeps 192 elements, but the last cut left 96"):
        sparsifier.finish()


@pytest.mark.parametrize(
    "pattern", ["1:4", "bank64:16", "2:8x4", "block4x4@60%", "tw4@50%", "tew4@50%+5%", "tvw4@75%", "2:4t"]
)
@pytest.mark.parametrize("score", ["magnitude", "taylor"])
def test_gradual_reaches_every_pattern(pattern: str, score: str) -> None:
    torch.manual_seed(1)
    pattern = "4:64" if pattern.startswith("bank") else pattern
    model = nn.Sequential(nn.Linear(12, 64), nn.Tanh(), nn.Linear(64, 8))
    sparsifier = Sparsifier(model, Gradual(pattern, end=9, every=3, score=score, budget="global"), ignore=["0"])
    sparsifier.attach(optimizer := sgd(model))
    loop(model, optimizer)
    report = sparsifier.finish()
    assert [row["name"] for row in report.rows] == ["2.weight"]
    assert report.rows[0]["pattern"] == pattern
    assert report.rows[0]["density"] == pytest.approx(parse(pattern).density, abs=0.07)


def test_regrow_keeps_hidden_values_and_lets_elements_back() -> None:
    model = network()
    sparsifier = Sparsifier(model, Gradual("1:4", end=10, every=1, regrow=True)).attach(optimizer := sgd(model, lr=0.5))
    before, back = masks_of(model)["0.weight"].clone(), 0
    for step in range(STEPS):
        loop(model, optimizer, 1, step)
        now = masks_of(model)["0.weight"].clone()
        back += int((now & ~before).sum())
        before = now
    assert back > 0
    assert sparsifier.finish().summary["sparsity of the pruned"] == 0.75


def test_taylor_sums_are_those_of_the_gradients() -> None:
    model, twin = network(), network()
    Sparsifier(model, Gradual("any@50%", end=3, every=3, score="taylor", scoring_steps=2), ignore=["2"]).attach(
        optimizer := sgd(model)
    )
    plain, sums = sgd(twin), torch.zeros_like(twin[0].weight)
    for step in range(3):
        plain.zero_grad()
        loss_of(twin, data(step)).backward()
        if step >= 1:
            sums += (twin[0].weight.detach() * twin[0].weight.grad).square()
        plain.step()
    loop(model, optimizer, 3)
    assert np.array_equal(masks_of(model)["0.weight"], best_mask(parse("any@50%"), sums.sqrt().numpy()))


def test_fixed_masks_keep_pruned_elements_out_of_moments() -> None:
    model = network()
    sparsify_(model, "2:4")
    masks = {name: mask.clone() for name, mask in masks_of(model).items()}
    sparsifier = Sparsifier(model, FixedMask()).attach(optimizer := sgd(model))
    loop(model, optimizer)
    for name, mask in masks.items():
        parameter = dict(model.named_parameters())[name]
        assert torch.equal(parameter != 0, mask)
        assert not optimizer.state[parameter]["momentum_buffer"][~mask].any()
    assert sparsifier.finish().ok


@pytest.mark.parametrize(
    "method", [Gradual("1:4", end=9, every=3), Gradual("tw4@60%", end=9, every=3, score="taylor"), SRSTE("2:4")]
)
def test_state_goes_on_to_the_same_bits(method) -> None:
    whole = network()
    reference = Sparsifier(whole, method).attach(optimizer := sgd(whole))
    loop(whole, optimizer)
    first = network()
    early = Sparsifier(first, method).attach(optimizer := sgd(first))
    loop(first, optimizer, 5)
    state = copy.deepcopy((first.state_dict(), optimizer.state_dict(), early.state_dict()))
    loop(first, optimizer, 2, 5)  # must not modify the saved state
    again = network(seed=9)
    late = Sparsifier(again, method)
    optimizer = sgd(again)
    again.load_state_dict(state[0])
    optimizer.load_state_dict(state[1])
    late.load_state_dict(state[2])
    late.attach(optimizer)
    loop(again, optimizer, STEPS - 5, 5)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert (late.changes, late.step) == (reference.changes, reference.step)
    late.finish()


def test_wrong_use_is_refused() -> None:
    model = network()
    with pytest.raises(ArgumentError, match="the model has no masks to hold; call sparsify_ on it first"):
        Sparsifier(model, FixedMask())
    with pytest.raises(
        ArgumentError, match="Gradual changes masks until step 9, but training ends after 5 steps; train longer"
    ):
        Sparsifier(model, Gradual("2:4", end=9, every=3), steps=5)
    with pytest.raises(TargetError, match="targets 'head' matches nothing in Sequential"):
        Sparsifier(model, SRSTE("2:4"), targets=["head"])
    with pytest.raises(ArgumentError, match=r"end of Gradual must be a step after begin, which is 5; got 5"):
        Gradual("2:4", begin=5, end=5, every=1)
    sparsifier = Sparsifier(model, Gradual("2:4", end=9, every=3))
    with pytest.raises(
        ArgumentError,
        match=r"the optimizer does not have 2\.weight; create the optimizer from the model's current parameters",
    ):
        sparsifier.attach(torch.optim.SGD(model[0].parameters(), lr=0.1))
    sparsifier.attach(optimizer := sgd(model))
    with pytest.raises(ArgumentError, match="already attached to an optimizer"):
        sparsifier.attach(optimizer)
    loop(model, optimizer, 3)
    with pytest.raises(CheckFailed, match="training stopped after 3 steps, but Gradual reaches its pattern after 9"):
        sparsifier.finish()


def test_weights_loaded_behind_its_back_are_not_overwritten() -> None:
    model = network()
    other = {name: value + 1 for name, value in model.state_dict().items()}
    sparsifier = Sparsifier(model, SRSTE("2:4")).attach(optimizer := sgd(model))
    kept = copy.deepcopy(model.state_dict())
    loop(model, optimizer, 1)
    ema = copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    model.load_state_dict(ema)  # swapped in and out again, as with averages: nothing is lost
    loop(model, optimizer, 1)
    model.load_state_dict(other, strict=False)
    with pytest.raises(CheckFailed, match=r"0\.weight was changed since the last step"):
        loop(model, optimizer, 1)
    assert sparsifier.step == 2


def test_a_mask_of_an_earlier_cut_is_not_the_end() -> None:
    model = network()
    sparsifier = Sparsifier(model, Gradual("any@80%", end=6, every=2)).attach(optimizer := sgd(model))
    loop(model, optimizer, 2)
    best = copy.deepcopy(model.state_dict())
    loop(model, optimizer, 6)
    last = copy.deepcopy(model.state_dict())
    model.load_state_dict(best)
    with pytest.raises(CheckFailed, match=r"the mask of 0\.weight keeps \d+ elements, but the last cut left"):
        sparsifier.finish()
    model.load_state_dict(last)
    assert abs(sparsifier.finish().summary["sparsity of the pruned"] - 0.8) < 0.02


def test_masks_that_change_at_different_steps_keep_their_hidden_values() -> None:
    """The patterns step to their next n at different cuts, so that only some masks are recomputed."""

    class Late(SRSTE):
        def at(self, step: int, final):
            return final if final.n == 2 or step % 3 == 0 else None

    model = network()
    sparsifier = Sparsifier(model, Late("2:4"), targets={"0": "2:4", "2": "1:4"}).attach(optimizer := sgd(model))
    loop(model, optimizer, 4)
    for name, dense in sparsifier.state_dict()["dense"].items():
        assert bool((dense != 0).all()), name
        assert torch.equal(dict(model.named_parameters())[name].detach(), dense * masks_of(model)[name])


def test_a_closure_sees_masked_weights_however_often_it_is_called() -> None:
    model, twin = network(), network()
    Sparsifier(model, SRSTE("2:4")).attach(optimizer := sgd(model))
    Sparsifier(twin, SRSTE("2:4")).attach(plain := sgd(twin))
    loop(twin, plain)
    for step in range(STEPS):

        def closure(step: int = step) -> torch.Tensor:
            optimizer.zero_grad()
            assert int(model[0].weight.count_nonzero()) == model[0].weight.numel() // 2
            loss = loss_of(model, data(step))
            loss.backward()
            return loss

        optimizer.step(closure)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    model = network()
    sparsifier = Sparsifier(model, SRSTE("2:4"))
    sparsifier.attach(many := torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4))
    calls = []

    def counted() -> torch.Tensor:
        calls.append(int(model[0].weight.count_nonzero()))
        many.zero_grad()
        loss = loss_of(model, data(0))
        loss.backward()
        return loss

    many.step(counted)
    assert len(calls) > 1
    assert set(calls) == {model[0].weight.numel() // 2}


def test_kept_elements_that_happen_to_be_zero_rank_before_pruned_ones() -> None:
    model = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.1, 0.5, 0.6, 0.7], [0.5, 0.1, 0.6, 0.7]]))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    Sparsifier(model, Gradual("2:4", end=8, every=2, initial=0.25)).attach(optimizer)
    assert masks_of(model)["weight"].tolist() == [[False, True, True, True], [True, False, True, True]]
    with torch.no_grad():
        model.weight[:, 1:3] = 0
    for _ in range(8):
        optimizer.zero_grad()
        model(torch.ones(1, 4)).sum().backward()
        optimizer.step()
    assert masks_of(model)["weight"].tolist() == [[False, True, False, True], [True, False, False, True]]
