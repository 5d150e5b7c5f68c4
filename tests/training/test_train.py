"""train_: any loss, every method, dense models too; resumed runs end with the same bits."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from tilewright.errors import ArgumentError, CheckFailed, TargetError
from tilewright.pruning import masks_of, sparsify_
from tilewright.training import (
    SRSTE,
    Batches,
    Checkpoint,
    FixedMask,
    Gradual,
    Sparsifier,
    TrainOptions,
    train_,
)
from tilewright.training.distributed import Ranks
from tilewright.training.loop import Task, _Step

from .tiny import STEPS, Tiny, tokens


def loss_of(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Return the loss of predicting, from the pooled vector, how often each of the first 16 tokens occurs."""
    counts = torch.nn.functional.one_hot(ids, 50)[..., :16].sum(dim=1).float()
    return (model(ids) - counts).square().mean()


def settings(steps: int = STEPS, **changes: object) -> TrainOptions:
    return TrainOptions(**({"steps": steps, "learning_rate": 1e-3, "seed": 11, "weight_decay": 0.05} | changes))


def fresh(pattern: str | None = None) -> Tiny:
    torch.manual_seed(7)
    model = Tiny()
    if pattern:
        sparsify_(model, pattern)
    return model


METHODS = {
    "dense": None,
    "fixed": FixedMask(),
    "gradual": Gradual("1:4", begin=2, end=20, every=5),
    "taylor": Gradual("tw8@50%", end=20, every=7, score="taylor", budget="global", scoring_steps=4),
    "regrow": Gradual("any@70%", end=20, every=5, regrow=True),
    "srste": SRSTE("2:4"),
}


def start(name: str) -> Tiny:
    return fresh("2:4" if name == "fixed" else None)


class _StopError(Exception):
    pass


def stop_at(step: int):
    def progress(count, steps, loss, extras):
        if count == step:
            raise _StopError

    return progress


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_run_ends_with_the_same_bits(name: str, tmp_path: Path) -> None:
    whole = start(name)
    training = train_(whole, tokens(), loss_of, options=settings(), method=METHODS[name])
    assert sum(training.losses[-6:]) < sum(training.losses[:6])
    path = tmp_path / "state"
    for step in (4, 13):
        with pytest.raises(_StopError):
            train_(
                start(name),
                tokens(),
                loss_of,
                options=settings(),
                method=METHODS[name],
                checkpoint=Checkpoint(path, every=3),
                progress=stop_at(step),
            )
    torch.manual_seed(99)
    again = start(name)
    result = train_(again, tokens(), loss_of, options=settings(), method=METHODS[name], checkpoint=path)
    assert result.resumed_from == 12
    assert (result.losses, result.mask_changes) == (training.losses, training.mask_changes)
    assert again.state_dict().keys() == whole.state_dict().keys()
    for key, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key


class Noisy:
    """Batches that are randomly augmented on every access."""

    def __getitem__(self, step: int) -> torch.Tensor:
        return (tokens()[step] + torch.randint(0, 3, (1,))) % 50


