"""Masks hold through optimizers, copies, pickles, wrappers and state dicts."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn

from tilewright.errors import FormatError, PatternError
from tilewright.pruning import apply_masks_, load_masked_, masks_of, patterns_of, remove_masks_, sparsify_
from tilewright.pruning.masks import masked

from .models import Tied, Zoo, mlp

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "sgd foreach": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, foreach=True),
    "sgd fused": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1, fused=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
    "adamw foreach": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1, foreach=True),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1),
}


def assert_zeros(model: nn.Module, names: set[str] | None = None) -> None:
    masked_weights = {name: (parameter, mask) for name, parameter, mask in masked(model)}
    assert set(masked_weights) == (names or {"0.weight", "2.weight"})
    for name, (parameter, mask) in masked_weights.items():
        assert not parameter[~mask].any(), name
        assert parameter[mask].all(), name  # nothing else is zero


def pruned() -> nn.Sequential:
    model = mlp()
    sparsify_(model, "2:4")
    return model


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3, accumulate: int = 1) -> None:
    generator = torch.Generator().manual_seed(6)
    for _ in range(steps):
        for _ in range(accumulate):
            x = torch.randn(5, 8, generator=generator)
            model(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_zeros_hold_right_after_every_step(kind: str) -> None:
    model = pruned()
    before = model[0].weight.detach().clone()
    optimizer = OPTIMIZERS[kind](model.parameters())
    for _ in range(3):
        train(model, optimizer, steps=1)
        assert_zeros(model)
    assert not torch.equal(model[0].weight, before)


def test_optimizer_made_before_pruning_and_its_momentum() -> None:
    model = mlp()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    train(model, optimizer)
    sparsify_(model, "2:4")
    train(model, optimizer)
    assert_zeros(model)


def test_accumulation_autocast_and_scaler() -> None:
    model = pruned()
    train(model, OPTIMIZERS["adamw"](model.parameters()), accumulate=3)
    assert_zeros(model)
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        train(model, optimizer)
    assert_zeros(model)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(model(torch.randn(5, 8)).square().mean()).backward()
    scaler.step(optimizer)
    assert_zeros(model)


def test_closure_optimizer() -> None:
    model = pruned()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1)
    x = torch.randn(5, 8)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert_zeros(model)


def test_infinite_and_negative_elements_become_plain_zero() -> None:
    model = pruned()
    hole = tuple(int(i) for i in (~model[0].weight_mask).nonzero()[0])
    for value in (float("inf"), float("nan"), -1.0):
        with torch.no_grad():
            model[0].weight[hole] = value
        apply_masks_(model)
        assert model[0].weight[hole] == 0
        assert not torch.signbit(model[0].weight[hole])


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "averaged"])
def test_copies_are_held_too_and_apart_from_the_original(how: str) -> None:
    model = pruned()
    match how:
        case "deepcopy":
            twin: nn.Module = copy.deepcopy(model)
        case "pickle":
            twin = pickle.loads(pickle.dumps(model))
        case _:
            twin = torch.optim.swa_utils.AveragedModel(model).module
    assert patterns_of(twin) == patterns_of(model)
    with torch.no_grad():
        twin[2].weight_mask[0] = False  # its own mask, not the original's
    apply_masks_(twin)
    train(twin, OPTIMIZERS["sgd"](twin.parameters()))
    assert not twin[2].weight[0].any()
    assert not any(parameter[~mask].any() for _, parameter, mask in masked(twin))
    train(model, OPTIMIZERS["sgd"](model.parameters()))
    assert_zeros(model)


def test_copy_is_held_when_the_original_is_gone_and_nothing_leaks() -> None:
    model = pruned()
    twin = copy.deepcopy(model)
    gone = weakref.ref(model[0])
    gc.disable()
    try:
        del model
        assert gone() is None  # at once: masks create no reference cycle that needs the garbage collector
    finally:
        gc.enable()
    train(twin, OPTIMIZERS["adamw"](twin.parameters()))
    assert_zeros(twin)


def test_another_models_optimizer_does_not_touch_it() -> None:
    model, other = pruned(), pruned()
    hole = tuple(int(i) for i in (~model[0].weight_mask).nonzero()[0])
    with torch.no_grad():
        model[0].weight[hole] = 5
    train(other, OPTIMIZERS["sgd"](other.parameters()))
    assert model[0].weight[hole] == 5


def test_replaced_parameter_and_changed_type_are_followed() -> None:
    model = pruned()
    model[0].weight = nn.Parameter(torch.randn(16, 8))
    model.double()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    model(torch.randn(5, 8, dtype=torch.float64)).square().mean().backward()
    optimizer.step()
    assert_zeros(model)
    assert model[0].weight_mask.dtype == torch.bool


def test_distributed_wrapper(tmp_path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(pruned())
        train(model, OPTIMIZERS["adamw"](model.parameters()))
        assert_zeros(model, {"module.0.weight", "module.2.weight"})
    finally:
        torch.distributed.destroy_process_group()


def test_recurrent_and_attention_weights_hold() -> None:
    zoo = Zoo()
    sparsify_(zoo, "2:4")
    x = torch.randn(3, 2, 8)
    out = zoo.lstm(x)[0].sum() + zoo.attention(x, x, x)[0].sum() + zoo.gpt(x).sum() + zoo.cell(x[0]).sum()
    optimizer = OPTIMIZERS["adamw"](zoo.parameters())
    out.backward()
    optimizer.step()
    for name, parameter, mask in masked(zoo):
        assert not parameter[~mask].any(), name


def test_state_dict_round_trip_masked_to_masked() -> None:
    model = pruned()
    train(model, OPTIMIZERS["adamw"](model.parameters()))
    fresh = mlp()
    sparsify_(fresh, "2:4", targets=["Linear"])
    with torch.no_grad():
        for mask in masks_of(fresh).values():
            mask.fill_(False)
    fresh.load_state_dict(model.state_dict())
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in model.state_dict().items())
    train(fresh, OPTIMIZERS["adamw"](fresh.parameters()))
    assert_zeros(fresh)


@pytest.mark.parametrize("as_text", [True, False])
def test_state_dict_round_trip_into_a_fresh_model(as_text: bool) -> None:
    model = pruned()
    fresh = mlp()
    load_masked_(fresh, model.state_dict(), "2:4" if as_text else patterns_of(model))
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in model.state_dict().items())
    assert patterns_of(fresh) == patterns_of(model)
    train(fresh, OPTIMIZERS["sgd"](fresh.parameters()))
    assert_zeros(fresh)
    assert not torch.equal(fresh[0].weight_mask, ~model[0].weight_mask)
    assert fresh[0].weight_mask.data_ptr() != model[0].weight_mask.data_ptr()


def test_load_masked_refuses_what_does_not_fit_and_changes_nothing() -> None:
    state = pruned().state_dict()
    wrong = {
        (
            FormatError,
            r"the mask of 0\.weight must be bool of shape \[16, 8\]; got torch\.float32 of shape \[16, 8\]",
        ): state | {"0.weight_mask": state["0.weight_mask"].float()},
        (FormatError, r"must be bool of shape \[16, 8\]; got torch.bool of shape \[8\]"): state
        | {"0.weight_mask": state["0.weight_mask"][0]},
        (FormatError, "has a mask for 7.weight, but the model has no prunable weight of that name"): state
        | {"7.weight": state["0.weight"], "7.weight_mask": state["0.weight_mask"]},
        (PatternError, r"the mask of 0\.weight does not obey 2:4: output 0 keeps 4"): state
        | {"0.weight_mask": torch.ones(16, 8, dtype=torch.bool)},
    }
    for (error, message), content in wrong.items():
        fresh = mlp()
        with pytest.raises(error, match=message):
            load_masked_(fresh, content, "2:4")
        assert fresh.state_dict().keys() == mlp().state_dict().keys()
        assert torch.equal(fresh[0].weight, mlp()[0].weight)
    with pytest.raises(PatternError, match=r"no pattern given for 2\.weight"):
        load_masked_(mlp(), state, {"0.weight": "2:4"})


def test_state_dict_of_a_module_with_two_names() -> None:
    model, fresh = Tied(), Tied()
    sparsify_(model, "2:4")
    assert {"once.weight_mask", "again.weight_mask"} <= model.state_dict().keys()
    load_masked_(fresh, model.state_dict(), "2:4")
    assert masks_of(fresh).keys() == {"once.weight"}
    assert torch.equal(fresh.again.weight, model.once.weight)


def test_removing_masks_makes_zeros_ordinary() -> None:
    model = pruned()
    zeros = model[0].weight.detach() == 0
    remove_masks_(model)
    assert model.state_dict().keys() == mlp().state_dict().keys()
    assert not masks_of(model)
    assert not patterns_of(model)
    assert torch.equal(model[0].weight == 0, zeros)
    train(model, OPTIMIZERS["adamw"](model.parameters()))
    assert model[0].weight[zeros].any()
    sparsify_(model, "1:4")
    train(model, OPTIMIZERS["adamw"](model.parameters()))
    assert_zeros(model)
