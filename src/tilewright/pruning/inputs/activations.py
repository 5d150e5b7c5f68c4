"""Second moments of what weights multiply, gathered by hooks while the model runs on calibration data.

Products of a batch are taken, and summed over batches, in float32; in float64 where the inputs are float64. Sums of products of
64k tokens lose about six of float32's seven digits only to parts that the damping of every user of them covers.
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
    """What is known about the inputs ``X [M, K]`` of a range of a weight's outputs.

    Parameters
    ----------
    outputs
        The range: all of them, but for grouped convolutions and packed attention projections.
    count
        Rows summed up, M.
    gram
        ``X^T X``, ``[K, K]``; or only its diagonal, ``[K]``.
    total
        Sum of the rows, ``[K]``.
    cross
        ``Y^T X``, ``[K, K]``, with Y the same rows as the dense model sees them; None if not asked for.
    other
        Sum of the rows of Y, ``[K]``; None where `cross` is.
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
    """Return the moments of rows ``[M, K]``, with those of the reference beside them if there is one."""
    wide = rows.to(torch.promote_types(rows.dtype, torch.float32))
    total = wide.sum(dim=0)
    if diagonal:
        return Moments(outputs, len(wide), wide.square().sum(dim=0), total)
    if reference is None:
        return Moments(outputs, len(wide), wide.T @ wide, total)
    beside = reference.to(wide.dtype)
    return Moments(outputs, len(wide), wide.T @ wide, total, beside.T @ wide, beside.sum(dim=0))


def add_moments(sums: list[Moments], found: Moments) -> None:
    """Add moments to those of the same range of outputs, which is new if none has it. Neither is written to."""
    for index, known in enumerate(sums):
        if known.outputs == found.outputs:
            sums[index] = Moments(
                known.outputs,
                known.count + found.count,
                known.gram + found.gram,
                known.total + found.total,
                None if known.cross is None or found.cross is None else known.cross + found.cross,
                None if known.other is None or found.other is None else known.other + found.other,
            )
            return
    sums.append(found)


def collect(
    model: nn.Module, weights: Sequence[Weight], data: Calibration, *, diagonal: bool = False
) -> dict[str, list[Moments]]:
    """Return the moments of the inputs of every weight, over all batches, by weight name.

    The model runs in eval mode without gradients and is left as it was. Weights that are shown the same tensor share its product.

    Raises
    ------
    ArgumentError
        If there is no batch, a weight's module never ran, or the inputs are not finite.
    NotSupportedError
        If a module's call does not show the inputs of its weight.
    """
    sums: dict[str, list[Moments]] = {weight.name: [] for weight in weights}
    gatherer, reader = _Gatherer(sums, diagonal), PaddingReader(model)
    handles = [
        host.register_forward_pre_hook(gatherer.hook(own), with_kwargs=True)
        for host, own in hosts(model, weights).values()
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
        raise ArgumentError("no calibration batch came; data.batches is empty, or an iterator already used up")
    for weight in weights:
        require_seen(weight, sums[weight.name])
    return sums


class _Gatherer:
    """Adds up products as hosts are called; keeps the last, for weights that are shown the same tensor again."""

    def __init__(self, sums: dict[str, list[Moments]], diagonal: bool) -> None:
        self.tokens: Padding | None = None
        self._sums = sums
        self._diagonal = diagonal
        self._key: tuple[Any, int, Any] = (None, 0, None)
        self._last: list[Moments] = []

    def hook(self, own: Sequence[Weight]) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def before(host: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            for weight in own:
                for found in self._products(host, weight, args, kwargs):
                    add_moments(self._sums[weight.name], found)

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
        if len(self._last) == 1:  # seen by all outputs: how many there are is the weight's own matter
            return [replace(self._last[0], outputs=slice(0, weight.matrix_shape[0]))]
        return self._last


def version(source: Any) -> int:
    """Return how often a tensor was written to: the same tensor holds other inputs after a write in place."""
    return source._version if isinstance(source, Tensor) and not source.is_inference() else 0


def same(key: tuple[Any, int, Any], other: tuple[Any, int, Any]) -> bool:
    """Say whether two keys mean the same tensor, unchanged, under the same mask."""
    return key[0] is not None and key[0] is other[0] and key[1] == other[1] and key[2] is other[2]


def require_seen(weight: Weight, sums: Sequence[Moments]) -> None:
    """Raise if nothing, or nothing usable, is known about the inputs of a weight."""
    if not sums or not sum(moments.count for moments in sums):
        raise ArgumentError(
            f"{weight.name} was never used on the calibration data, so nothing is known about its inputs; put it under ignore, or "
            "give batches and a forward that reach it"
        )
    for moments in sums:
        if not bool(torch.isfinite(moments.gram).all()):
            raise ArgumentError(
                f"the inputs of {weight.name} hold NaN or infinity on the calibration data, or overflow when squared; look "
                "at the batches, or put it under ignore"
            )
        if not moments.squares.any():
            raise NotSupportedError(
                f"all inputs of {weight.name} are zero on the calibration data, so no choice among its elements is better than another; "
                "put it under ignore, or use score='magnitude'"
            )
