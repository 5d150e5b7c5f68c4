"""recover_: it recovers quality, keeps zeros, leaves everything else unchanged, and refuses invalid arguments."""

import copy

import pytest
import torch
from torch import nn

from tilewright.errors import ArgumentError, CheckFailed, TargetError
from tilewright.pruning import Padding, masks_of, sparsify_
from tilewright.training import Batches, RecoverOptions, mean_pooled, recover_
from tilewright.training.distil.losses import Probe, hidden_loss, output_loss

from .tiny import Tiny, options, pair, tokens

MASK = Padding([torch.tensor([[1, 1, 0], [1, 0, 0]]).bool()])


@pytest.mark.parametrize(("kind", "expected"), [("cosine", 1 - (1 + 0 + 1) / 3), ("mse", (0 + 4 + 0) / (1 + 2 + 1))])
def test_only_real_tokens_count_and_only_their_number_divides(kind: str, expected: float) -> None:
    """Three real tokens: equal, orthogonal (squared error 4, mean square 2), equal. The padded ones differ widely."""
    student = torch.tensor([[[1.0, 0.0], [1.0, -1.0], [0.0, 50.0]], [[0.0, 1.0], [-70.0, 0.0], [9.0, 9.0]]])
    teacher = torch.tensor([[[1.0, 0.0], [1.0, 1.0], [30.0, 0.0]], [[0.0, 1.0], [70.0, 0.0], [-9.0, -9.0]]])
    assert output_loss(kind, student, teacher, MASK).item() == pytest.approx(expected)
    assert output_loss(kind, student, teacher, None).item() != pytest.approx(expected)
    if kind == "mse":
        assert hidden_loss([student, teacher], [teacher, teacher], MASK).item() == pytest.approx(expected / 2)


def test_cross_entropy_is_a_mean_over_real_tokens() -> None:
    """The teacher is certain of one of two classes; the student is undecided on one of three real tokens, which costs ``log 2``."""
    teacher = torch.tensor([[[40.0, 0.0], [40.0, 0.0], [40.0, 0.0]], [[40.0, 0.0], [0.0, 0.0], [0.0, 0.0]]])
    student = torch.tensor([[[40.0, 0.0], [0.0, 0.0], [0.0, 40.0]], [[40.0, 0.0], [0.0, 9.0], [9.0, 0.0]]])
    assert output_loss("cross-entropy", student, teacher, MASK).item() == pytest.approx(
        torch.tensor(2.0).log().item() / 3
    )


def test_recovery_brings_the_student_back_and_keeps_its_zeros() -> None:
    student, teacher = pair()
    dense = copy.deepcopy(teacher.state_dict())
    masks = {name: mask.clone() for name, mask in masks_of(student).items()}
    seen = []
    result = recover_(
        student,
        teacher,
        tokens(),
        options=options(120, mode="eval", learning_rate=3e-3),
        progress=lambda *line: seen.append(line),
    )
    assert sum(result.losses[-10:]) < 0.5 * sum(result.losses[:10])
    assert (result.steps, result.resumed_from, result.notes) == (120, 0, ())
    assert [line[0] for line in seen] == list(range(1, 121))
    assert {line[1] for line in seen} == {120}
    assert tuple(line[2] for line in seen) == result.losses
    assert seen[0][3].keys() == {"hidden", "output", "learning_rate", "gradient_norm"}
    assert seen[0][2] == pytest.approx(seen[0][3]["hidden"] + seen[0][3]["output"])
    parameters = dict(student.named_parameters())
    for name, mask in masks_of(student).items():
        assert torch.equal(mask, masks[name])
        assert not parameters[name][~mask].any()
        assert not torch.equal(parameters[name], dense[name] * mask)
    assert all(torch.equal(value, dense[name]) for name, value in teacher.state_dict().items())


