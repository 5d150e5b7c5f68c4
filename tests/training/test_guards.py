"""Guards: anything that breaks a pruned model stops the run with the name of the layer."""

import pytest
import torch
from torch import nn

from tilewright.errors import ArgumentError, CheckFailed
from tilewright.pruning import masks_of, patterns_of, remove_masks_, sparsify_
from tilewright.training import (
    Checkpoint,
    FixedMask,
    Sparsifier,
    TrainOptions,
    check_masks,
    check_patterns,
    keeping_patterns,
    train_,
)

from .test_sparsifier import data, loop, loss_of, network, sgd


def pruned(pattern: str = "2:4") -> nn.Sequential:
    model = network()
    sparsify_(model, pattern, budget="global")
    return model


class Data:
    def __getitem__(self, step: int) -> torch.Tensor:
        return data(step)


@pytest.mark.parametrize("pattern", ["2:4", "tw4@50%", "any@60%", "block4x4@50%", "tvw4@75%"])
def test_a_weight_that_grew_back_is_named(pattern: str) -> None:
    model = pruned(pattern)
    check_masks(model)
    with torch.no_grad():
        model[2].weight[~model[2].weight_mask] = 1e-20
    count = int((~model[2].weight_mask).sum())
    with pytest.raises(
        CheckFailed, match=rf"2\.weight has {count} pruned elements that are not zero; something else writes to it"
    ):
        check_masks(model)


def test_a_mask_that_keeps_everything_is_named() -> None:
    model = pruned("2:4")
    model[0].weight_mask.fill_(True)
    with pytest.raises(
        CheckFailed, match=r"0\.weight keeps everything: its mask prunes nothing, although its pattern is 2:4"
    ):
        check_masks(model)
    model = pruned("any@60%")
    model[0].weight_mask.fill_(True)
    check_masks(model)  # under a shared budget one layer may keep everything
    model[2].weight_mask.fill_(True)
    with pytest.raises(CheckFailed, match=r"0\.weight keeps everything, as does every weight with the pattern any@60%"):
        check_masks(model)


def test_a_mask_that_breaks_its_pattern_is_named() -> None:
    model = pruned("2:4")
    model[2].weight_mask[3, :4] = True
    with pytest.raises(
        CheckFailed, match=r"the mask of 2\.weight does not obey the pattern 2:4: output 3 keeps 4 of the inputs 0 to 3"
    ):
        check_masks(model)


def test_a_run_stops_at_the_next_checkpoint(tmp_path) -> None:
    model, steps = pruned(), []

    def meddle(step: int, *rest: object) -> None:
        steps.append(step)
        if step == 4:  # a write with no optimizer step before the next check
            model[0].weight_mask.fill_(True)

    with pytest.raises(CheckFailed, match=r"0\.weight keeps everything"):
        train_(
            model,
            Data(),
            loss_of,
            options=TrainOptions(steps=20),
            method=FixedMask(),
            checkpoint=Checkpoint(tmp_path / "state", every=3),
            progress=meddle,
        )
    assert steps[-1] == 5


def test_an_optimizer_that_runs_no_hooks_is_found() -> None:
    model = pruned()
    sparsifier = Sparsifier(model, FixedMask()).attach(optimizer := sgd(model))
    loop(model, optimizer, 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.01 * torch.ones_like(parameter)
    with pytest.raises(CheckFailed, match=r"0\.weight has 96 pruned elements that are not zero"):
        sparsifier.finish()


def test_merges_casts_and_exports_are_checked_by_what_is_not_zero() -> None:
    model = pruned()
    patterns, masks = patterns_of(model), masks_of(model)
    tensors = {name: p.detach().clone() for name, p in model.named_parameters()}
    check_patterns(model, patterns, after="nothing")
    check_patterns({n: t.half() for n, t in tensors.items()}, patterns, after="the cast", masks=masks)
    low_rank = torch.randn(16, 1) @ torch.randn(1, 12)
    with pytest.raises(CheckFailed, match=r"after merging, 0\.weight does not obey the pattern 2:4: output 0 keeps 4"):
        check_patterns(tensors | {"0.weight": tensors["0.weight"] + low_rank}, patterns, after="merging")
    check_patterns(
        tensors | {"0.weight": tensors["0.weight"] + low_rank * masks["0.weight"]},
        patterns,
        after="merging",
        masks=masks,
    )
    zero_point = {n: (t * 100).round().to(torch.int8) + 3 for n, t in tensors.items()}
    with pytest.raises(
        CheckFailed, match=r"after the cast to int8, 0\.weight has \d+ pruned elements that are not zero"
    ):
        check_patterns(zero_point, patterns, after="the cast to int8", masks=masks)
    with pytest.raises(CheckFailed, match=r"after the export, the weight 0\.weight with pattern 2:4 is missing"):
        check_patterns({}, patterns, after="the export")
    with pytest.raises(
        CheckFailed, match=r"after the export, 0\.weight has shape \[12, 16\], but its mask has shape \[16, 12\]"
    ):
        check_patterns({n: tensors[n].T for n in patterns}, patterns, after="the export", masks=masks)


@pytest.mark.parametrize("pattern", ["2:4", "tw4@50%"])
def test_what_a_block_does_to_a_model_is_checked_at_its_end(pattern: str) -> None:
    model = pruned(pattern)
    with keeping_patterns(model, after="the cast"):
        model.half()

    def shift() -> None:
        with keeping_patterns(model, after="the shift"), torch.no_grad():
            remove_masks_(model)
            model.get_parameter("0.weight").add_(1)

    with pytest.raises(CheckFailed, match=r"after the shift, 0\.weight has \d+ pruned elements that are not zero"):
        shift()


@pytest.mark.parametrize("activations", [False, True])
def test_torchao_keeps_patterns_in_int8_and_a_zero_point_would_be_found(activations: bool) -> None:
    torchao = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    model = pruned("2:4")
    before = {name: model.get_parameter(name).detach().clone() for name in masks_of(model)}
    config = torchao.Int8DynamicActivationInt8WeightConfig() if activations else torchao.Int8WeightOnlyConfig()
    with keeping_patterns(model, after="quantizing"):
        torchao.quantize_(model, config)
    for name, values in before.items():
        weight = model.get_parameter(name)
        assert type(weight).__name__ == "Int8Tensor"
        step = values.abs().amax(1, keepdim=True) / 127
        assert bool(((weight.dequantize() - values).abs() <= 0.51 * step).all())
    with (
        pytest.raises(CheckFailed, match=r"after the shift, 0\.weight has 96 pruned elements that are not zero"),
        keeping_patterns(model, after="the shift"),
    ):
        model.get_parameter("0.weight").qdata.add_(1)


def test_patterns_that_a_weight_alone_does_not_tell_need_masks() -> None:
    model = pruned("tw4@50%")
    patterns, masks = patterns_of(model), {name: mask.clone() for name, mask in masks_of(model).items()}
    with pytest.raises(
        ArgumentError, match=r"cannot check the pattern tw4@50% of 0\.weight without its mask; pass masks="
    ):
        check_patterns(model, patterns, after="merging")
    check_patterns(model, patterns, after="merging", masks=masks)
    with torch.no_grad():
        model[2].weight += 1.0
    with pytest.raises(CheckFailed, match=r"after merging, 2\.weight has \d+ pruned elements that are not zero"):
        check_patterns(model, patterns, after="merging", masks=masks)
