"""`Obs`: options of the update, and the update of one weight so that the output of its layer changes least."""

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
"""Least variance, as a fraction of the second moments, for which a covariance is not lost to float32 rounding."""


@dataclass(frozen=True)
class Obs:
    """Options of the update of kept weights, for ``sparsify_(..., update=Obs(...))``.

    Parameters
    ----------
    damping
        Value added to the diagonal of ``X^T X``, as a fraction of its mean. Default: 0.01.
    sequential
        If True (the default), each layer's inputs come from the model as pruned so far, with layers in the order in which data reach
        them. If False, all inputs come from the dense model.
    target
        Output that a layer should reproduce. ``"own"`` (the default) is the output of its dense weights on inputs from the pruned
        model. ``"dense"`` is the output of its dense weights on inputs from the dense model, so that a layer also compensates for the
        layers before it; this needs a second copy of the model. ``"dense"`` is better if much is lost and worse if little is; see the
        page on one-shot pruning. Without `sequential` the two are the same.
    block
        Number of inputs that the n:m sweep corrects one by one before it updates the rest in one product. Default: 128.
    iterations
        Maximum number of conjugate-gradient iterations for outputs that do not share a mask. Default: 50.
    ridge
        Strength of the pull toward the dense weights when they are fitted to the changed inputs, as a fraction of the mean diagonal of
        ``X^T X``; used with the target ``"dense"``. Default: 0.1.
    bias
        Whether to also update biases, so that the mean of what is pruned is not lost. Default (None): only with the target ``"dense"``,
        because with ``"own"`` it makes the outputs for different inputs more alike.

    Raises
    ------
    ArgumentError
        If an option is out of range.
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
                f"damping must be above 0 and ridge at least 0; got {self.damping} and {self.ridge}. The defaults, 0.01 and 0.1, suit most data"
            )
        if self.target not in ("own", "dense"):
            raise ArgumentError(unknown("target of an update", self.target, ("own", "dense")))
        if self.block < 1 or self.iterations < 0:
            raise ArgumentError(
                f"block must be at least 1 and iterations at least 0; got {self.block} and {self.iterations}"
            )

    @property
    def moves_bias(self) -> bool:
        """Whether biases are updated: `bias`, or by default whether the target is ``"dense"``."""
        return self.target == "dense" if self.bias is None else self.bias


@dataclass(frozen=True)
class Solved:
    """One weight after the update.

    Parameters
    ----------
    weights
        Updated weights ``[N, K]``; pruned elements are zero.
    mask
        Mask ``[N, K]``, bool, True = kept.
    shift
        Change of the bias, ``[N]``; zero if the bias is not updated.
    before, after
        Squared error of the layer's output relative to its power, for the masked dense weights and for the updated weights.
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
        Dense weights ``[N, K]``.
    sums
        Moments of the inputs; together they cover all outputs.
    pattern
        Pattern that the mask must obey.
    mask
        Mask ``[N, K]``, bool. None chooses it by second-order saliency: for n:m during the sweep, on weights that already include the
        corrections made so far; for other patterns once at the start.
    options
        Options of the update.
    biased
        Whether the outputs have a bias that may be updated. The best bias for given weights removes the mean of the error, so the
        weights are then fitted to the covariance of the inputs instead of their second moments. Default: False.
    """
    wide = weights.detach().to(torch.promote_types(weights.dtype, torch.float32))
    raw, sums = sums, [_centered(moments, biased and options.moves_bias) for moments in sums]
    target = wide.clone()
    for moments in sums:
        if moments.cross is not None:
            outputs = moments.outputs
            target[outputs] = unrestricted(wide[outputs], moments.cross, moments.gram, options.ridge)
    if mask is None and _swept(pattern, sums):
        start, kept = _sweep(target, sums, pattern, options)
    else:
        if mask is None:
            scores = second_order_rows(target, raw, options.damping)
            mask = project_mask(pattern, scores.cpu().numpy())
        kept = torch.from_numpy(mask).to(wide.device)
        start = target * kept
    updated = torch.zeros_like(wide)
    for moments in sums:
        outputs, hessian = moments.outputs, damped(moments.gram, options.damping)
        updated[outputs] = refit(start[outputs], kept[outputs], target[outputs], hessian, options.iterations)
    shift = _shift(updated, wide, sums)
    power = _error(torch.zeros_like(wide), target, sums, _shift(torch.zeros_like(wide), wide, sums))
    before = _error(wide * kept, target, sums, _shift(wide * kept, wide, sums))
    after = _error(updated, target, sums, torch.zeros_like(shift))
    relative = (before / power, after / power) if power else (0.0, 0.0)
    return Solved(updated, kept.cpu().numpy(), shift, *relative)


def _centered(moments: Moments, center: bool) -> Moments:
    """Return moments about the mean, with means in place of the sums; without `center`, moments about zero and no means.

    Inputs that hardly vary are not centered: their covariance would be little more than rounding error.
    """
    mean, count = moments.total.double() / moments.count, moments.count
    gram = moments.gram.double() - count * torch.outer(mean, mean)
    if not center or gram.diagonal().mean() < _LEAST_VARIANCE * moments.squares.mean():
        return replace(moments, total=torch.zeros_like(moments.total), other=None)
    cross, other = moments.cross, mean
    if moments.cross is not None and moments.other is not None:
        other = moments.other.double() / count
        cross = (moments.cross.double() - count * torch.outer(other, mean)).to(moments.gram.dtype)
    return replace(moments, gram=gram.to(moments.gram.dtype), total=mean, cross=cross, other=other)


def _shift(weights: Tensor, dense: Tensor, sums: Sequence[Moments]) -> Tensor:
    """Return the change of the bias, ``[N]``, that gives the outputs the same means as the dense weights do."""
    shift = dense.new_zeros(len(dense))
    for moments in sums:
        if moments.other is not None:
            outputs = moments.outputs
            shift[outputs] = dense[outputs] @ moments.other.to(dense.dtype) - weights[outputs] @ moments.total.to(
                dense.dtype
            )
    return shift


def _swept(pattern: Pattern, sums: Sequence[Moments]) -> bool:
    """Return whether the sweep can choose the mask: n:m, with no tile that extends over two ranges of outputs."""
    return (
        isinstance(pattern, NM)
        and not pattern.transposable
        and all(moments.outputs.start % pattern.tile == 0 for moments in sums)
    )


def _sweep(target: Tensor, sums: Sequence[Moments], pattern: Pattern, options: Obs) -> tuple[Tensor, Tensor]:
    assert isinstance(pattern, NM)
    start, kept = torch.zeros_like(target), torch.zeros(target.shape, dtype=torch.bool, device=target.device)
    for moments in sums:
        outputs = moments.outputs
        start[outputs], kept[outputs] = sweep(
            target[outputs], damped(moments.gram, options.damping), pattern, options.block
        )
    return start, kept


def _error(weights: Tensor, target: Tensor, sums: Sequence[Moments], offset: Tensor) -> float:
    """Return the squared error of all outputs, whose means are off by `offset`, ``[N]``."""
    error: Any = sum(
        errors(weights[m.outputs], target[m.outputs], m.gram).sum() + m.count * offset[m.outputs].square().sum()
        for m in sums
    )
    return float(error)