@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
def test_a_hugging_face_model_reports_its_own_hidden_states(kind: str) -> None:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    teacher = BertModel(config)
    student = copy.deepcopy(teacher)
    sparsify_(student, "1:4", ignore=["pooler.dense"])
    ids = torch.randint(0, 40, (32, 8), generator=torch.Generator().manual_seed(1))
    items = [{"input_ids": row, "attention_mask": (torch.arange(8) < 3 + i % 6).long()} for i, row in enumerate(ids)]
    batches = Batches(items, 8, collate=lambda rows: {key: torch.stack([row[key] for row in rows]) for key in rows[0]})
    settings = RecoverOptions(steps=60, learning_rate=3e-3, precision=kind, freeze=("embeddings.*",))
    before = copy.deepcopy(student.state_dict())
    result = recover_(student, teacher, batches, options=settings)
    assert result.losses[-1] < 0.6 * result.losses[0]
    changed = {name for name, value in student.named_parameters() if not torch.equal(value, before[name])}
    assert "encoder.layer.1.output.dense.weight" in changed
    assert not any(name.startswith("embeddings") for name in changed)
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_padding_counts_neither_in_hidden_states_nor_in_the_pooled_output() -> None:
    generator = torch.Generator().manual_seed(0)
    goal, states = (torch.randn(2, 3, 4, generator=generator) for _ in range(2))
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    real = mask.bool()
    expected = (states - goal)[real].square().mean() / goal[real].square().mean()
    assert torch.allclose(hidden_loss([states], [goal], Padding([real])), expected)
    unmasked = (states - goal).square().mean() / goal.square().mean()
    assert torch.allclose(hidden_loss([states, states], [goal, states], None), (unmasked + 0) / 2)
    output = type("Output", (), {"last_hidden_state": goal})()
    pooled = mean_pooled(output, {"attention_mask": mask})
    assert torch.allclose(pooled, torch.stack([goal[0, :2].mean(0), goal[1, 0]]))
    assert torch.allclose(mean_pooled(output, {}), goal.mean(dim=1))


def test_output_terms_by_hand() -> None:
    output, goal = torch.tensor([[1.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 2.0], [3.0, 4.0]])
    assert output_loss("cosine", output, goal, None).item() == pytest.approx(0.5)
    assert output_loss("mse", output, goal, None).item() == pytest.approx(5 / 29)


def test_equal_student_has_a_loss_and_a_gradient_of_zero() -> None:
    states = torch.ones(2, 3, requires_grad=True)
    hidden_loss([states], [torch.ones(2, 3)], None).backward()
    assert torch.equal(states.grad, torch.zeros(2, 3))


def test_everything_it_arranged_is_put_back() -> None:
    student, teacher = pair()
    teacher.train()
    student.eval()
    student.blocks[0].train()
    student.embed.weight.requires_grad_(False)
    modes = [module.training for module in student.modules()]
    torch.manual_seed(42)
    expected = torch.rand(3)
    torch.manual_seed(42)
    recover_(student, teacher, tokens(), options=options(3, freeze=("head.*",)))
    assert torch.equal(torch.rand(3), expected)
    assert [module.training for module in student.modules()] == modes
    assert all(module.training for module in teacher.modules())
    assert [name for name, p in student.named_parameters() if not p.requires_grad] == ["embed.weight"]
    assert not any(module._forward_hooks for model in (student, teacher) for module in model.modules())
    assert all(p.grad is None for model in (student, teacher) for p in model.parameters())


def test_pruned_elements_that_are_not_zero_yet_are_zeroed_before_the_first_step() -> None:
    student, teacher = pair()
    clean = recover_(student, teacher, tokens(), options=options(2)).losses
    student, teacher = pair()
    with torch.no_grad():
        student.head.weight.add_(~student.head.weight_mask)
    assert recover_(student, teacher, tokens(), options=options(2)).losses == clean


def test_each_step_moves_by_the_rate_of_the_schedule() -> None:
    student, teacher = pair()
    before = student.head.weight.detach().clone()
    moves, rates = [], []

    def measure(step: int, steps: int, loss: float, extras: dict[str, float]) -> None:
        moves.append(float((student.head.weight.detach() - before).abs().max()))
        rates.append(extras["learning_rate"])

    settings = options(10, warmup=0.5, mode="eval", clip=None)
    recover_(student, teacher, tokens(), options=settings, progress=measure)
    assert rates == [settings.rate(step) for step in range(10)]
    assert moves[0] == pytest.approx(settings.rate(0), rel=0.01)  # the first step of Adam is the sign of the gradient


def test_clipping_does_not_count_pruned_elements() -> None:
    model = nn.Linear(4, 1, bias=False)
    teacher = copy.deepcopy(model)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
        teacher.weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 5.0]]))
    sparsify_(model, "1:4")
    x = torch.tensor([[10.0, 10.0, 10.0, 1.0]])
    norms = []
    recover_(
        model,
        teacher,
        [x],
        options=RecoverOptions(steps=1, hidden=0, output_loss="mse"),
        progress=lambda step, steps, loss, extras: norms.append(extras["gradient_norm"]),
    )
    error, goal = 4.0 - 65.0, 65.0
    assert norms == [pytest.approx(abs(2 * error * 1.0 / goal**2))]