def test_augmented_batches_resume_whatever_was_drawn_before(tmp_path: Path) -> None:
    whole, again = start("gradual"), start("gradual")
    expected = train_(whole, Noisy(), loss_of, options=settings(), method=METHODS["gradual"])
    with pytest.raises(_StopError):
        train_(
            start("gradual"),
            Noisy(),
            loss_of,
            options=settings(),
            method=METHODS["gradual"],
            checkpoint=Checkpoint(tmp_path / "state", every=4),
            progress=stop_at(9),
        )
    torch.manual_seed(1234)  # the state of a program that has drawn other numbers
    before = torch.get_rng_state()
    result = train_(
        again, Noisy(), loss_of, options=settings(), method=METHODS["gradual"], checkpoint=tmp_path / "state"
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert result.resumed_from == 8
    assert result.losses == expected.losses


@pytest.mark.parametrize(
    "changes",
    [{"optimizer": "sgd", "learning_rate": 0.05}, {"precision": "bfloat16"}, {"accumulate": 2}, {"cycles": 3}],
)
def test_every_option_resumes(changes: dict, tmp_path: Path) -> None:
    whole, again = fresh(), fresh()
    options, path = settings(12, **changes), tmp_path / "state"
    training = train_(whole, tokens(), loss_of, options=options, method=SRSTE("1:4"))
    with pytest.raises(_StopError):
        train_(
            again,
            tokens(),
            loss_of,
            options=options,
            method=SRSTE("1:4"),
            checkpoint=Checkpoint(path, every=2),
            progress=stop_at(7),
        )
    again = fresh()
    assert (
        train_(again, tokens(), loss_of, options=options, method=SRSTE("1:4"), checkpoint=path).losses
        == training.losses
    )
    assert all(torch.equal(again.state_dict()[key], tensor) for key, tensor in whole.state_dict().items())


def test_accumulated_batches_are_one_large_batch() -> None:
    small = Batches(list(torch.randint(0, 50, (64, 6), generator=torch.Generator().manual_seed(3))), 4, seed=5)
    large = [torch.cat([small[2 * i], small[2 * i + 1]]) for i in range(8)]
    model, reference = fresh(), fresh()
    train_(
        model,
        small,
        loss_of,
        options=settings(8, accumulate=2, mode="eval", optimizer="sgd", learning_rate=0.05),
        method=SRSTE("2:4"),
    )
    train_(
        reference,
        large,
        loss_of,
        options=settings(8, mode="eval", optimizer="sgd", learning_rate=0.05),
        method=SRSTE("2:4"),
    )
    for (name, a), b in zip(model.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=name)


def test_recomputed_activations_change_no_bit() -> None:
    plain, lean = fresh(), fresh()
    train_(plain, tokens(), loss_of, options=settings(6), method=SRSTE("2:4"))
    train_(lean, tokens(), loss_of, options=settings(6, recompute=("blocks.?",)), method=SRSTE("2:4"))
    assert all(torch.equal(lean.state_dict()[key], tensor) for key, tensor in plain.state_dict().items())
    assert not any("forward" in vars(module) for module in lean.modules())


def test_masks_are_held_without_a_method_and_a_sparsifier_chooses_targets() -> None:
    model = fresh("2:4")
    train_(model, tokens(), loss_of, options=settings(4))
    assert all(not dict(model.named_parameters())[name][~mask].any() for name, mask in masks_of(model).items())
    model = fresh()
    method = Sparsifier(model, SRSTE("2:4"), targets={"blocks.*.linear?": "1:4"}, ignore=["head"])
    extras = []
    train_(model, tokens(), loss_of, options=settings(4), method=method, progress=lambda *line: extras.append(line[3]))
    assert sorted(masks_of(model)) == sorted(f"blocks.{i}.linear{j}.weight" for i in (0, 1) for j in (1, 2))
    assert extras[0].keys() == {"learning_rate", "gradient_norm", "mask_changes"}
    assert method.report().summary["sparsity of the pruned"] == 0.75


def test_notes_are_about_the_masks_in_the_end() -> None:
    model = fresh()
    with torch.no_grad():
        model.head.weight.mul_(1e-6)
    plan = Gradual("any@60%", end=4, every=2, budget="global")
    notes = train_(model, tokens(), loss_of, options=settings(4, learning_rate=1e-8), method=plan).notes
    assert notes == ("head.weight is pruned entirely",)


def test_cycles_repeat_the_schedule() -> None:
    options = TrainOptions(steps=20, learning_rate=1.0, warmup=0.2, cycles=2)
    assert [options.rate(step) for step in range(10)] == [options.rate(step + 10) for step in range(10)]
    uneven = TrainOptions(steps=10, learning_rate=1.0, warmup=0, cycles=3, schedule="linear")
    assert [step for step in range(10) if uneven.rate(step) == 1.0] == [0, 4, 7]


def test_the_weights_a_failed_step_leaves_are_those_of_the_step_before() -> None:
    model, states = fresh(), []

    def poisoned(inner: nn.Module, ids: torch.Tensor) -> torch.Tensor:
        return loss_of(inner, ids) * (float("nan") if len(states) == 3 else 1.0)

    with pytest.raises(CheckFailed, match="the loss is nan at step 4 of 8; training stopped before updating"):
        train_(
            model,
            tokens(),
            poisoned,
            options=settings(8),
            method=SRSTE("2:4"),
            progress=lambda *line: states.append(copy.deepcopy(model.state_dict())),
        )
    assert all(torch.equal(value, states[-1][name]) for name, value in model.state_dict().items())


def test_what_cannot_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="8 steps of 4 batches need 32 batches, but there are only 3; use Batches"):
        train_(fresh(), [tokens()[0]] * 3, loss_of, options=settings(8, accumulate=4))
    with pytest.raises(
        ArgumentError, match=r"the loss must be a scalar tensor .*; at step 1 it is a tensor of shape \[8, 16\]"
    ):
        train_(fresh(), tokens(), lambda model, ids: model(ids), options=settings(2))
    with pytest.raises(TargetError, match=r"recompute='layers\.\*' matches no module of Tiny"):
        train_(fresh(), tokens(), loss_of, options=settings(2, recompute=("layers.*",)))
    with pytest.raises(ArgumentError, match="Gradual changes masks until step 20, but training ends after 10 steps"):
        train_(fresh(), tokens(), loss_of, options=settings(10), method=METHODS["gradual"])
    path = tmp_path / "state"
    train_(fresh(), tokens(), loss_of, options=settings(2), method=SRSTE("2:4"), checkpoint=path)
    with pytest.raises(ArgumentError, match="belongs to a run that differs in its method; pass the original arguments"):
        train_(fresh(), tokens(), loss_of, options=settings(2), method=SRSTE("1:4"), checkpoint=path)
    with pytest.raises(ArgumentError, match=r"batches must support batches\[i\], .* a DataLoader does not"):
        train_(fresh(), torch.utils.data.DataLoader(tokens()[0]), loss_of, options=settings(2))
    model = fresh()
    with pytest.raises(ArgumentError, match="Gradual changes masks until step 20, but training ends after 10 steps"):
        train_(model, tokens(), loss_of, options=settings(10), method=Sparsifier(model, METHODS["gradual"]))


