"""What a task lends to training: calibration data, and how recovery compares a student with its teacher."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import nn

from ..pruning import Calibration
from ..training import Distillation, RecoverOptions
from .models import inner_model
from .recipe.prune import CalibrationData
from .tasks import Task

__all__ = ["attention", "calibration_of", "fitted"]


def calibration_of(task: Task, dense: nn.Module, chosen: CalibrationData) -> Calibration:
    """Return calibration data for a copy of a dense model: the task's batches, and the distance from the dense outputs as the loss."""
    batches = task.batches(min(chosen.batch, chosen.passages), tokens=chosen.max_tokens, seed=chosen.seed)
    options = RecoverOptions(steps=1, hidden=0.0, output_loss=task.loss)
    loss = Distillation(dense, options, task.output, scored=True)
    count = max(1, chosen.passages // batches.size)
    return Calibration([batches[step] for step in range(count)], loss=loss)


def fitted(options: RecoverOptions, task: Task, model: nn.Module, *, hidden: bool) -> RecoverOptions:
    """Return a recipe's options with the loss of its task, without hidden states where the model does not report any.

    Parameters
    ----------
    options
        Of the recipe.
    task
        Whose loss is taken.
    model
        The student.
    hidden
        Whether the recipe itself asks for hidden states; then a model without any is refused later on.
    """
    silent = not hidden and not hasattr(getattr(model, "config", None), "output_hidden_states")
    return replace(options, output_loss=task.loss, hidden=0.0 if silent else options.hidden)


@contextmanager
def attention(implementation: str | None, *models: Any) -> Iterator[None]:
    """Switch the attention of transformers for a while; with None nothing is switched."""
    inner = [
        inner_model(model)
        for model in models
        if implementation and hasattr(inner_model(model), "set_attn_implementation")
    ]
    before = [model.config._attn_implementation for model in inner]
    for model in inner:
        model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        for model, name in zip(inner, before, strict=True):
            model.set_attn_implementation(name)
