"""`Obs`: one weight pruned and its kept elements moved, so that its layer's output changes least."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ArgumentError, unknown
from ...patterns import NM, Pattern
from ...patterns import mask as project_mask
from ..inputs.activations import Moments
from ..inputs.saliency import DAMPING, damped, second_order_rows
from .refit import errors, refit, unrestricted
from .sweep import sweep

__all__ = ["Obs", "Solved", "update_rows"]

_LEAST_VARIANCE = 1e-4
"""Of second moments: below it, a covariance is lost in the rounding of float32."""


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
        copy of the model. Better where much is lost, worse where little is: see the page on one-shot pruning. Without
        `sequential` the two are one.
    ridge
        For the target ``"dense"``: how firmly dense weights hold against fitting the changed inputs, as a fraction of the mean
        diagonal.
    block
        Inputs the n:m sweep corrects one by one.
    iterations
        Of conjugate gradients, at most, for outputs with masks of their own.
    bias
        Move the bias of a layer that has one as well, so that the mean of what is pruned is not lost. None: with the target
        ``"dense"`` only; alone it makes outputs more alike.

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
    ridge: float = 0.1
    bias: bool | None = None

    def __post_init__(self) -> None:
        if not (self.damping > 0 and self.ridge >= 0):
            raise ArgumentError(
                f"damping must be above 0 and ridge at least 0; got {self.damping} and {self.ridge}, where 0.01 and 0.1 suit most data"
            )
        if self.target not in ("own", "dense"):
            raise ArgumentError(unknown("target of an update", self.target, ("own", "dense")))
        if self.block < 1 or self.iterations < 0:
            raise ArgumentError(
                f"block must be at least 1 and iterations at least 0; got {self.block} and {self.iterations}"
            )

    @property
    def moves_bias(self) -> bool:
        """Whether biases move: what `bias` says, or what suits the target."""
        return self.target == "dense" if self.bias is None else self.bias


@dataclass(frozen=True)
class Solved:
    """One weight after the update.

    Parameters
    ----------
    weights, mask
        ``[N, K]``; pruned elements are zero.
    shift
        What is added to the bias, ``[N]``; zero where it may not move.
    before, after
        Squared error of the layer's output relative to its power: of the dense weights under the mask, and of the updated ones.
    """

    weights: Tensor
    mask: NDArray[np.bool_]
    shift: Tensor
    before: float
    after: float


def update_rows(
    weights: Tensor,
    sums: Sequence[Moments],
    pattern: Pattern,
    mask: NDArray[np.bool_] | None,
    options: Obs,
    biased: bool = False,
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
    biased
        The outputs have a bias that may move. The best bias for given weights makes up for the mean of the error, which leaves
        the weights to the inputs' covariance in place of their second moments.
    """
    wide = weights.detach().to(torch.promote_types(weights.dtype, torch.float32))
    raw, sums = sums, [_centered(moments, biased and options.moves_bias) for moments in sums]
    target = wide.clone()
    for moments in sums:
        if moments.cross is not None:
            own = moments.outputs
            target[own] = unrestricted(wide[own], moments.cross, moments.gram, options.ridge)
    if mask is None and _swept(pattern, sums):
        start, chosen = _sweep(target, sums, pattern, options)
    else:
        if mask is None:
            scores = second_order_rows(target, raw, options.damping)
            mask = project_mask(pattern, scores.cpu().numpy())
        chosen = torch.from_numpy(mask).to(wide.device)
        start = target * chosen
    found = torch.zeros_like(wide)
    for moments in sums:
        own, hessian = moments.outputs, damped(moments.gram, options.damping)
        found[own] = refit(start[own], chosen[own], target[own], hessian, options.iterations)
    shift = _shift(found, wide, sums)
    power = _error(torch.zeros_like(wide), target, sums, _shift(torch.zeros_like(wide), wide, sums))
    before = _error(wide * chosen, target, sums, _shift(wide * chosen, wide, sums))
    after = _error(found, target, sums, torch.zeros_like(shift))
    relative = (before / power, after / power) if power else (0.0, 0.0)
    return Solved(found, chosen.cpu().numpy(), shift, *relative)


def _centered(moments: Moments, wanted: bool) -> Moments:
    """Return moments about the means, with the means in place of the sums; about zero, with no means, if that is not wanted.

    Inputs that hardly vary stay as they are: their covariance would be what rounding left of a difference.
    """
    mean, count = moments.total.double() / moments.count, moments.count
    gram = moments.gram.double() - count * torch.outer(mean, mean)
    if not wanted or gram.diagonal().mean() < _LEAST_VARIANCE * moments.squares.mean():
        return replace(moments, total=torch.zeros_like(moments.total), other=None)
    cross, other = moments.cross, mean
    if moments.cross is not None and moments.other is not None:
        other = moments.other.double() / count
        cross = (moments.cross.double() - count * torch.outer(other, mean)).to(moments.gram.dtype)
    return replace(moments, gram=gram.to(moments.gram.dtype), total=mean, cross=cross, other=other)


def _shift(weights: Tensor, dense: Tensor, sums: Sequence[Moments]) -> Tensor:
    """Return what must be added to the outputs of centered inputs so that their means are those of the dense weights: ``[N]``."""
    shift = dense.new_zeros(len(dense))
    for moments in sums:
        if moments.other is not None:
            own = moments.outputs
            shift[own] = dense[own] @ moments.other.to(dense.dtype) - weights[own] @ moments.total.to(dense.dtype)
    return shift


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


def _error(weights: Tensor, target: Tensor, sums: Sequence[Moments], apart: Tensor) -> float:
    """Return the squared error of all outputs, whose means are `apart` from where they should be."""
    total: Any = sum(
        errors(weights[m.outputs], target[m.outputs], m.gram).sum() + m.count * apart[m.outputs].square().sum()
        for m in sums
    )
    return float(total)
