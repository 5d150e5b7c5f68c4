"""`Calibration`: the data that scores and updates use, and how a model is called on it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ... import graph
from ...errors import ArgumentError
from .padding import Padding, PaddingReader, masks_in, told_apart

__all__ = ["Calibration", "call", "padding_of", "resting"]


@dataclass(frozen=True)
class Calibration:
    """Calibration data for scores other than magnitude, for budgets that measure the loss and for the update of kept weights.

    Parameters
    ----------
    batches
        Batches in any form that `forward` and `loss` accept. They may come from a one-shot iterator.
    loss
        ``loss(model, batch)`` returns a scalar tensor. Required by the score ``"taylor"``, which takes gradients of it, and by sensitivity
        scans. Default: no loss.
    forward
        ``forward(model, batch)`` runs the model, for scores and updates that use the inputs of layers; its return value is ignored.
        Default: call the model with keyword arguments for a mapping, positional arguments for a tuple or list, and one argument for
        anything else.
    tokens
        ``tokens(batch)`` returns a bool tensor ``[batch, positions]``, True for real positions and False for padding, or None if all
        positions are real. Padding is excluded from every layer whose inputs have these positions: batch first, time first or flattened.
        Default: the ``attention_mask`` of a mapping and, for the decoder of an encoder-decoder model, its ``decoder_attention_mask`` or
        the labels other than -100. If padding cannot be identified, a warning or an `ArgumentError` says so.

    Examples
    --------
    >>> from tilewright.pruning import sparsify_
    >>> model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> data = Calibration([torch.randn(16, 8) for _ in range(4)])
    >>> sparsify_(model, "2:4", score="wanda", data=data).ok
    True
    """

    batches: Iterable[Any]
    loss: Callable[[nn.Module, Any], Tensor] | None = None
    forward: Callable[[nn.Module, Any], Any] | None = None
    tokens: Callable[[Any], Tensor | None] | None = None


def call(model: nn.Module, data: Calibration, batch: Any) -> Any:
    """Run the model on one batch and return its output."""
    if data.forward is not None:
        return data.forward(model, batch)
    return graph.call(model, told_apart(batch, model))


def padding_of(reader: PaddingReader, data: Calibration, batch: Any, index: int) -> Padding | None:
    """Return which positions of a batch are real, or None if all are; `index` is the number of the batch in errors."""
    if data.tokens is None:
        return reader.read(batch)[1] if data.forward is None else reader.of_masks(masks_in(batch, reader.model))
    mask = data.tokens(batch)
    if mask is not None and (not isinstance(mask, Tensor) or mask.dtype != torch.bool):
        what = f"a tensor of {mask.dtype}" if isinstance(mask, Tensor) else f"a {type(mask).__name__}"
        raise ArgumentError(
            f"tokens must return a bool tensor, True for real positions; for calibration batch {index} it returned {what}"
        )
    return None if mask is None else reader.of_masks([mask])


@contextmanager
def resting(model: nn.Module) -> Iterator[None]:
    """Put the model in eval mode, with every submodule called as a module, for the duration of the block."""
    with graph.evaluating(model), graph.without_fused_attention():
        yield
