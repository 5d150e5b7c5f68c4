"""lora_ and merges: the trained weight is the merged one, the pattern holds exactly, and invalid arguments are refused."""

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tilewright.errors import ArgumentError, CheckFailed, TargetError
from tilewright.patterns import as_matrix, verify_mask
from tilewright.pruning import masks_of, patterns_of, prunable, remove_masks_, sparsify_
from tilewright.training import (
    RecoverOptions,
    TrainOptions,
    check_masks,
    lora_,
    merge_into_mask_,
    merge_lora_,
    recover_,
    train_,
)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8))


def convolutions() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2, padding_mode="circular", padding=1)
    )


def gpt() -> Any:
    from transformers import GPT2Config, GPT2Model

    torch.manual_seed(0)
    return GPT2Model(GPT2Config(vocab_size=20, n_positions=8, n_embd=16, n_layer=2, n_head=2)).eval()


CASES = {
    "linear": (network, lambda: torch.randn(5, 12)),
    "conv": (convolutions, lambda: torch.randn(2, 4, 5, 5)),
    "Conv1D": (gpt, lambda: torch.randint(0, 20, (2, 6))),
}


def stir(model: nn.Module, seed: int = 1) -> None:
    """Give every adapter non-zero values, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("lora_A", "lora_B")):
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))


def out(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        result = model(x)
    return result if isinstance(result, torch.Tensor) else result.last_hidden_state


def obeyed(model: nn.Module) -> bool:
    """Return whether non-zero elements lie inside masks that obey their patterns, and for n:m also obey the patterns themselves."""
    patterns = patterns_of(model)
    weights = {weight.name: weight for weight in prunable(model)}
    for name, mask in masks_of(model).items():
        kept = weights[name].tensor.detach() != 0
        seen = mask if not patterns[name].fixed else kept
        if bool((kept & ~mask).any()) or not verify_mask(
            patterns[name], as_matrix(seen.numpy(), weights[name].layout), check_density=False
        ):
            return False
    return True


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("case", CASES)
def test_merging_changes_neither_result_nor_pattern_nor_masks(case: str, dtype: torch.dtype) -> None:
    make, sample = CASES[case]
    model = make()
    sparsify_(model, "2:4")
    model = model.to(dtype)
    x = sample()
    x = x.to(dtype) if x.is_floating_point() else x
    before = out(model, x)
    kinds = [type(module) for module in model.modules()]
    frozen = next(model.parameters()).requires_grad_(False)
    lora_(model, rank=2)
    assert torch.equal(out(model, x), before)  # B is zero
    stir(model)
    masks = {name: mask.clone() for name, mask in masks_of(model).items()}
    patterns = patterns_of(model)
    adapted = out(model, x)
    assert not torch.equal(adapted, before)
    report = merge_lora_(model)
    torch.testing.assert_close(out(model, x), adapted)
    assert obeyed(model)
    check_masks(model)
    assert patterns_of(model) == patterns
    assert all(torch.equal(mask, masks[name]) for name, mask in masks_of(model).items())
    assert [row["name"] for row in report.rows] == list(masks)
    assert all(row["change"] > 0 for row in report.rows)
    assert [type(module) for module in model.modules()] == kinds
    assert not [name for name in model.state_dict() if "lora" in name]
    assert not frozen.requires_grad
    assert all(parameter.requires_grad for parameter in list(model.parameters())[1:])
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}


@settings(max_examples=25, deadline=None)
@given(
    outputs=st.integers(1, 9),
    blocks=st.integers(1, 5),
    rank=st.integers(1, 4),
    alpha=st.floats(-8, 8),
    pattern=st.sampled_from(["1:4", "2:4", "3:4", "any@60%", "block2x2@50%"]),
)
def test_the_merged_weight_is_the_masked_sum(outputs: int, blocks: int, rank: int, alpha: float, pattern: str) -> None:
    layer = nn.Linear(4 * blocks, 2 * outputs)
    sparsify_(layer, pattern)
    rank = min(rank, 4 * blocks, 2 * outputs)
    lora_(layer, rank, alpha=alpha)
    stir(layer, seed=rank)
    product = (layer.lora_B.double() @ layer.lora_A.double()).detach()
    expected = (layer.weight.detach().double() + alpha / rank * product) * layer.weight_mask
    merge_lora_(layer)
    torch.testing.assert_close(layer.weight.detach().double(), expected, rtol=1e-5, atol=1e-6)
    assert obeyed(layer)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_the_effective_weight(case: str) -> None:
    make, sample = CASES[case]
    model = make().double()
    sparsify_(model, "2:4")
    lora_(model, rank=2, alpha=3.0)
    stir(model)
    x = sample()
    x = x.double() if x.is_floating_point() else x
    result = model(x)
    (result if isinstance(result, torch.Tensor) else result.last_hidden_state).square().sum().backward()
    name, b = next((n, p) for n, p in model.named_parameters() if n.endswith("lora_B"))
    step, values = 1e-6, []
    for sign in (1, -1):
        with torch.no_grad():
            b[0, 1] += sign * step
            values.append(float(out(model, x).square().sum()))
            b[0, 1] -= sign * step
    assert b.grad[0, 1] == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4, abs=1e-6), name


def test_training_moves_the_adapters_alone_and_helps() -> None:
    model, goal = network(), network()
    sparsify_(model, "1:4")
    lora_(model, rank=4)
    before = copy.deepcopy(model.state_dict())
    batches = [torch.randn(32, 12, generator=torch.Generator().manual_seed(i)) for i in range(80)]
    with torch.no_grad():
        targets = {id(batch): goal(batch) for batch in batches}

    def loss(network: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return (network(batch) - targets[id(batch)]).square().mean()

    result = train_(model, batches, loss, options=TrainOptions(steps=80, learning_rate=1e-2))
    assert sum(result.losses[-10:]) < 0.8 * sum(result.losses[:10])
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"0.lora_A", "0.lora_B", "2.lora_A", "2.lora_B"}
    last = [float(loss(model, batch).detach()) for batch in batches[-3:]]
    merge_lora_(model)
    assert [float(loss(model, batch).detach()) for batch in batches[-3:]] == pytest.approx(last, rel=1e-5)
    check_masks(model)


def test_recovery_and_bfloat16_autocast_work_with_adapters() -> None:
    teacher = network()
    student = copy.deepcopy(teacher)
    sparsify_(student, "2:4")
    lora_(student, rank=4)
    batches = [torch.randn(32, 12, generator=torch.Generator().manual_seed(i)) for i in range(60)]
    options = RecoverOptions(steps=60, hidden=0, learning_rate=1e-2, precision="bfloat16", output_loss="mse")
    result = recover_(student, teacher, batches, options=options)
    assert sum(result.losses[-10:]) < sum(result.losses[:10])
    x = torch.randn(9, 12)
    with torch.autocast("cpu", torch.bfloat16):
        before = out(student, x)
    merge_lora_(student)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(out(student, x), before)


@pytest.mark.parametrize("case", CASES)
def test_adapters_travel_in_the_state_dict_and_models_can_be_copied(case: str) -> None:
    make, sample = CASES[case]
    model, other = make(), make()
    for network in (model, other):
        sparsify_(network, "2:4")
        lora_(network, rank=2, seed=3)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())
    stir(model)
    x = sample()
    adapters = {name: value for name, value in model.state_dict().items() if "lora_" in name}
    missing, unexpected = other.load_state_dict(adapters, strict=False)
    assert missing
    assert not unexpected
    copied, pickled = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    for network in (other, copied, pickled):
        assert torch.equal(out(network, x), out(model, x))
        merge_lora_(network)
        torch.testing.assert_close(out(network, x), out(model, x))
    assert [name for name in model.state_dict() if "lora_" in name], "merging a copy must leave the model alone"


def test_targets_and_reasons() -> None:
    model = nn.ModuleDict({"a": nn.Linear(8, 8), "b": nn.Linear(8, 8), "lstm": nn.LSTM(8, 8), "dense": nn.Linear(8, 8)})
    model["mha"] = nn.MultiheadAttention(8, 2)
    model["block"] = nn.TransformerEncoderLayer(8, 2, 16)
    sparsify_(model, "2:4", ignore=["dense"])
    report = lora_(model, 2, ignore=["b"])
    reasons = {row["name"]: row["reason"] for row in report.rows}
    ranks = {row["name"]: row["rank"] for row in report.rows}
    assert ranks["a.weight"] == 2
    assert reasons["b.weight"] == "ignored by 'b'"
    assert "LSTM reads the weight directly, bypassing any adapter" in reasons["lstm.weight_ih_l0"]
    assert "NonDynamicallyQuantizableLinear" in reasons["mha.out_proj.weight"]
    assert "MultiheadAttention" in reasons["mha.in_proj_weight"]
    assert "TransformerEncoderLayer" in reasons["block.linear1.weight"]
    assert "dense.weight" not in reasons
    assert report.summary["adapters"] == 1
    assert report.summary["trained parameters"] == 32
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 32
    with pytest.raises(TargetError, match="already has an adapter"):
        lora_(model, 2, targets=["a"])
    lora_(model, 2, targets=["b"])
    merge_lora_(model)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_what_cannot_be_adapted_is_refused() -> None:
    model = network()
    with pytest.raises(TargetError, match="no masks"):
        lora_(model)
    sparsify_(model, "2:4")
    with pytest.raises(
        ArgumentError, match=r"rank must be at most the smaller dimension of 2.weight, \[8, 16\]; got 9"
    ):
        lora_(model, 9)
    with pytest.raises(ArgumentError, match="rank must be at least 1"):
        lora_(model, 0)
    with pytest.raises(TargetError, match="'nothing' matches nothing"):
        lora_(model, 2, targets=["nothing"])
    assert all(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(ArgumentError, match="no adapter to merge"):
        merge_lora_(model)


def broken_mask(model: nn.Module) -> None:
    model[2].weight_mask[0, :4] = True


def infinite(model: nn.Module) -> None:
    with torch.no_grad():
        model[2].lora_B[1, 1] = float("inf")


def regrown(model: nn.Module) -> None:
    with torch.no_grad():
        model[2].weight.fill_(1.0)


def leaking(model: nn.Module) -> None:
    model[2].effective = lambda: torch.ones(8, 16)


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (broken_mask, r"mask of 2\.weight does not obey"),
        (infinite, "2.weight would not be finite after the merge"),
        (regrown, "2.weight has 64 pruned elements"),
        (leaking, r"after the merge, 2\.weight would have 64 non-zero elements outside its mask, breaking 2:4"),
    ],
)
def test_a_merge_that_would_break_the_pattern_stops_and_changes_nothing(breaks: Any, message: str) -> None:
    model = network()
    sparsify_(model, "2:4")
    lora_(model, 2)
    stir(model)
    breaks(model)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CheckFailed, match=message):
        merge_lora_(model)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("case", CASES)
def test_adapters_of_others_are_merged_and_what_is_dropped_is_counted(case: str) -> None:
    model = CASES[case][0]()
    sparsify_(model, "2:4")
    before = copy.deepcopy(model.state_dict())
    weights = {weight.name: weight for weight in prunable(model)}
    generator = torch.Generator().manual_seed(4)
    adapters = {}
    for weight in weights.values():
        N, K = weight.matrix_shape
        adapters[weight.module_name] = (
            torch.randn(2, K, generator=generator),
            torch.randn(N, 2, generator=generator),
        )
    report = merge_into_mask_(model, adapters, scale=0.5)
    assert obeyed(model)
    check_masks(model)
    for row in report.rows:
        weight = weights[row["name"]]
        A, B = adapters[weight.module_name]
        product = 0.5 * B @ A
        product = product.T if weight.layout == "transposed" else product.view(weight.tensor.shape)
        mask = masks_of(model)[weight.name]
        torch.testing.assert_close(weight.tensor.detach(), before[weight.name] + product * mask)
        assert row["norm"] == pytest.approx(float(product.norm()), rel=1e-5)
        assert row["dropped"] == pytest.approx(float((product * ~mask).norm()), rel=1e-5)
        assert 0.5 < row["share"] < 0.9
    assert report.summary["merged"] == len(weights)


def test_adapters_that_do_not_fit_are_refused_and_nothing_changes() -> None:
    model = network()
    sparsify_(model, "2:4", targets=["0"])
    before = copy.deepcopy(model.state_dict())
    good = (torch.ones(2, 12), torch.ones(16, 2))
    with pytest.raises(TargetError, match="adapters has an entry '1'"):
        merge_into_mask_(model, {"0": good, "1": good})
    with pytest.raises(ArgumentError, match=r"A must be \[rank, 16\] and B \[8, rank\]; got A \[2, 12\]"):
        merge_into_mask_(model, {"0": good, "2": good})
    with pytest.raises(ArgumentError, match="scale has no entry for 0"):
        merge_into_mask_(model, {"0": good}, scale={"2": 1.0})
    with pytest.raises(CheckFailed, match=r"2.weight would not be finite"):
        merge_into_mask_(model, {"0": good, "2": (torch.full((1, 16), torch.inf), torch.ones(8, 1))})
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    report = merge_into_mask_(model, {"0": good, "2.weight": (torch.ones(1, 16), torch.ones(8, 1))})
    assert [(row["pattern"], row["share"] > 0) for row in report.rows] == [("2:4", True), ("dense", False)]
    torch.testing.assert_close(model[2].weight.detach(), before["2.weight"] + 1)


def test_adapters_of_peft_can_be_merged() -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    model = network()
    convolution = nn.Conv2d(4, 8, 3)
    sparsify_(model, "2:4")
    sparsify_(convolution, "2:4")
    whole = nn.ModuleDict({"mlp": model, "conv": convolution})
    wrapped = peft.get_peft_model(
        copy.deepcopy(whole), peft.LoraConfig(r=2, lora_alpha=6, target_modules=["0", "conv"])
    )
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    state = peft.get_peft_model_state_dict(wrapped)
    start, end = "base_model.model.", ".lora_A.weight"
    names = [key[len(start) : -len(end)] for key in state if key.endswith(end)]
    adapters = {n: (state[f"{start}{n}.lora_A.weight"], state[f"{start}{n}.lora_B.weight"]) for n in names}
    merge_into_mask_(whole, adapters, scale=3.0)
    merged = wrapped.merge_and_unload()
    for name in ("mlp.0", "conv"):
        expected = merged.get_submodule(name)
        torch.testing.assert_close(whole.get_submodule(name).weight, expected.weight * expected.weight_mask)


def test_masks_removed_below_an_adapter_are_named() -> None:
    model = nn.Sequential(nn.Linear(8, 4))
    sparsify_(model, "2:4")
    lora_(model, rank=2)
    remove_masks_(model)
    with pytest.raises(CheckFailed, match=r"no longer a mask; call merge_lora_ before remove_masks_"):
        model(torch.zeros(1, 8))