def test_targets_of_another_run_are_not_gone_on_from(tmp_path: Path) -> None:
    def run(targets: dict) -> None:
        model = fresh()
        method = Sparsifier(model, SRSTE("2:4"), targets=targets)
        train_(model, tokens(), loss_of, options=settings(2), method=method, checkpoint=tmp_path / "state")

    run({"blocks.0.*": "2:4", "blocks.1.*": "1:4"})
    with pytest.raises(ArgumentError, match="belongs to a run that differs in its method"):
        run({"blocks.0.*": "1:4", "blocks.1.*": "2:4"})


@pytest.mark.parametrize("rule", ["sgd", "adamw"])
def test_only_matrices_decay(rule: str) -> None:
    """With a zero gradient only decay acts: one step removes ``rate * decay`` of a matrix, and nothing of biases and norms."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 6), nn.Linear(6, 4), nn.LayerNorm(4), nn.Conv1d(3, 2, 1), nn.BatchNorm1d(2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    before = {name: value.clone() for name, value in model.named_parameters()}
    options = TrainOptions(
        steps=1, learning_rate=0.1, weight_decay=0.25, warmup=0.0, schedule="constant", optimizer=rule, clip=None
    )
    train_(model, [None], lambda model, _: sum(0.0 * p.sum() for p in model.parameters()), options=options)
    for name, value in model.named_parameters():
        kept = 1 - 0.1 * 0.25 if value.ndim > 1 else 1.0
        torch.testing.assert_close(value.detach(), before[name] * kept, rtol=1e-6, atol=0 if kept == 1 else 1e-7)


def drawn(seed: int, step: int, rank: int) -> list[float]:
    """Return the random draws of one step of one process."""
    numbers: list[float] = []

    def terms(batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        numbers.extend(torch.rand(4).tolist())
        return layer(batch).sum(), {}

    layer = nn.Linear(2, 1)
    options = TrainOptions(steps=9, seed=seed)
    task = Task(layer, terms, [torch.ones(1, 2)] * 9, options, {})
    _Step(task, torch.optim.SGD(layer.parameters(), lr=0.1), None, Ranks(rank))(step)
    return numbers


def test_seed_step_and_process_each_draw_numbers_of_their_own() -> None:
    """Dropout must differ between processes and between steps, and the next seed must not be the same sequence one step later."""
    places = [(seed, step, rank) for seed in (0, 1, 2, 2**32 - 1) for step in (0, 1, 2) for rank in (0, 1, 2)]
    streams = {place: tuple(drawn(*place)) for place in places}
    assert len(set(streams.values())) == len(places)
    assert all(tuple(drawn(*place)) == stream for place, stream in streams.items())


def test_two_seeds_drop_different_units() -> None:
    def losses(seed: int) -> tuple[float, ...]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 1))
        options = TrainOptions(steps=3, seed=seed)
        return train_(model, [torch.ones(1, 8)] * 3, lambda model, x: model(x).square().sum(), options=options).losses

    assert losses(0) == losses(0)
    assert len({losses(seed) for seed in (0, 1, 2)}) == 3
