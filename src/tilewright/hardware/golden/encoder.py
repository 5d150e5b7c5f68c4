"""A BERT encoder layer in the engine's integers, from the int8 input to the int8 output."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError
from ...formats import Packed
from .floats import FloatLayer, Real, float_gelu, join_heads, split_heads
from .functions import LayerNormUnit, gelu_table, look_up
from .products import IntegerWeight, dense_dense, sparse_dense
from .requantise import FixedPoint, fixed_point, quantise, requantise, scale_for
from .softmax import SoftmaxUnit

__all__ = ["IntegerLayer", "IntegerLinear", "best_scale"]

SAMPLE = 1 << 16
"""How many evenly spaced elements of a tensor its scale is chosen on."""


@dataclass(frozen=True, eq=False)
class IntegerLinear:
    """A linear layer in integers: an int8 weight, an int32 bias, and the requantisation of each output.

    Parameters
    ----------
    weight
        The int8 weight, n:m or dense.
    bias
        int64 ``[N]`` in the range of int32, in steps of input scale x weight scale.
    factor
        Factors from the accumulators to the output scale, one per output.
    bits
        Width of the result in bits. Default: 8.
    """

    weight: IntegerWeight
    bias: NDArray[np.int64]
    factor: FixedPoint
    bits: int = 8

    @classmethod
    def of(
        cls,
        weight: Packed | NDArray[Any],
        bias: NDArray[Any],
        scale_in: float,
        scale_out: float,
        bits: int = 8,
    ) -> "IntegerLinear":
        """Return a linear layer quantised to integers; a packed n:m weight keeps its pattern.

        Parameters
        ----------
        weight
            Packed n:m weight, or dense array ``[N, K]``.
        bias
            Real ``[N]``.
        scale_in, scale_out
            Step of the input and of the output.
        bits
            Width of the result in bits. Default: 8.

        Notes
        -----
        An output whose weights are all zero has no scale of its own; its weight scale is ``scale_out / scale_in /
        2**16``, for its bias.
        """
        held = IntegerWeight.of(weight) if isinstance(weight, Packed) else IntegerWeight.dense(weight)
        empty = ~held.values.any(axis=(1, 2))
        step = scale_in * np.where(empty, scale_out / scale_in / (1 << 16), held.scale)
        return cls(held, np.rint(np.asarray(bias) / step).astype(np.int64), fixed_point(step / scale_out), bits)

    def run(self, x: NDArray[np.int8]) -> NDArray[Any]:
        """Return the requantised product of int8 x ``[..., K]`` as integers ``[..., N]`` of `bits` bits."""
        sums = sparse_dense(x.reshape(-1, x.shape[-1]), self.weight, self.bias)
        narrow = requantise(sums, self.factor, self.bits)
        return narrow.astype(np.int8 if self.bits <= 8 else np.int16).reshape(*x.shape[:-1], -1)


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """An encoder layer as the engine computes it; `of` quantises a float layer.

    Parameters
    ----------
    linears
        The products with weights, by name in `LINEARS`. ``output`` and ``down`` return 16 bits, the others 8.
    softmax
        The softmax unit between the two products of attention.
    context
        Factor from probabilities x values to int8.
    residual
        Factors from the int8 inputs of the two halves to the 16-bit scales of their sums.
    norms
        The two layer norms.
    gelu
        GELU table, int8 ``[256]``.
    heads
        Number of attention heads.
    scales
        Step of each int8 and int16 tensor, by its name in `FloatLayer.run`.
    """

    linears: Mapping[str, IntegerLinear]
    softmax: SoftmaxUnit
    context: FixedPoint
    residual: tuple[FixedPoint, FixedPoint]
    norms: tuple[LayerNormUnit, LayerNormUnit]
    gelu: NDArray[np.int8]
    heads: int
    scales: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        layer: FloatLayer,
        calibration: NDArray[Any],
        mask: NDArray[np.bool_] | None = None,
        *,
        packed: Mapping[str, Packed] | None = None,
        lanes: int = 16,
    ) -> "IntegerLayer":
        """Return the layer quantised symmetrically: weights per output, activations per tensor, scales from one batch.

        Parameters
        ----------
        layer
            The float layer.
        calibration
            A batch ``[B, T, D]`` from which `best_scale` chooses the scales, padding included.
        mask
            ``[B, T]``, False for padding. Default: no padding.
        packed
            Packed weights by name in `LINEARS`, used instead of those of the float layer. Default: none.
        lanes
            Lanes of the softmax unit. Default: 16.

        Raises
        ------
        ArgumentError
            If the number of heads does not divide the features, or a scale is out of range.
        """
        weights: dict[str, Packed | NDArray[Any]] = {**layer.weights, **(packed or {})}
        size = layer.gamma.shape[-1]
        if size % layer.heads:
            raise ArgumentError(f"{layer.heads} heads do not divide {size} features")
        real = FloatLayer(
            {name: w.unpack() if isinstance(w, Packed) else w for name, w in weights.items()},
            layer.biases, layer.gamma, layer.beta, layer.heads, layer.eps,
        ).run(calibration, mask)  # fmt: skip
        scales = {name: best_scale(tensor, 16 if name in ("attended", "fed") else 8) for name, tensor in real.items()}
        scales["up"] = best_scale(real["up"], through=float_gelu)

        def linear(name: str, of: str, to: str) -> IntegerLinear:
            bits = 16 if to in ("attended", "fed") else 8
            return IntegerLinear.of(weights[name], layer.biases[name], scales[of], scales[to], bits)

        def norm(which: int, of: str, to: str) -> LayerNormUnit:
            return LayerNormUnit.of(layer.gamma[which], layer.beta[which], layer.eps, scales[of], scales[to])

        head = size // layer.heads
        softmax = SoftmaxUnit(scales["query"] * scales["key"] / math.sqrt(head), lanes)
        return cls(
            linears={
                **{name: linear(name, "x", name) for name in ("query", "key", "value")},
                "output": linear("output", "context", "attended"),
                "up": linear("up", "y", "up"),
                "down": linear("down", "gelu", "fed"),
            },
            softmax=softmax,
            context=fixed_point(softmax.step * scales["value"] / scales["context"]),
            residual=(fixed_point(scales["x"] / scales["attended"]), fixed_point(scales["y"] / scales["fed"])),
            norms=(norm(0, "attended", "y"), norm(1, "fed", "z")),
            gelu=gelu_table(scales["up"], scales["gelu"]),
            heads=layer.heads,
            scales=scales,
        )

    def quantise(self, x: NDArray[Any]) -> NDArray[np.int8]:
        """Return a real input as int8, in steps of the layer's input scale."""
        values: NDArray[np.int8] = quantise(x, scale=self.scales["x"]).values
        return values

    def run(self, x: NDArray[np.int8], mask: NDArray[np.bool_] | None = None) -> dict[str, NDArray[Any]]:
        """Return every intermediate integer tensor, by the names of `FloatLayer.run`; x is int8 ``[B, T, D]``."""
        tensors: dict[str, NDArray[Any]] = {"x": x}
        for name in ("query", "key", "value"):
            tensors[name] = self.linears[name].run(x)
        query, key, value = (split_heads(tensors[name], self.heads) for name in ("query", "key", "value"))
        scores = dense_dense(query, key.swapaxes(-1, -2))
        shares = self.softmax.run(scores, None if mask is None else mask[:, None, None, :]).astype(np.int8)
        context = requantise(dense_dense(shares, value), self.context)
        tensors["context"] = join_heads(context.astype(np.int8))
        tensors["attended"] = self._add(self.linears["output"].run(tensors["context"]), x, 0)
        tensors["y"] = self.norms[0].run(tensors["attended"])
        tensors["up"] = self.linears["up"].run(tensors["y"])
        tensors["gelu"] = look_up(self.gelu, tensors["up"])
        tensors["fed"] = self._add(self.linears["down"].run(tensors["gelu"]), tensors["y"], 1)
        tensors["z"] = self.norms[1].run(tensors["fed"])
        return tensors

    def _add(self, part: NDArray[np.int16], x: NDArray[np.int8], which: int) -> NDArray[np.int16]:
        """Return part + x at the 16-bit scale of the sum, saturated."""
        total = part.astype(np.int64) + requantise(x, self.residual[which], 16)
        limit = 1 << 15
        result: NDArray[np.int16] = np.clip(total, -limit, limit - 1).astype(np.int16)
        return result


def best_scale(x: Real, bits: int = 8, through: Callable[[Real], Real] = np.asarray) -> float:
    """Return the symmetric scale of x with the least squared error after the function `through`.

    The candidates map the peak of x to ``2**(bits - 1) - 1`` and to up to 3 octaves above it in steps of a quarter
    octave: saturating a few outliers can cost less than coarse steps for all values. Ties go to the first candidate. With
    16 bits or more, the peak sets the scale.
    """
    peak = float(scale_for(np.abs(x).max(initial=0.0), bits))
    if bits >= 16 or not x.size:
        return peak
    sample = x.reshape(-1)[:: max(1, x.size // SAMPLE)]
    exact = through(sample)
    scales = [peak * 2 ** (-i / 4) for i in range(13)]
    errors = [float(((through(quantise(sample, scale=s, bits=bits).values * s) - exact) ** 2).sum()) for s in scales]
    return scales[int(np.argmin(errors))]
