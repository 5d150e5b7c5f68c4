"""Connect a task to training: calibration data, and the loss between a student and its teacher."""

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
    """Return calibration data for a dense model: batches of the task, with the distance from the dense outputs as the loss."""
    batches = task.batches(min(chosen.batch, chosen.passages), tokens=chosen.max_tokens, seed=chosen.seed)
    options = RecoverOptions(steps=1, hidden=0.0, output_loss=task.loss)
    loss = Distillation(dense, options, task.output, scored=True)
    count = max(1, chosen.passages // batches.size)
    return Calibration([batches[step] for step in range(count)], loss=loss)


def fitted(options: RecoverOptions, task: Task, model: nn.Module, *, hidden: bool) -> RecoverOptions:
    """Return training options with the loss of the task, and without the hidden-state term if the model reports no hidden states.

    Parameters
    ----------
    options
        Options from the recipe.
    task
        The task, whose loss is used.
    model
        The student.
    hidden
        Whether the recipe sets the weight of hidden states explicitly. The term is then kept, and a model without hidden states is
        refused later.
    """
    silent = not hidden and not hasattr(getattr(model, "config", None), "output_hidden_states")
    return replace(options, output_loss=task.loss, hidden=0.0 if silent else options.hidden)


@contextmanager
def attention(implementation: str | None, *models: Any) -> Iterator[None]:
    """Switch the attention implementation of transformers models inside a `with` block; None leaves it unchanged."""
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
