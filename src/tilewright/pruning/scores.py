"""How much each element of a weight matters. A score prepares once for the whole model, then answers weight by weight.

A new score is one function with the signature of `magnitude` and one line in `SCORES`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, PatternError
from .weights import Weight

__all__ = ["SCORES", "Calibration", "Scorer", "magnitude", "taylor"]

Scorer = Callable[[Weight], Tensor]
"""Gives the scores of one weight: its shape, not negative, on any device."""


@dataclass(frozen=True)
class Calibration:
    """Data for the scores that need it.

    Parameters
    ----------
    batches
        Walked through once.
    loss
        ``loss(model, batch)``, a scalar tensor that gradients flow back from.
    """

    batches: Iterable[Any]
    loss: Callable[[nn.Module, Any], Tensor]


def magnitude(model: nn.Module, weights: Sequence[Weight], data: Calibration | None) -> Scorer:
    """Score an element by its absolute value."""
    if data is not None:
        raise ArgumentError("score 'magnitude' looks at no data; leave data out, or use score='taylor'")
    return lambda weight: weight.tensor.detach().abs()


def taylor(model: nn.Module, weights: Sequence[Weight], data: Calibration | None) -> Scorer:
    """Score an element by what removing it would change in the loss, to first order.

    With g the gradient of one batch, the score is ``sqrt(sum over batches of (w * g)**2)``: squared batch by batch before summing, as
    Molchanov et al. (arXiv 1906.10771) and Guo et al. (arXiv 2008.13006, the artifact) do, since at the end of training
    the signed terms cancel. The root keeps the scale of ``|w * g|``; patterns that sum over tiles square it again.

    The model runs in eval mode, its gradients, modes and `requires_grad` flags are left as they were.
    """
    if data is None:
        raise ArgumentError("score 'taylor' needs data=Calibration(batches, loss) to take gradients from")
    squares = _accumulate(model, weights, data)
    for weight in weights:
        if not squares[weight.name].any():
            raise PatternError(
                f"the loss does not depend on {weight.name}: all its Taylor scores are zero; ignore it, or use score='magnitude'"
            )
    return lambda weight: squares[weight.name].sqrt()


def _accumulate(model: nn.Module, weights: Sequence[Weight], data: Calibration) -> dict[str, Tensor]:
    """Return the sum over batches of ``(w * g)**2`` of every weight."""
    tensors = [weight.tensor for weight in weights]
    squares = {w.name: torch.zeros_like(w.tensor, dtype=_wide(w.tensor), requires_grad=False) for w in weights}
    modes = [(module, module.training) for module in model.modules()]
    frozen = [tensor for tensor in tensors if not tensor.requires_grad]
    count = 0
    try:
        model.eval()
        for tensor in frozen:
            tensor.requires_grad_(True)
        for batch in data.batches:
            loss = _loss(model, data, batch, count)
            gradients = torch.autograd.grad(loss, tensors, allow_unused=True)
            for weight, gradient in zip(weights, gradients, strict=True):
                if gradient is not None:
                    wide = _wide(gradient)
                    squares[weight.name] += (weight.tensor.detach().to(wide) * gradient.to(wide)).square()
            count += 1
    finally:
        for tensor in frozen:
            tensor.requires_grad_(False)
        for module, mode in modes:
            module.training = mode
    if not count:
        raise ArgumentError("score 'taylor' got no batch at all; data.batches is empty, or an iterator already used up")
    return squares


def _loss(model: nn.Module, data: Calibration, batch: Any, index: int) -> Tensor:
    # cuDNN cannot take gradients through an RNN in eval mode; the plain kernels can.
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=not _recurrent(model)):
        loss = data.loss(model, batch)
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        raise ArgumentError(
            f"the loss of calibration batch {index} must be a scalar tensor that depends on the weights, and it is "
            f"{f'a tensor of shape {list(loss.shape)}' if isinstance(loss, Tensor) else type(loss).__name__}"
        )
    if not torch.isfinite(loss):
        raise ArgumentError(f"the loss of calibration batch {index} is {loss.item()}; scores need finite gradients")
    return loss


def _recurrent(model: nn.Module) -> bool:
    return any(isinstance(module, nn.RNNBase) for module in model.modules())


def _wide(tensor: Tensor) -> torch.dtype:
    """Half precision would lose small squares."""
    return torch.promote_types(tensor.dtype, torch.float32)


SCORES: dict[str, Callable[[nn.Module, Sequence[Weight], Calibration | None], Scorer]] = {
    "magnitude": magnitude,
    "taylor": taylor,
}
