"""What a loaded model reports about itself: a log line on how it runs, and its number of parameters."""

import logging
from typing import Any

from torch import nn

from ..pruning import prunable
from .install import note_of, sparse_layers

__all__ = ["count_packed_", "tell"]

_LOG = logging.getLogger("tilewright")


def tell(model: nn.Module, name: str) -> None:
    """Log at INFO how many layers run sparse, how many are packed but run dense, and how many were not pruned."""
    if not _LOG.isEnabledFor(logging.INFO):
        return
    sparse = len(sparse_layers(model))
    notes = [note_of(weight.module, weight.parameter_name) for weight in prunable(model)]
    dense = sum(note is not None for note in notes)
    _LOG.info(
        "%s: of %d layers %d run sparse, %d are packed and run dense, %d were not pruned; tilewright.explain gives the reasons",
        name,
        sparse + len(notes),
        sparse,
        dense,
        len(notes) - dense,
    )


def count_packed_(model: nn.Module) -> None:
    """Make ``num_parameters`` of transformers models count packed weights by their dense shape, as if nothing were pruned."""
    for module in model.modules():
        if callable(getattr(type(module), "num_parameters", None)) and hasattr(module, "config"):
            module.num_parameters = _Count(module)  # type: ignore[assignment]


class _Count:
    """Replacement for the method of a model. An object, so that copies and pickles of the model count their own parameters."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __call__(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Return the number of parameters; packed weights count in full, including pruned elements, and are never trainable."""
        others: int = type(self.model).num_parameters(self.model, only_trainable, exclude_embeddings)
        packed = sum(layer.out_features * layer.in_features for layer in sparse_layers(self.model).values())
        return others if only_trainable else others + packed
