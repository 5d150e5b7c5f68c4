"""`Calibration`: the data that scores and updates look at, and how a model is called on it."""

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
    """Data for what needs some: scores beyond magnitude, and the update of kept weights.

    Parameters
    ----------
    batches
        Walked through once.
    loss
        ``loss(model, batch)``, a scalar tensor that gradients flow back from. Only scores that take gradients need it.
    forward
        ``forward(model, batch)``, for scores and updates that look at the inputs of layers; what it returns is not looked at.
        Otherwise the model is called with keywords for a mapping, positions for a tuple or list, one argument otherwise.
    tokens
        ``tokens(batch)``, a bool tensor ``[batch, positions]``, True where a position is real and False where it is padding; None if
        all are real. Padding counts for no layer whose inputs have these positions, batch first, time first or flattened. By default
        the ``attention_mask`` of a mapping and, for the decoder of an encoder-decoder, its ``decoder_attention_mask`` or the labels that
        are not -100. Where padding cannot be told, a warning or an `ArgumentError` says so.

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
    """Run the model on one batch and return what it returned."""
    if data.forward is not None:
        return data.forward(model, batch)
    return graph.call(model, told_apart(batch, model))


def padding_of(reader: PaddingReader, data: Calibration, batch: Any, index: int) -> Padding | None:
    """Return which positions of a batch are real, None if all are; `index` names the batch in the error."""
    if data.tokens is None:
        return reader.read(batch)[1] if data.forward is None else reader.of_masks(masks_in(batch, reader.model))
    mask = data.tokens(batch)
    if mask is not None and (not isinstance(mask, Tensor) or mask.dtype != torch.bool):
        what = f"a tensor of {mask.dtype}" if isinstance(mask, Tensor) else f"a {type(mask).__name__}"
        raise ArgumentError(
            f"tokens must give a bool tensor, True for real positions, and for calibration batch {index} it gave {what}"
        )
    return None if mask is None else reader.of_masks([mask])


@contextmanager
def resting(model: nn.Module) -> Iterator[None]:
    """Put the model in evaluation mode, with every module called as a module; all as it was afterwards."""
    with graph.evaluating(model), graph.without_fused_attention():
        yield
