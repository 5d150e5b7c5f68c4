"""The candidates of a plan: each layer's predicted loss, time and size on disk at each pattern."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..formats import ValueType, disk_bytes, pack
from ..patterns import Pattern, as_matrix, mask
from ..pruning import Calibration, Candidate, sensitivity_scan, whole
from .clocks import Clock
from .layers import Layer

__all__ = ["offers"]

_STORED: dict[torch.dtype, ValueType] = {torch.float16: "float16", torch.bfloat16: "bfloat16"}


def offers(
    model: nn.Module, layers: Mapping[str, Layer], clock: Clock, data: Calibration | None
) -> dict[str, tuple[Candidate, ...]]:
    """Return the candidates of every layer, dense first, each with its predicted loss, seconds and bytes on disk.

    With data the loss comes from a sensitivity scan. Without, it is the share of the weight's energy that magnitude
    pruning removes, ``sum(w**2 of dropped) / sum(w**2)``, which treats all layers as equally important.
    """
    scanned = None if data is None else _scanned(model, layers, data)
    sizes: dict[tuple[object, ...], float] = {}
    offered = {}
    for name, layer in layers.items():
        matrix = _matrix(layer)
        width = 2 if layer.weight.tensor.dtype in _STORED else 4
        candidates = [Candidate(None, 0.0, clock.layer(layer, None), float(width * layer.weight.tensor.numel()))]
        for pattern in layer.patterns:
            kept = mask(pattern, np.abs(matrix))
            loss = _energy(matrix, kept) if scanned is None else max(0.0, scanned[name, str(pattern)])
            # An n:m file's size depends on the shape alone. Tile-wise files differ in their offsets; one stands for all.
            key = (matrix.shape, pattern, layer.weight.tensor.dtype)
            if key not in sizes:
                sizes[key] = float(_bytes(pattern, kept, layer.weight.tensor.dtype))
            candidates.append(Candidate(pattern, loss, clock.layer(layer, pattern), sizes[key]))
        offered[name] = tuple(candidates)
    return offered


def _scanned(model: nn.Module, layers: Mapping[str, Layer], data: Calibration) -> dict[tuple[str, str], float]:
    by_patterns: dict[tuple[Pattern, ...], list[str]] = {}
    for name, layer in layers.items():
        if layer.patterns:
            by_patterns.setdefault(layer.patterns, []).append(name)
    data = Calibration(list(data.batches), data.loss)
    losses: dict[tuple[str, str], float] = {}
    for patterns, names in by_patterns.items():
        scan = sensitivity_scan(model, list(patterns), data, targets=names)
        losses |= {(point.name, point.text): rise for point, rise in scan.measured()}
    return losses


def _matrix(layer: Layer) -> NDArray[np.float32]:
    values = whole(layer.weight.tensor.detach()).to("cpu", torch.float32)
    return np.asarray(as_matrix(values.numpy(), layer.weight.layout))


def _energy(matrix: NDArray[np.float32], kept: NDArray[np.bool_]) -> float:
    squares = np.square(matrix, dtype=np.float64)
    total = float(squares.sum())
    return float(squares[~kept].sum()) / total if total else 0.0


def _bytes(pattern: Pattern, kept: NDArray[np.bool_], dtype: torch.dtype) -> int:
    kind = _STORED.get(dtype, "float32")
    zeros: Any = np.zeros(kept.shape, np.float32 if kind == "float32" else np.uint16)
    return disk_bytes(pack(zeros.view(np.float16) if kind == "float16" else zeros, pattern, kept, dtype=kind))
