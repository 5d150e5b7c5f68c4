"""inherit_: a family of n:m models, resumable between and within levels, to pick from and to load."""

import copy
import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tilewright import parse
from tilewright.errors import ArgumentError, FormatError
from tilewright.patterns import verify_mask
from tilewright.pruning import masks_of, sparsify_
from tilewright.training import SRSTE, Family, Member, Sparsifier, TrainOptions, inherit_, train_
from tilewright.training.family.inherit import level_steps

OPTIONS = TrainOptions(steps=24, learning_rate=3e-3, seed=4)


class Data:
    """An endless source of batches."""

    def __getitem__(self, step: int) -> torch.Tensor:
        return torch.randn(16, 8, generator=torch.Generator().manual_seed(step))


def loss_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return (model(x) - x.roll(1, dims=1)[:, :6].tanh()).square().mean()


def quality(model: nn.Module) -> float:
    assert not model.training
    return -float(loss_of(model, Data()[10**6]))


def network() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.1), nn.Tanh(), nn.Linear(16, 6))


def trained() -> nn.Sequential:
    model = network()
    train_(model, Data(), loss_of, options=TrainOptions(steps=150, learning_rate=1e-2))
    return model


class _StopError(Exception):
    pass


def stop_after(calls: int):
    seen = []

    def progress(*line: object) -> None:
        seen.append(line)
        if len(seen) == calls:
            raise _StopError

    return progress


@given(st.integers(2, 64), st.data(), st.integers(1, 5000))
def test_steps_are_shared_out_by_how_much_a_level_multiplies_the_density_down(m, data, total) -> None:
    levels = sorted(data.draw(st.sets(st.integers(1, m - 1), min_size=1)), reverse=True)
    steps = level_steps(m, levels, total)
    assert len(steps) == len(levels)
    assert min(steps) >= 1
    assert total <= sum(steps) <= total + len(levels)
    halves = level_steps(64, [32, 16, 8, 4, 2, 1], 6 * total)
    assert halves == [total] * 6


def test_a_family_falls_level_by_level_within_its_cost() -> None:
    model = trained()
    dense = copy.deepcopy(model.state_dict())
    family = inherit_(model, 8, Data(), loss_of, options=OPTIONS, cost=2.5, evaluate=quality, checks=2)
    assert [member.name for member in family.members] == ["dense", "7:8", "6:8", "5:8", "4:8", "3:8", "2:8", "1:8"]
    assert sum(member.steps for member in family.members) == pytest.approx(2.5 * OPTIONS.steps, abs=7)
    assert [member.density for member in family.members] == pytest.approx([n / 8 for n in range(8, 0, -1)])
    sizes = [member.bytes for member in family.members[3:]]
    assert sizes == sorted(sizes, reverse=True)
    other = network()
    for member in reversed(family.members):
        family.load_(other, member)
        other.eval()
        with torch.no_grad():
            assert quality(other) == pytest.approx(member.metric, rel=1e-6)
        for name, mask in masks_of(other).items():
            assert verify_mask(parse(member.name), mask.numpy(), exact=True)
            assert torch.equal(dict(other.named_parameters())[name] != 0, mask)
    assert all(torch.equal(value, dense[name]) for name, value in other.state_dict().items())
    last = family.members[-1].tensors()
    assert all(torch.equal(value, last[name]) for name, value in model.state_dict().items())


def test_a_level_starts_from_the_dense_values_of_the_one_above() -> None:
    """By hand: the same levels with SRSTE one after another, passing on the hidden values."""
    model, twin = trained(), trained()
    lively = TrainOptions(steps=40, learning_rate=3e-2)  # so that elements return within a level
    family = inherit_(model, 4, Data(), loss_of, options=lively, cost=2.0, levels=[2, 1])
    first = 0
    for n, member in zip((2, 1), family.members[1:], strict=True):
        method = Sparsifier(twin, SRSTE(f"{n}:4"))
        hidden = {}

        def remember(step, steps, loss, extras, method=method, hidden=hidden):
            hidden.update(method.state_dict()["dense"])

        batches = [Data()[first + i] for i in range(member.steps)]
        options = TrainOptions(steps=member.steps, learning_rate=3e-2, seed=n)
        train_(twin, batches, loss_of, options=options, method=method, progress=remember)
        assert all(torch.equal(member.tensors()[name], value) for name, value in twin.state_dict().items())
        first += member.steps
        with torch.no_grad():
            for name, value in hidden.items():
                assert bool((value != 0).all())
                dict(twin.named_parameters())[name].copy_(value)
    assert (family.members[0].metric, family[1].metric) == (None, None)


