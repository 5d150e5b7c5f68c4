"""`Obs`: one weight pruned and its kept elements moved, so that its layer's output changes least."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import ArgumentError
from ..patterns import NM, Pattern
from ..patterns import mask as project_mask
from .activations import Moments
from .obs import sweep
from .refit import errors, refit, unrestricted
from .saliency import DAMPING, damped, second_order_rows

__all__ = ["Obs", "Solved", "update_rows"]


@dataclass(frozen=True)
class Obs:
    """How kept weights are updated.

    Parameters
    ----------
    damping
        Added to the diagonal of ``X^T X``, as a fraction of its mean.
    sequential
        Take each layer's inputs from the model as pruned so far, in the order in which data reach the layers; otherwise all from the
        dense model.
    target
        ``"own"``: the output of the dense weights on the inputs the pruned model gives. ``"dense"``: the output of the dense
        weights on the inputs the dense model gives, so that a layer also makes up for those before it; needs a second
        copy of the model, and more data. Without `sequential` the two are one.
    block
        Inputs the n:m sweep corrects one by one.
    iterations
        Of conjugate gradients, at most, for outputs with masks of their own.

    Raises
    ------
    ArgumentError
        If a value is outside what is said above.
    """

    damping: float = DAMPING
    sequential: bool = True
    target: str = "own"
    block: int = 128
    iterations: int = 50

    def __post_init__(self) -> None:
        if not self.damping > 0:
            raise ArgumentError(f"damping must be above 0, and it is {self.damping}; 0.01 suits most data")
        if self.target not in ("own", "dense"):
            raise ArgumentError(f"{self.target!r} is no target of an update; there are 'own' and 'dense'")
        if self.block < 1 or self.iterations < 0:
            raise ArgumentError(
                f"block must be at least 1 and iterations at least 0; got {self.block} and {self.iterations}"
            )


@dataclass(frozen=True)
class Solved:
    """One weight after the update.

    Parameters
    ----------
    weights, mask
        ``[N, K]``; pruned elements are zero.
    before, after
        Squared error of the layer's output relative to its power: of the dense weights under the mask, and of the updated ones.
    """

    weights: Tensor
    mask: NDArray[np.bool_]
    before: float
    after: float


def update_rows(
    weights: Tensor, sums: Sequence[Moments], pattern: Pattern, mask: NDArray[np.bool_] | None, options: Obs
) -> Solved:
    """Prune and update one weight.

    Parameters
    ----------
    weights
        Dense, ``[N, K]``.
    sums
        Of its inputs; together they cover all outputs.
    pattern
        What the mask must look like.
    mask
        ``[N, K]``, bool; None to choose it by second-order saliency: for n:m along the sweep, on weights that carry the corrections
        so far, for other patterns once at the start.
    """
    wide = weights.detach().to(torch.promote_types(weights.dtype, torch.float32))
    target = wide.clone()
    for moments in sums:
        if moments.cross is not None:
            own = moments.outputs
            target[own] = unrestricted(wide[own], moments.cross, moments.gram, options.damping)
    if mask is None and _swept(pattern, sums):
        start, chosen = _sweep(target, sums, pattern, options)
    else:
        if mask is None:
            scores = second_order_rows(target, sums, options.damping)
            mask = project_mask(pattern, scores.cpu().numpy())
        chosen = torch.from_numpy(mask).to(wide.device)
        start = target * chosen
    found = torch.zeros_like(wide)
    for moments in sums:
        own, hessian = moments.outputs, damped(moments.gram, options.damping)
        found[own] = refit(start[own], chosen[own], target[own], hessian, options.iterations)
    power = _error(torch.zeros_like(wide), target, sums)
    before, after = (_error(w, target, sums) / power if power else 0.0 for w in (wide * chosen, found))
    return Solved(found, chosen.cpu().numpy(), before, after)


def _swept(pattern: Pattern, sums: Sequence[Moments]) -> bool:
    """Say whether the sweep can choose the mask: n:m, with tiles that do not cross from one range of outputs into the next."""
    return (
        isinstance(pattern, NM)
        and not pattern.transposable
        and all(moments.outputs.start % pattern.tile == 0 for moments in sums)
    )


def _sweep(target: Tensor, sums: Sequence[Moments], pattern: Pattern, options: Obs) -> tuple[Tensor, Tensor]:
    assert isinstance(pattern, NM)
    start, chosen = torch.zeros_like(target), torch.zeros(target.shape, dtype=torch.bool, device=target.device)
    for moments in sums:
        own = moments.outputs
        start[own], chosen[own] = sweep(target[own], damped(moments.gram, options.damping), pattern, options.block)
    return start, chosen


def _error(weights: Tensor, target: Tensor, sums: Sequence[Moments]) -> float:
    total: Any = sum(errors(weights[m.outputs], target[m.outputs], m.gram).sum() for m in sums)
    return float(total)
