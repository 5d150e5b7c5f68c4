"""`sensitivity_scan`: how much the loss rises when a single layer is pruned, for every layer and several patterns."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import ArgumentError, TargetError, unknown
from ...formats import ValueType, disk_bytes, pack
from ...patterns import Pattern, as_matrix, parse
from ..assignment import Assignment, choose
from ..inputs.calibration import Calibration, resting
from ..scores import SCORES, Scorer
from ..solve import solve
from ..tensors import local, own_part
from ..weights import Weight
from .result import Scan, ScanPoint
from .scanlog import ScanLog, fingerprint

__all__ = ["sensitivity_scan"]

_STORED: dict[torch.dtype, ValueType] = {torch.float16: "float16", torch.bfloat16: "bfloat16"}


def sensitivity_scan(
    model: nn.Module,
    patterns: Pattern | str | Sequence[Pattern | str],
    data: Calibration,
    *,
    sparsities: Sequence[float] = (),
    targets: Sequence[str] | None = None,
    ignore: Iterable[str] = (),
    score: str = "magnitude",
    cache: str | os.PathLike[str] | None = None,
) -> Scan:
    """Measure the loss with one layer pruned at a time and all other layers unchanged.

    The model is restored bit for bit, even after an exception.

    Parameters
    ----------
    model
        Model to scan. It runs in eval mode, without gradients.
    patterns
        Patterns to try on each layer, such as ``["2:4", "1:4"]``; or a single pattern that has a sparsity, together with `sparsities`.
    data
        Calibration batches with a loss. The loss is averaged over batches with equal weight; all batches are kept in memory, and each
        runs once per layer and pattern.
    sparsities
        Sparsities to try for the single pattern. Default: its own.
    targets, ignore
        Expressions for the weights to scan, as for `sparsify_`, except that `targets` must be a list: every weight takes the same
        patterns.
    score
        Score that decides which elements of a layer are kept, as for `sparsify_`. Default: ``"magnitude"``.
    cache
        File to which results are appended as they are measured. A later scan of the same model, data and score reads it and measures
        only what is missing. Default: no file.

    Returns
    -------
    Scan
        For every weight one point for the dense weight and one for each pattern: density, loss, increase of the loss over the dense
        model, size on disk, or the reason if the weight cannot take the pattern. ``print(scan)`` shows a table.

    Raises
    ------
    ArgumentError
        If there are no patterns or batches or there is no loss, a loss is not a finite scalar, or the cache belongs to another scan.
    FormatError
        If the cache is not the file of a scan.
    TargetError, PatternError
        As for `sparsify_`.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> data = Calibration([torch.randn(32, 8)], loss=lambda model, x: model(x).square().mean())
    >>> scan = sensitivity_scan(model, ["2:4", "1:4"], data)
    >>> [(point.name, point.text) for point in scan.points[:3]]
    [('0.weight', 'dense'), ('0.weight', '2:4'), ('0.weight', '1:4')]
    """
    trials = _patterns(patterns, sparsities)
    if score not in SCORES:
        raise ArgumentError(unknown("score", score, SCORES))
    if isinstance(targets, dict | str) or isinstance(ignore, str):
        raise TargetError(
            "targets and ignore of a scan must be lists of expressions, because every weight takes the same patterns"
        )
    data = replace(data, batches=list(data.batches))
    columns = [choose(model, pattern, targets, list(ignore)) for pattern in trials]
    assignments = [row for row in zip(*columns, strict=True) if any(c.pattern is not None or c.refused for c in row)]
    assignments = [row for row in assignments if not row[0].weight.reason]
    with resting(model):
        dense = _mean_loss(model, data, "the model unchanged")
        weights = [row[0].weight for row in assignments]
        identity = {
            "model": fingerprint(model),
            "score": score,
            "batches": len(list(data.batches)),
            "dense loss": dense,
        }
        log = ScanLog(cache, identity)
        scorer = SCORES[score](model, weights, None if score == "magnitude" else data)
        points = [point for row in assignments for point in _layer(model, row, trials, scorer, data, dense, log)]
    return Scan(tuple(points), dense, len(trials), len(list(data.batches)), score, log.earlier)


def _patterns(patterns: Pattern | str | Sequence[Pattern | str], sparsities: Sequence[float]) -> list[Pattern]:
    requested = [patterns] if isinstance(patterns, Pattern | str) else list(patterns)
    distinct = list(dict.fromkeys(parse(p) if isinstance(p, str) else p for p in requested))
    if not distinct:
        raise ArgumentError("a scan needs at least one pattern; pass some, such as ['2:4', '1:4']")
    if not sparsities:
        return distinct
    if len(distinct) > 1 or not hasattr(distinct[0], "sparsity"):
        raise ArgumentError(
            f"sparsities need a single pattern that has a sparsity, such as 'tw16@75%'; got "
            f"{', '.join(map(str, distinct))}. Omit sparsities, or pass such a pattern"
        )
    sparse: Any = distinct[0]
    return [replace(sparse, sparsity=float(sparsity)) for sparsity in dict.fromkeys(sparsities)]


def _layer(
    model: nn.Module,
    assignments: Sequence[Assignment],
    patterns: Sequence[Pattern],
    scorer: Scorer,
    data: Calibration,
    dense: float,
    log: ScanLog,
) -> Iterator[ScanPoint]:
    """Yield the points of one weight."""
    weight = assignments[0].weight
    kind = _STORED.get(weight.tensor.dtype, "float32")
    width = 2 if weight.tensor.dtype in _STORED else 4
    shape = tuple(weight.tensor.shape)
    yield ScanPoint(weight.name, shape, None, 1.0, dense, 0.0, width * weight.tensor.numel())
    for pattern, assignment in zip(patterns, assignments, strict=True):
        if assignment.pattern is None:
            yield ScanPoint(weight.name, shape, pattern, reason=assignment.reason)
            continue
        result = log.get(weight.name, pattern.canonical)
        if result is None:
            mask = solve([assignment], scorer, "uniform")[weight.name]
            matrix = as_matrix(mask.numpy(), weight.layout)
            zeros = np.zeros(matrix.shape, dtype=np.float32 if kind == "float32" else np.uint16)
            zeros = zeros.view(np.float16) if kind == "float16" else zeros
            size = disk_bytes(pack(zeros, pattern, matrix, dtype=kind))
            with _pruned(weight, mask):
                loss = _mean_loss(model, data, f"{weight.name} at {pattern}")
            result = log.put(weight.name, pattern.canonical, density=float(matrix.mean()), loss=loss, bytes=size)
        yield ScanPoint(
            weight.name, shape, pattern, result["density"], result["loss"], result["loss"] - dense, result["bytes"]
        )


@contextmanager
def _pruned(weight: Weight, mask: Tensor) -> Iterator[None]:
    """Zero what the mask drops for the duration of the block, then restore this process's shard bit for bit."""
    shard = local(weight.tensor)
    before = shard.clone()
    try:
        shard.masked_fill_(own_part(mask.to(shard.device), weight.tensor).logical_not(), 0)
        yield
    finally:
        shard.copy_(before)


def _mean_loss(model: nn.Module, data: Calibration, what: str) -> float:
    if data.loss is None:
        raise ArgumentError("a sensitivity scan needs data=Calibration(batches, loss) to measure the loss")
    losses = [
        _scalar(model, data, batch, f"with {what} it is {{}} at calibration batch {i}")
        for i, batch in enumerate(data.batches)
    ]
    if not losses:
        raise ArgumentError(
            "a sensitivity scan got no batches; data.batches is empty, or an iterator that is already exhausted"
        )
    return float(np.mean(losses))


def _scalar(model: nn.Module, data: Calibration, batch: Any, what: str) -> float:
    assert data.loss is not None
    with torch.no_grad():
        loss: Any = data.loss(model, batch)
    value = type(loss).__name__
    if isinstance(loss, Tensor):
        loss, value = (float(loss), "") if loss.numel() == 1 else (None, f"a tensor of shape {list(loss.shape)}")
    if isinstance(loss, float | int) and np.isfinite(loss):
        return float(loss)
    value = str(loss) if isinstance(loss, float | int) else value
    raise ArgumentError(
        f"the loss must be a finite scalar; {what.format(value)}. Use a bounded loss, or add the layer to ignore"
    )