def test_a_loss_that_is_not_finite_stops_before_the_weights_change() -> None:
    student, teacher = pair()

    class Broken:
        def __getitem__(self, step: int) -> torch.Tensor:
            return tokens()[step]

    def poisoned(result: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return result * float("nan") if len(calls) > 4 else result

    calls: list[int] = []
    states = []
    with pytest.raises(
        CheckFailed, match="the loss is nan at step 3 of 24; training stopped before updating the weights"
    ):
        recover_(
            student,
            teacher,
            Broken(),
            options=options(),
            output=poisoned,
            progress=lambda *line: states.append(copy.deepcopy(student.state_dict())),
        )
    assert len(states) == 2
    assert all(torch.equal(value, states[-1][name]) for name, value in student.state_dict().items())


def test_a_mask_that_prunes_everything_is_noted() -> None:
    student, teacher = pair()
    student.blocks[0].linear1.weight_mask.fill_(False)
    result = recover_(student, teacher, tokens(), options=options(1))
    assert result.notes == ("blocks.0.linear1.weight is pruned entirely",)
    assert not student.blocks[0].linear1.weight.any()


def test_a_mask_that_prunes_nothing_stops_the_run_before_it_begins() -> None:
    student, teacher = pair()
    student.head.weight_mask.fill_(True)
    before = student.head.weight.detach().clone()
    with pytest.raises(
        CheckFailed, match=r"head\.weight keeps everything: its mask prunes nothing, although its pattern is 2:4"
    ):
        recover_(student, teacher, tokens(), options=options(1))
    assert torch.equal(student.head.weight, before)


def test_a_write_behind_the_masks_is_found_at_the_end() -> None:
    student, teacher = pair()

    def meddle(step: int, steps: int, loss: float, extras: object) -> None:
        with torch.no_grad():
            student.head.weight.fill_(1.0)

    with pytest.raises(
        CheckFailed, match=r"head\.weight has 128 pruned elements that are not zero; something else writes"
    ):
        recover_(student, teacher, tokens(), options=options(1), progress=meddle)


def test_what_cannot_work_is_refused() -> None:
    student, teacher = pair()
    with pytest.raises(ArgumentError, match=r"the student has no masks to hold; call sparsify_ on it first"):
        recover_(Tiny(), teacher, tokens(), options=options())
    with pytest.raises(ArgumentError, match=r"share the parameter embed\.weight, .* copy\.deepcopy"):
        recover_(student, student, tokens(), options=options())
    with pytest.raises(ArgumentError, match="24 steps need 24 batches, but there are only 2; use Batches"):
        recover_(student, teacher, [tokens()[0]] * 2, options=options())
    with pytest.raises(
        ArgumentError, match=r"Tiny cannot return hidden states; .* layers=\('blocks\.\*',\), or set hidden=0"
    ):
        recover_(student, teacher, tokens(), options=options(layers=()))
    with pytest.raises(
        TargetError, match=r"layers='block\.\*' matches no module of Tiny; its first modules are embed, blocks"
    ):
        recover_(student, teacher, tokens(), options=options(layers=("block.*",)))
    with pytest.raises(TargetError, match=r"freeze='embeddings\.\*' matches no parameter of Tiny"):
        recover_(student, teacher, tokens(), options=options(freeze=("embeddings.*",)))
    with pytest.raises(ArgumentError, match="the model has no parameters to train"):
        recover_(student, teacher, tokens(), options=options(freeze=("*",)))
    with pytest.raises(ArgumentError, match="layer 'blocks' was not called, so it has no hidden state to compare"):
        recover_(student, teacher, tokens(), options=options(layers=("blocks",)))
    wrapped, goal = nn.Sequential(copy.deepcopy(student)), nn.Sequential(copy.deepcopy(teacher))
    for model in (wrapped, goal):
        model.register_forward_hook(lambda module, args, result: {"y": result})
    with pytest.raises(ArgumentError, match="returns a dict without logits or last_hidden_state; pass output="):
        recover_(wrapped, goal, tokens(), options=options(layers=("*blocks.?",)))
    wide = copy.deepcopy(teacher)
    wide.head = nn.Linear(16, 5)
    with pytest.raises(ArgumentError, match=r"outputs must have the same shape; got \[8, 16\] and \[8, 5\]"):
        recover_(student, wide, tokens(), options=options())


def test_batches_of_every_form_reach_the_model() -> None:
    class Two(nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a - b

    a, b = torch.ones(2), torch.zeros(2)
    probe = Probe(Two(), (), wanted=False)
    assert torch.equal(probe((a, b))[0], a)
    assert torch.equal(probe([a, b])[0], a)
    assert torch.equal(probe({"b": a, "a": b})[0], -a)
    assert Probe(nn.Identity(), (), wanted=False)(a) == (a, [])
