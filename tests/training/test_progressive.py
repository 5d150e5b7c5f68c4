"""distill_progressively_: what the composite runs, what learns in it, and that a resumed run ends with the same bits."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tilewright.errors import ArgumentError, TargetError
from tilewright.patterns import parse
from tilewright.pruning import masks_of, patterns_of, sparsify_
from tilewright.training import Checkpoint, Gradual, ProgressiveOptions, check_patterns, distill_progressively_
from tilewright.training.distil.composite import Composite, drawn
from tilewright.training.distil.losses import output_loss

from .tiny import Tiny, tokens

BLOCKS = ["blocks.?"]


def chain(count: int = 3) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(*(nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8)) for _ in range(count)))


def other(model: nn.Module) -> nn.Module:
    """Return a model of the same shape with different weights everywhere."""
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return copied


def choices(steps: int = 12, **changes: Any) -> ProgressiveOptions:
    chosen = {"steps": steps, "learning_rate": 1e-3, "seed": 11, "output_loss": "mse"}
    return ProgressiveOptions(**(chosen | changes))


def run(student: nn.Module, teacher: nn.Module, **changes: Any) -> Any:
    call = {"modules": BLOCKS, "options": choices(mode="train"), "method": Gradual("2:8", end=10, every=2)} | changes
    return distill_progressively_(student, teacher, tokens(), **call)


def test_the_composite_is_the_teacher_the_student_or_the_blocks_named() -> None:
    teacher = Tiny().eval()
    student = other(teacher).eval()
    composite = Composite(student, teacher, BLOCKS)
    assert composite.names == ["blocks.0", "blocks.1"]
    ids = torch.randint(0, 50, (4, 6))
    before = dict(teacher.named_modules())
    expected = {(): teacher(ids), ("blocks.0", "blocks.1"): student(ids)}
    mixed = student.blocks[1](teacher.blocks[0](teacher.embed(ids)))
    expected["blocks.1",] = teacher.head(mixed.mean(dim=1))
    for chosen, result in expected.items():
        with composite.using(chosen) as model:
            torch.testing.assert_close(model(ids), result)
    assert not torch.allclose(expected[()], expected["blocks.1",])
    assert all(now is before[name] for name, now in teacher.named_modules())


def test_of_nested_matches_the_outermost_are_the_blocks() -> None:
    model = Tiny()
    assert Composite(copy.deepcopy(model), model, ["blocks.*"]).names == ["blocks.0", "blocks.1"]


def test_the_teacher_is_whole_again_after_an_error_inside() -> None:
    teacher = chain()
    blocks = list(teacher)

    def fail() -> None:
        with Composite(other(teacher), teacher, ["?"]).using(["1"]):
            assert teacher[1] is not blocks[1]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(teacher) == blocks


def test_draws_follow_probability_seed_and_index_alone() -> None:
    names = [str(number) for number in range(10)]
    assert drawn(names, 1.0, 3, 4) == names
    assert all(len(drawn(names, 0.0, 3, index)) == 1 for index in range(50))
    assert len({drawn(names, 0.0, 3, index)[0] for index in range(100)}) == 10
    assert drawn(names, 0.5, 3, 4) == drawn(names, 0.5, 3, 4)
    assert drawn(names, 0.5, 3, 4) != drawn(names, 0.5, 3, 5) or drawn(names, 0.5, 3, 4) != drawn(names, 0.5, 4, 4)
    share = sum(len(drawn(names, 0.3, 0, index)) for index in range(1000)) / 10_000
    assert 0.28 < share < 0.33


def test_the_probability_rises_along_a_line_to_one() -> None:
    options = choices(10, start=0.2, rise=0.5)
    assert [round(options.replacing(step), 3) for step in range(7)] == [0.2, 0.36, 0.52, 0.68, 0.84, 1, 1]
    assert choices(10, rise=0).replacing(0) == 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_only_blocks_in_use_and_never_the_teacher_learn(seed: int) -> None:
    teacher = chain()
    student = other(teacher)
    before, dense = copy.deepcopy(student.state_dict()), copy.deepcopy(teacher.state_dict())
    options = choices(1, start=0.0, rise=1.0, seed=seed)
    seen: list[float] = []
    distill_progressively_(
        student,
        teacher,
        [torch.randn(16, 8)],
        modules=["?"],
        options=options,
        progress=lambda step, steps, loss, extras: seen.append(extras["replaced"]),
    )
    changed = {
        name.split(".")[0] for name, value in student.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == set(drawn(["0", "1", "2"], 0.0, seed, 0))
    assert seen == pytest.approx([1 / 3])
    assert all(torch.equal(value, dense[name]) for name, value in teacher.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in teacher.parameters())
    assert teacher.training


def test_the_frame_learns_once_all_blocks_are_the_students() -> None:
    def frame_moved(rise: float) -> bool:
        teacher = Tiny(dropout=0.0)
        student = other(teacher)
        before = student.head.weight.clone()
        run(student, teacher, method=None, options=choices(2, start=0.0, rise=rise))
        return not torch.equal(student.head.weight, before)

    assert frame_moved(0.0)
    assert not frame_moved(1.0)


def test_it_brings_a_pruned_student_back_and_keeps_its_zeros() -> None:
    teacher = chain()
    student = copy.deepcopy(teacher)
    sparsify_(student, "2:4")
    masks = {name: mask.clone() for name, mask in masks_of(student).items()}
    batches = [torch.randn(32, 8, generator=torch.Generator().manual_seed(i)) for i in range(150)]

    @torch.no_grad()
    def error() -> float:
        x = torch.randn(256, 8, generator=torch.Generator().manual_seed(999))
        return float((student(x) - teacher(x)).square().mean() / teacher(x).square().mean())

    first = error()
    result = distill_progressively_(student, teacher, batches, modules=["?"], options=choices(150, learning_rate=5e-3))
    assert error() < 0.5 * first
    assert result.steps == 150
    for name, mask in masks_of(student).items():
        assert torch.equal(mask, masks[name])
        assert not student.get_parameter(name)[~mask].any()


@pytest.mark.parametrize("stopped", [1, 5, 11])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path: Path, stopped: int) -> None:
    torch.manual_seed(7)
    teacher = Tiny()
    whole, broken = other(teacher), copy.deepcopy(teacher)
    broken.load_state_dict(whole.state_dict())
    start = copy.deepcopy(whole)
    result = run(whole, teacher)

    def stop(step: int, steps: int, loss: float, extras: Any) -> None:
        if step == stopped:
            raise KeyboardInterrupt

    where = Checkpoint(tmp_path / "run.safetensors", every=2)
    with pytest.raises(KeyboardInterrupt):
        run(broken, teacher, checkpoint=where, progress=stop)
    torch.manual_seed(stopped)  # the caller's random state must not matter
    again = start
    resumed = run(again, teacher, checkpoint=where)
    assert resumed.resumed_from == stopped - stopped % 2
    assert resumed.losses == result.losses
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())
    assert {str(pattern) for pattern in patterns_of(again).values()} == {"2:8"}
    check_patterns(again, dict.fromkeys(masks_of(again), parse("2:8")), after="distillation")
    with pytest.raises(ArgumentError, match="teacher"):
        run(again, other(teacher), checkpoint=where)


def bert(attention: str = "eager") -> Any:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "max_position_embeddings": 16}
    config = BertConfig(**sizes, num_hidden_layers=2, num_attention_heads=2, attn_implementation=attention)
    return BertModel(config, add_pooling_layer=False).eval()


def encoded(filler: int) -> dict[str, torch.Tensor]:
    ids = torch.randint(1, 40, (4, 8), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1:, 5:] = 0
    return {"input_ids": torch.where(mask == 1, ids, filler), "attention_mask": mask}


def losses_of(teacher: Any, filler: int = 0, **changes: Any) -> dict[str, float]:
    student = other(teacher)
    seen: list[Any] = []
    distill_progressively_(
        student,
        teacher,
        [encoded(filler)],
        modules=["encoder.layer.*"],
        options=choices(1, **({"attentions": ("encoder.layer.*.attention.self",), "rise": 0.0} | changes)),
        progress=lambda step, steps, loss, extras: seen.append(dict(extras)),
    )
    return seen[0]


def test_an_encoder_is_compared_by_its_attention_probabilities_without_padding() -> None:
    teacher = bert()
    torch.manual_seed(5)
    losses = losses_of(teacher)
    assert {"hidden", "attention", "output", "replaced"} <= losses.keys()
    torch.manual_seed(5)
    assert losses_of(teacher, filler=17)["attention"] == pytest.approx(losses["attention"], rel=1e-5)
    torch.manual_seed(5)
    student, batch = other(teacher), encoded(0)
    with torch.no_grad():
        attentions, goals = (model(**batch, output_attentions=True).attentions for model in (student, teacher))
    real = batch["attention_mask"].bool()
    expected = []
    for a, b in zip(attentions, goals, strict=True):
        rows = [x.transpose(1, 2)[real] for x in (a - b, b)]
        expected.append(float(rows[0].square().sum() / rows[1].square().sum()))
    assert losses["attention"] == pytest.approx(sum(expected) / 2, rel=1e-4)


def test_fused_attention_is_compared_by_its_output() -> None:
    assert losses_of(bert("sdpa"))["attention"] > 0
    assert "attention" not in losses_of(bert(), attentions=())
    assert "attention" not in losses_of(bert(), attention=0.0)


def test_cross_entropy_is_zero_only_where_the_probabilities_agree() -> None:
    logits = torch.randn(5, 7, dtype=torch.float64)
    assert float(output_loss("cross-entropy", logits + 3, logits, None)) == pytest.approx(0, abs=1e-6)
    guess = torch.randn(5, 7)
    soft = torch.softmax(logits, -1).float()
    entropy = -(soft * soft.log()).sum(-1).mean()
    expected = torch.nn.functional.cross_entropy(guess, soft) - entropy
    assert float(output_loss("cross-entropy", guess, logits.float(), None)) == pytest.approx(float(expected), rel=1e-5)


def test_what_cannot_be_distilled_is_refused() -> None:
    teacher = chain()
    with pytest.raises(TargetError, match="modules='layers"):
        run(other(teacher), teacher, modules=["layers.*"])
    with pytest.raises(TargetError, match="the teacher has no module '2'"):
        run(chain(3), chain(2), modules=["?"])
    with pytest.raises(TargetError, match="list of names"):
        run(other(teacher), teacher, modules="blocks")
    with pytest.raises(ArgumentError, match="share the parameter"):
        run(teacher, teacher, modules=["?"])
    with pytest.raises(ArgumentError, match="start must be a probability"):
        choices(start=1.5)
    with pytest.raises(TargetError, match="attentions='none'"):
        run(other(teacher), teacher, modules=["?"], options=choices(attentions=("none",)))
