"""How much each element of a weight matters. A score prepares once for the whole model, then answers weight by weight.

A new score is one function with the signature of `magnitude` and one line in `SCORES`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ArgumentError, PatternError
from .inputs.activations import collect
from .inputs.calibration import Calibration, resting
from .inputs.saliency import second_order_rows, wanda_rows
from .matrices import as_rows, as_stored
from .weights import Weight

__all__ = ["SCORES", "Calibration", "Scorer", "magnitude", "second_order", "taylor", "wanda"]

Scorer = Callable[[Weight], Tensor]
"""Gives the scores of one weight: its shape, not negative, on any device."""


def magnitude(model: nn.Module, weights: Sequence[Weight], data: Calibration | None) -> Scorer:
    """Score an element by its absolute value."""
    if data is not None:
        raise ArgumentError("score 'magnitude' looks at no data; leave data out, or use score='taylor'")
    return lambda weight: weight.tensor.detach().abs()


def wanda(model: nn.Module, weights: Sequence[Weight], data: Calibration | None) -> Scorer:
    """Score an element by its absolute value times the norm of its input over all tokens (Sun et al., arXiv 2306.11695, equation 1).

    Ranked within an output, as n:m does, it is the paper's. Convolutions count every position of the kernel as a token.
    """
    sums = collect(model, weights, _required("wanda", data), diagonal=True)
    return lambda weight: as_stored(weight, wanda_rows(as_rows(weight, weight.tensor.detach()), sums[weight.name]))


def second_order(model: nn.Module, weights: Sequence[Weight], data: Calibration | None) -> Scorer:
    """Score an element by the error its removal leaves in the layer's output when all others of its output may adjust.

    This is the saliency of the optimal brain surgeon for a linear layer, ``w**2 / [H^-1]_kk`` with ``H = X^T X`` (Frantar and
    Alistarh, arXiv 2301.00774, equation 3), under the root: then the scale is that of `wanda`, with which it agrees where inputs are
    uncorrelated, and patterns that sum over tiles square it again.

    H is damped by 1% of its mean diagonal. All Gram matrices, ``[K, K]`` a weight, are held at once.
    """
    sums = collect(model, weights, _required("second-order", data))
    return lambda weight: as_stored(
        weight, second_order_rows(as_rows(weight, weight.tensor.detach()), sums[weight.name])
    )


def taylor(model: nn.Module, weights: Sequence[Weight], data: Calibration | None) -> Scorer:
    """Score an element by what removing it would change in the loss, to first order.

    With g the gradient of one batch, the score is ``sqrt(sum over batches of (w * g)**2)``: squared batch by batch before summing, as
    Molchanov et al. (arXiv 1906.10771) and Guo et al. (arXiv 2008.13006, the artifact) do, since at the end of training
    the signed terms cancel. The root keeps the scale of ``|w * g|``; patterns that sum over tiles square it again.

    The model runs in eval mode, its gradients, modes and `requires_grad` flags are left as they were.
    """
    if data is None or data.loss is None:
        raise ArgumentError("score 'taylor' needs data=Calibration(batches, loss) to take gradients from")
    squares = _accumulate(model, weights, data)
    for weight in weights:
        if not squares[weight.name].any():
            raise PatternError(
                f"the loss does not depend on {weight.name}: all its Taylor scores are zero; ignore it, or use score='magnitude'"
            )
    return lambda weight: squares[weight.name].sqrt()


def _required(score: str, data: Calibration | None) -> Calibration:
    if data is None:
        raise ArgumentError(f"score {score!r} needs data=Calibration(batches) to see the inputs of the layers")
    return data


def _accumulate(model: nn.Module, weights: Sequence[Weight], data: Calibration) -> dict[str, Tensor]:
    """Return the sum over batches of ``(w * g)**2`` of every weight."""
    tensors = [weight.tensor for weight in weights]
    squares = {w.name: torch.zeros_like(w.tensor, dtype=_wide(w.tensor), requires_grad=False) for w in weights}
    frozen = [tensor for tensor in tensors if not tensor.requires_grad]
    count = 0
    try:
        for tensor in frozen:
            tensor.requires_grad_(True)
        with resting(model):
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
    if not count:
        raise ArgumentError("score 'taylor' got no batch at all; data.batches is empty, or an iterator already used up")
    return squares


def _loss(model: nn.Module, data: Calibration, batch: Any, index: int) -> Tensor:
    # cuDNN cannot take gradients through an RNN in eval mode; the plain kernels can.
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=not _recurrent(model)):
        assert data.loss is not None
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
    "wanda": wanda,
    "second-order": second_order,
}
