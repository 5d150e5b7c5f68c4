"""A BERT encoder layer in float64, which `IntegerLayer` approximates, and the signal-to-noise ratio of an approximation."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LINEARS", "FloatLayer", "Real", "float_gelu", "float_softmax", "join_heads", "split_heads", "sqnr"]

LINEARS = ("query", "key", "value", "output", "up", "down")
"""The six products of a layer with weights: three projections, the attention output, and the two of the feed-forward part."""

Real = NDArray[np.float64]

_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True, eq=False)
class FloatLayer:
    """An encoder layer with a layer norm after each half (Devlin et al., arXiv 1810.04805), in float64.

    Parameters
    ----------
    weights, biases
        Weight ``[N, K]`` and bias ``[N]`` of each product, by name in `LINEARS`.
    gamma, beta
        ``[2, D]``, the parameters of the layer norms after attention and after the feed-forward part.
    heads
        Number of attention heads, which must divide D.
    eps
        Epsilon of both layer norms. Default: 1e-12.
    """

    weights: Mapping[str, NDArray[Any]]
    biases: Mapping[str, NDArray[Any]]
    gamma: NDArray[Any]
    beta: NDArray[Any]
    heads: int
    eps: float = 1e-12

    def run(self, x: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> dict[str, Real]:
        """Return every intermediate tensor by name; ``"z"`` is the output of the layer.

        Parameters
        ----------
        x
            Real ``[B, T, D]``.
        mask
            ``[B, T]``, False for padding, which no token attends to. Default: no padding.
        """
        tensors: dict[str, Real] = {"x": np.asarray(x, dtype=np.float64)}

        def linear(name: str, of: str) -> Real:
            product = tensors[of] @ np.asarray(self.weights[name], dtype=np.float64).T
            return np.asarray(product + self.biases[name], dtype=np.float64)

        for name in ("query", "key", "value"):
            tensors[name] = linear(name, "x")
        query, key, value = (split_heads(tensors[name], self.heads) for name in ("query", "key", "value"))
        scores = query @ key.swapaxes(-1, -2) / math.sqrt(query.shape[-1])
        tensors["context"] = join_heads(float_softmax(scores, mask) @ value)
        tensors["attended"] = linear("output", "context") + tensors["x"]
        tensors["y"] = self._norm(tensors["attended"], 0)
        tensors["up"] = linear("up", "y")
        tensors["gelu"] = float_gelu(tensors["up"])
        tensors["fed"] = linear("down", "gelu") + tensors["y"]
        tensors["z"] = self._norm(tensors["fed"], 1)
        return tensors

    def _norm(self, x: Real, which: int) -> Real:
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self.eps)
        return np.asarray(centred / deviation * self.gamma[which] + self.beta[which], dtype=np.float64)


def split_heads(x: NDArray[Any], heads: int) -> NDArray[Any]:
    """Return ``[B, T, D]`` as ``[B, heads, T, D / heads]``."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def join_heads(x: NDArray[Any]) -> NDArray[Any]:
    """Return ``[B, heads, T, d]`` as ``[B, T, heads * d]``."""
    return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)


def float_softmax(scores: Real, mask: NDArray[np.bool_] | None) -> Real:
    """Return the softmax over the last axis; keys that the mask ``[B, T]`` hides get 0, as do rows without any key."""
    keep = (
        np.ones(scores.shape, dtype=np.bool_) if mask is None else np.broadcast_to(mask[:, None, None, :], scores.shape)
    )
    top = np.max(scores, axis=-1, keepdims=True, where=keep, initial=-np.inf)
    powers = np.where(keep, np.exp(np.where(keep, scores, 0) - np.where(np.isfinite(top), top, 0)), 0)
    return np.asarray(powers / np.maximum(powers.sum(axis=-1, keepdims=True), 1e-300), dtype=np.float64)


def float_gelu(x: Real) -> Real:
    """Return GELU with the exact erf."""
    return np.asarray(0.5 * x * (1 + _erf(x / math.sqrt(2))), dtype=np.float64)


def sqnr(real: NDArray[Any], approximation: NDArray[Any]) -> float:
    """Return the signal-to-quantisation-noise ratio in dB: ``10 log10(sum real**2 / sum (real - approximation)**2)``."""
    signal = np.asarray(real, dtype=np.float64)
    noise = float(((signal - approximation) ** 2).sum())
    return math.inf if noise == 0 else 10 * math.log10(float((signal**2).sum()) / noise)
