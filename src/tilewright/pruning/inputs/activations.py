"""Second moments of the inputs of weights, gathered by hooks while the model runs on calibration data.

Products of a batch are computed, and summed over batches, in float32, or in float64 if the inputs are float64. Over 64k tokens the
rounding of these sums stays below the damping that every user of them applies.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ArgumentError, NotSupportedError
from ..weights import Weight
from .calibration import Calibration, call, padding_of, resting
from .layers import hosts, seen, shown
from .padding import Padding, PaddingReader

__all__ = ["Moments", "add_moments", "collect", "products", "require_seen", "same", "version"]


@dataclass
class Moments:
    """Moments of the inputs ``X [M, K]`` of a range of a weight's outputs.

    Parameters
    ----------
    outputs
        Range of outputs: all of them, except in grouped convolutions and packed attention projections.
    count
        Number of rows M.
    gram
        Gram matrix ``X^T X``, ``[K, K]``, or only its diagonal, ``[K]``.
    total
        Sum of the rows, ``[K]``.
    cross
        ``Y^T X``, ``[K, K]``, with Y the same rows in the dense model; None (the default) if not collected.
    other
        Sum of the rows of Y, ``[K]``; None if `cross` is None.
    """

    outputs: slice
    count: int
    gram: Tensor
    total: Tensor
    cross: Tensor | None = None
    other: Tensor | None = None

    @property
    def squares(self) -> Tensor:
        """Sum of squares of every input, ``[K]``."""
        return self.gram if self.gram.ndim == 1 else self.gram.diagonal()


def products(outputs: slice, rows: Tensor, diagonal: bool, reference: Tensor | None = None) -> Moments:
    """Return the moments of rows ``[M, K]``, including `Moments.cross` and `Moments.other` if a reference is given."""
    wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
    total = wide.sum(dim=0)
    if diagonal:
        return Moments(outputs, len(wide), wide.square().sum(dim=0), total)
    if reference is None:
        return Moments(outputs, len(wide), wide.T @ wide, total)
    other = reference.to(wide.dtype)
    return Moments(outputs, len(wide), wide.T @ wide, total, other.T @ wide, other.sum(dim=0))


def add_moments(sums: list[Moments], added: Moments) -> None:
    """Add moments to the entry of `sums` with the same range of outputs, or append them; no tensor is written to."""
    for index, entry in enumerate(sums):
        if entry.outputs == added.outputs:
            sums[index] = Moments(
                entry.outputs,
                entry.count + added.count,
                entry.gram + added.gram,
                entry.total + added.total,
                None if entry.cross is None or added.cross is None else entry.cross + added.cross,
                None if entry.other is None or added.other is None else entry.other + added.other,
            )
            return
    sums.append(added)


def collect(
    model: nn.Module, weights: Sequence[Weight], data: Calibration, *, diagonal: bool = False
) -> dict[str, list[Moments]]:
    """Return the moments of the inputs of every weight over all batches, by weight name.

    The model runs in eval mode without gradients and is not changed. Weights that receive the same tensor share its product.

    Parameters
    ----------
    model, weights
        Model to run, and its weights of interest.
    data
        Calibration batches.
    diagonal
        If True, collect only the diagonal of the Gram matrices. Default: False.

    Raises
    ------
    ArgumentError
        If there are no batches, a weight's module never runs, or its inputs are not finite.
    NotSupportedError
        If the inputs of a weight cannot be read from the call of its module, or are all zero.
    """
    sums: dict[str, list[Moments]] = {weight.name: [] for weight in weights}
    gatherer, reader = _Gatherer(sums, diagonal), PaddingReader(model)
    handles = [
        host.register_forward_pre_hook(gatherer.hook(hosted), with_kwargs=True)
        for host, hosted in hosts(model, weights).values()
    ]
    count = 0
    try:
        with resting(model), torch.no_grad():
            for batch in data.batches:
                gatherer.tokens = padding_of(reader, data, batch, count)
                call(model, data, batch)
                count += 1
    finally:
        for handle in handles:
            handle.remove()
    if not count:
        raise ArgumentError("no calibration batches; data.batches is empty, or an iterator that is already exhausted")
    for weight in weights:
        require_seen(weight, sums[weight.name])
    return sums


class _Gatherer:
    """Sum of products as hosts are called. Keeps the last product for other weights that receive the same tensor."""

    def __init__(self, sums: dict[str, list[Moments]], diagonal: bool) -> None:
        self.tokens: Padding | None = None
        self._sums = sums
        self._diagonal = diagonal
        self._key: tuple[Any, int, Any] = (None, 0, None)
        self._last: list[Moments] = []

    def hook(self, weights: Sequence[Weight]) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def before(host: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            for weight in weights:
                for moments in self._products(host, weight, args, kwargs):
                    add_moments(self._sums[weight.name], moments)

        return before

    def _products(
        self, host: nn.Module, weight: Weight, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> list[Moments]:
        source = shown(host, weight, args, kwargs)
        key = (source, version(source), self.tokens)
        if not same(key, self._key):
            rows = seen(host, weight, args, kwargs, self.tokens)
            self._last = [products(outputs, inputs, self._diagonal) for outputs, inputs in rows]
            self._key = key
        if len(self._last) == 1:  # the rows concern all outputs, whose number depends on the weight
            return [replace(self._last[0], outputs=slice(0, weight.matrix_shape[0]))]
        return self._last


def version(source: Any) -> int:
    """Return torch's version counter of a tensor, which shows writes in place; 0 where there is none."""
    return source._version if isinstance(source, Tensor) and not source.is_inference() else 0


def same(key: tuple[Any, int, Any], other: tuple[Any, int, Any]) -> bool:
    """Return whether two keys refer to the same tensor, unchanged, with the same padding."""
    return key[0] is not None and key[0] is other[0] and key[1] == other[1] and key[2] is other[2]


def require_seen(weight: Weight, sums: Sequence[Moments]) -> None:
    """Raise if the inputs of a weight were never seen, are not finite, or are all zero."""
    if not sums or not sum(moments.count for moments in sums):
        raise ArgumentError(
            f"{weight.name} is never used on the calibration data, so its inputs are unknown; add it to ignore, or pass batches and "
            "a forward that reach it"
        )
    for moments in sums:
        if not bool(torch.isfinite(moments.gram).all()):
            raise ArgumentError(
                f"the inputs of {weight.name} contain NaN or infinity on the calibration data, or overflow when squared; check "
                "the batches, or add it to ignore"
            )
        if not moments.squares.any():
            raise NotSupportedError(
                f"all inputs of {weight.name} are zero on the calibration data, so its elements cannot be ranked; add it to ignore, or "
                "use score='magnitude'"
            )
