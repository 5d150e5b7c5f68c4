"""`Calibration`: the data that scores and updates look at, and how a model is called on it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError

__all__ = ["Calibration", "call", "resting", "tokens_of"]


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
        ``tokens(batch)``, a bool tensor, True where a position is real and False where it is padding. It counts for every layer
        whose input begins with the same dimensions. Otherwise the ``attention_mask`` of a mapping, if it has one.

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
    match batch:
        case Mapping():
            return model(**batch)
        case tuple() | list():
            return model(*batch)
        case _:
            return model(batch)


def tokens_of(data: Calibration, batch: Any, index: int) -> Tensor | None:
    """Return which positions of a batch are real, None if all are; `index` names the batch in the error."""
    if data.tokens is None:
        mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
        return mask.bool() if isinstance(mask, Tensor) and mask.ndim == 2 else None
    mask = data.tokens(batch)
    if mask is not None and (not isinstance(mask, Tensor) or mask.dtype != torch.bool):
        given = f"a tensor of {mask.dtype}" if isinstance(mask, Tensor) else f"a {type(mask).__name__}"
        raise ArgumentError(
            f"tokens must give a bool tensor, True for real positions, and for calibration batch {index} it gave {given}"
        )
    return mask


@contextmanager
def resting(model: nn.Module) -> Iterator[None]:
    """Put the model in eval mode, and every module back into its own mode afterwards.

    Torch's fused attention is off meanwhile: it computes a whole encoder layer at once, past the modules whose inputs are wanted.
    """
    modes = [(module, module.training) for module in model.modules()]
    fused = torch.backends.mha.get_fastpath_enabled()
    try:
        model.eval()
        torch.backends.mha.set_fastpath_enabled(False)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, mode in modes:
            module.training = mode