def test_a_killed_family_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    arguments = {"options": OPTIONS, "cost": 2.0, "evaluate": quality, "checks": 3}
    whole = inherit_(trained(), 4, Data(), loss_of, **arguments)
    for calls in (3, 9, 20, 11):
        with pytest.raises(_StopError):
            inherit_(trained(), 4, Data(), loss_of, **arguments, folder=tmp_path, every=4, progress=stop_after(calls))
    half = Family.load(tmp_path)
    assert [member.name for member in half.members] == ["dense", "3:4", "2:4"]
    model = trained()
    family = inherit_(model, 4, Data(), loss_of, **arguments, folder=tmp_path, every=4)
    for expected, member, read in zip(whole.members, family.members, Family.load(tmp_path).members, strict=True):
        assert (member.name, member.metric, member.loss, member.bytes) == (
            expected.name,
            expected.metric,
            expected.loss,
            expected.bytes,
        )
        assert read == member
        tensors = read.tensors()
        assert tensors.keys() == expected.tensors().keys()
        assert all(torch.equal(tensors[name], value) for name, value in expected.tensors().items())
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["1-of-4.safetensors", "2-of-4.safetensors", "3-of-4.safetensors", "best-1.safetensors", "dense.safetensors", "family.json"]  # fmt: skip
    again = trained()
    inherit_(again, 4, Data(), loss_of, **arguments, folder=tmp_path, progress=stop_after(1))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())
    with pytest.raises(
        ArgumentError, match="belongs to a run that differs in its options; pass the original arguments, or a different"
    ):
        inherit_(trained(), 4, Data(), loss_of, **(arguments | {"decay": 0.1}), folder=tmp_path)
    (tmp_path / "family.json").write_text(json.dumps({"version": 1}))
    with pytest.raises(FormatError, match=r"family\.json is not the index of a family"):
        Family.load(tmp_path)
    with pytest.raises(FormatError, match=r"no family in .*nowhere: the file family\.json is missing"):
        Family.load(tmp_path / "nowhere")


def test_stopped_at_any_write_a_family_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = TrainOptions(steps=4, learning_rate=1e-2)
    arguments = {"options": options, "cost": 2.0, "evaluate": quality, "checks": 2}
    model = trained()
    start = copy.deepcopy(model)
    whole = inherit_(model, 3, Data(), loss_of, **arguments)
    replace, seen, stops = os.replace, [0], 0

    def failing(source: object, target: object) -> None:
        seen[0] += 1
        if seen[0] == number and not after:
            raise KeyboardInterrupt
        replace(source, target)
        if seen[0] == number:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", failing)
    for attempt in range(200):
        number, after, seen[0] = 1 + attempt % 3, attempt % 2 == 0, 0
        try:
            family = inherit_(copy.deepcopy(start), 3, Data(), loss_of, **arguments, folder=tmp_path, every=2)
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops > 8
    for expected, member in zip(whole.members, family.members, strict=True):
        assert (member.name, member.metric, member.loss) == (expected.name, expected.metric, expected.loss)
        assert all(torch.equal(member.tensors()[name], value) for name, value in expected.tensors().items())


def test_the_best_of_a_level_is_kept_not_the_last() -> None:
    scores = iter([0.0, 1.0, 9.0, 2.0, 3.0, 4.0, 5.0])  # dense, then three checks for each of two levels
    seen = []

    def evaluate(model: nn.Module) -> float:
        seen.append(copy.deepcopy(model.state_dict()))
        return next(scores)

    family = inherit_(trained(), 4, Data(), loss_of, options=OPTIONS, levels=[2, 1], evaluate=evaluate, checks=3)
    assert [member.metric for member in family.members] == [0.0, 9.0, 5.0]
    for member, moment in zip(family.members, (0, 2, 6), strict=True):
        assert all(torch.equal(member.tensors()[name], value) for name, value in seen[moment].items())


def test_members_are_picked_by_metric_and_cost() -> None:
    rows = [(4, 0.9, 400), (3, 0.92, 320), (2, 0.85, 220), (1, 0.6, 120)]
    family = Family(tuple(Member(n, 4, {}, n / 4, 0, None, metric, size) for n, metric, size in rows))
    assert family.pick().n == 3
    assert family.pick(metric=0.84).n == 2
    assert family.pick(cost=300).n == 2
    assert family.pick(metric=0.5, cost=1000).n == 1
    assert family.pick(cost=3, by=lambda member: 5 - member.n).n == 3
    with pytest.raises(
        ArgumentError,
        match=r"no member has a metric of at least 0\.95 and a cost of at most 300; the best is 3:4 with a metric of 0\.92, the",
    ):
        family.pick(metric=0.95, cost=300)
    with pytest.raises(ArgumentError, match="the members have no metric to pick by; call inherit_ with evaluate"):
        Family((Member(4, 4, {}, 1.0, 0, None, None, 1),)).pick()
    with pytest.raises(ArgumentError, match="no member with n=5; its members are dense, 3:4, 2:4, 1:4"):
        family[5]
    assert "2:4" in str(family.report())


def test_what_cannot_work_is_refused() -> None:
    def attempt(m: int = 4, **changes: object) -> None:
        inherit_(network(), m, Data(), loss_of, options=OPTIONS, **changes)

    with pytest.raises(ArgumentError, match="levels must be decreasing values of n from 3 to 1; got \\[1, 2\\]"):
        attempt(levels=[1, 2])
    with pytest.raises(ArgumentError, match="m must be at least 2 and cost above 0; got m=1"):
        attempt(m=1)
    with pytest.raises(ArgumentError, match="checks must be 1, or more if evaluate is given; got 2"):
        attempt(checks=2)
    with pytest.raises(
        ArgumentError, match="targets must be a list, not a mapping, as all targets of a family have the same n"
    ):
        attempt(targets={"0": "2:4"})
    with pytest.raises(ArgumentError, match="evaluate must return a finite number; got nan"):
        attempt(evaluate=lambda model: float("nan"))
    model = network()
    sparsify_(model, "2:4")
    with pytest.raises(ArgumentError, match="needs a dense model, but this one has masks; call remove_masks_"):
        inherit_(model, 4, Data(), loss_of, options=OPTIONS)
