"""Run the recovery of a recipe: distillation from the dense model on the task's data."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import ArgumentError, CheckFailed
from ..training import (
    Batches,
    Checkpoint,
    Distillation,
    Family,
    Member,
    ProgressiveOptions,
    RecoverOptions,
    Sparsifier,
    StepCallback,
    distill_progressively_,
    inherit_,
    recover_,
    train_,
)
from .recipe.recipe import Recipe
from .recipe.recover import Inherited, Pick, Progressive

__all__ = ["Recovered", "Setting", "recover_student_"]


@dataclass(frozen=True)
class Setting:
    """Inputs of a recovery.

    Parameters
    ----------
    student
        Model to recover; of a SentenceTransformer, the transformer inside it.
    teacher
        Dense model to distil from; of a SentenceTransformer, the transformer inside it.
    batches
        Training batches of the task.
    options
        Training options.
    output
        Function from a model's result and its batch to the tensor that is compared.
    checkpoint
        File to save to and resume from.
    family
        Folder for the members of a family, if the method trains one.
    evaluate
        Function that evaluates the student on the validation split, as a share of the dense model's quality.
    progress
        Called after every step.
    """

    student: nn.Module
    teacher: nn.Module
    batches: Batches
    options: RecoverOptions
    output: Callable[[Any, Any], Any]
    checkpoint: Checkpoint
    family: Path
    evaluate: Callable[[nn.Module], float]
    progress: StepCallback


@dataclass(frozen=True)
class Recovered:
    """Result of a recovery.

    Parameters
    ----------
    steps
        Total number of optimizer steps.
    done
        Number of steps that this run took; None if unknown.
    seconds
        Duration of this run in seconds; None if unknown.
    at
        Steps at which the loss was recorded.
    losses
        Loss at each step in `at`.
    family
        The trained family, if the method trains one.
    picked
        The member of the family that was picked.
    ratings
        (step, share of the dense model's quality on the validation split) for each member.
    """

    steps: int
    done: int | None
    seconds: float | None
    at: tuple[int, ...]
    losses: tuple[float, ...]
    family: Family | None = None
    picked: Member | None = None
    ratings: tuple[tuple[int, float], ...] = ()


def recover_student_(recipe: Recipe, setting: Setting) -> Recovered:
    """Recover the student in place with the recipe's method; methods that prune during training also prune it."""
    assert recipe.recover is not None
    options, output = setting.options, setting.output
    if isinstance(recipe.recover, Inherited):
        return _inherited(recipe, recipe.recover, setting, options)
    way = recipe.recover.way(recipe.prune)
    method = None if way is None else Sparsifier(setting.student, way, **_chosen(recipe), steps=options.steps)
    common: dict[str, Any] = {"checkpoint": setting.checkpoint, "progress": setting.progress}
    if isinstance(recipe.recover, Progressive):
        assert isinstance(options, ProgressiveOptions)
        training = distill_progressively_(
            setting.student,
            setting.teacher,
            setting.batches,
            modules=recipe.recover.blocks,
            options=options,
            method=method,
            output=output,
            **common,
        )
    elif method is None:
        training = recover_(setting.student, setting.teacher, setting.batches, options=options, output=output, **common)
    else:
        loss = Distillation(setting.teacher, options, setting.output, scored=recipe.prune.score == "taylor")
        training = train_(setting.student, setting.batches, loss, options=options, method=method, **common)
    at = tuple(range(1, training.steps + 1))
    return Recovered(training.steps, training.steps - training.resumed_from, training.seconds, at, training.losses)


def _inherited(recipe: Recipe, recover: Inherited, setting: Setting, options: RecoverOptions) -> Recovered:
    n, m, levels = recover.falling(recipe.prune)
    family = inherit_(
        setting.student,
        m,
        setting.batches,
        Distillation(setting.teacher, options, setting.output),
        options=options,
        cost=recover.cost,
        levels=levels,
        decay=recover.decay,
        evaluate=setting.evaluate,
        checks=recover.checks,
        **_chosen(recipe),
        folder=setting.family,
        progress=setting.progress,
    )
    picked = _picked(family, recover.pick or Pick(n=n))
    family.load_(setting.student, picked)
    at, losses, ratings, steps = [], [], [], 0
    for member in family.members[1:]:
        steps += member.steps
        at.append(steps)
        losses.append(float(member.loss or 0.0))
        ratings.append((steps, float(member.metric or 0.0)))
    return Recovered(steps, None, None, tuple(at), tuple(losses), family, picked, tuple(ratings))


def _picked(family: Family, pick: Pick) -> Member:
    """Return the member that the recipe picks, never the dense one, which every family starts with."""
    if pick.n is not None:
        return family[pick.n]
    dense, sparse = family.members[0], Family(family.members[1:])
    try:
        if pick.quality is not None:
            return sparse.pick(metric=pick.quality * float(dense.metric or 0.0))
        assert pick.size is not None
        return sparse.pick(cost=pick.size * dense.bytes)
    except ArgumentError as error:
        raise CheckFailed(
            f"recover.pick matches no member: {error}. The family is kept; change recover.pick and run again"
        ) from None


def _chosen(recipe: Recipe) -> dict[str, Any]:
    chosen = recipe.prune.chosen
    return {"targets": chosen["targets"], "ignore": tuple(chosen["ignore"])}
