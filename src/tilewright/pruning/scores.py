"""How much each element of a weight matters. A score prepares once for the whole model, then returns scores weight by weight.

To add a score, write a function with the signature of `magnitude` and add it to `SCORES`.
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
"""Returns the scores of one weight: a tensor of the weight's shape, non-negative, on any device."""


def magnitude(model: nn.Module, weights: Sequence[Weight], data: Calibration | None) -> Scorer:
    """Score an element by its absolute value."""
    if data is not None:
        raise ArgumentError(
            "score 'magnitude' takes no data; omit data, or use a score that needs it, such as 'taylor'"
        )
    return lambda weight: weight.tensor.detach().abs()


def wanda(model: nn.Module, weights: Sequence[Weight], data: Calibration | None) -> Scorer:
    """Score an element by its absolute value times the norm of its input over all tokens (Sun et al., arXiv 2306.11695, equation 1).

    Ranked within each output, as n:m patterns do, this is the method of the paper. In a convolution every position of the kernel
    counts as a token.
    """
    sums = collect(model, weights, _required("wanda", data), diagonal=True)
    return lambda weight: as_stored(weight, wanda_rows(as_rows(weight, weight.tensor.detach()), sums[weight.name]))


def second_order(model: nn.Module, weights: Sequence[Weight], data: Calibration | None) -> Scorer:
    """Score an element by the error left in the layer's output when it is removed and the rest of its row is adjusted.

    The score is the square root of the optimal brain surgeon's saliency for a linear layer, ``w**2 / [H^-1]_kk`` with ``H = X^T X``
    (Frantar and Alistarh, arXiv 2301.00774, equation 3). The root puts it on the scale of `wanda`, which it equals where inputs are
    uncorrelated; patterns that sum over tiles square it again.

    H is damped by 1% of its mean diagonal. The Gram matrices of all weights, each ``[K, K]``, are in memory at once.
    """
    sums = collect(model, weights, _required("second-order", data))
    return lambda weight: as_stored(
        weight, second_order_rows(as_rows(weight, weight.tensor.detach()), sums[weight.name])
    )


def taylor(model: nn.Module, weights: Sequence[Weight], data: Calibration | None) -> Scorer:
    """Score an element by how much removing it would change the loss, to first order.

    With g the gradient of one batch, the score is ``sqrt(sum over batches of (w * g)**2)``. Terms are squared before summing, as in
    Molchanov et al. (arXiv 1906.10771) and the artifact of Guo et al. (arXiv 2008.13006), because at the end of training
    the signed terms cancel. The root keeps the scale of ``|w * g|``; patterns that sum over tiles square it again.

    The model runs in eval mode; its gradients, modes and `requires_grad` flags are left unchanged.
    """
    if data is None or data.loss is None:
        raise ArgumentError("score 'taylor' needs data=Calibration(batches, loss) to compute gradients")
    squares = _accumulate(model, weights, data)
    for weight in weights:
        if not squares[weight.name].any():
            raise PatternError(
                f"the loss does not depend on {weight.name}: all its Taylor scores are zero; add it to ignore, or use score='magnitude'"
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
        raise ArgumentError(
            "score 'taylor' got no batches; data.batches is empty, or an iterator that is already exhausted"
        )
    return squares


def _loss(model: nn.Module, data: Calibration, batch: Any, index: int) -> Tensor:
    # cuDNN cannot take gradients through an RNN in eval mode; the plain kernels can.
    with torch.enable_grad(), torch.backends.cudnn.flags(enabled=not _recurrent(model)):
        assert data.loss is not None
        loss = data.loss(model, batch)
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        raise ArgumentError(
            f"the loss of calibration batch {index} must be a scalar tensor that depends on the weights; got "
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
