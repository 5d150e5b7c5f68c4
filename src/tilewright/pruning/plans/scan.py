"""`sensitivity_scan`: how much the loss rises when one layer alone is pruned, for every layer and several patterns."""

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
from ...records import Report
from ..assignment import Assignment, choose
from ..inputs.calibration import Calibration, resting
from ..scores import SCORES, Scorer
from ..solve import solve
from ..tensors import local, own_part
from ..weights import Weight
from .scanlog import ScanLog, fingerprint

__all__ = ["DENSE", "sensitivity_scan"]

DENSE = "dense"
"""What stands for a pattern where a layer is not pruned."""

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
) -> Report:
    """Measure the loss with one layer pruned at a time, every other layer as it is.

    The model is left bit for bit as it was, also after an exception.

    Parameters
    ----------
    model
        Evaluated in eval mode, without gradients.
    patterns
        Patterns to try on each layer, such as ``["2:4", "1:4"]``; or one pattern that has a sparsity, with `sparsities`.
    data
        Its loss is averaged over its batches, each batch counting the same. They are kept in memory and walked through once for each
        layer and pattern.
    sparsities
        Sparsities to give the one pattern in place of its own.
    targets, ignore
        Which weights: see `sparsify_`. `targets` is a list here; every weight takes the same patterns.
    score
        What decides which elements of a layer are kept: see `sparsify_`.
    cache
        File that results are added to as they come. A scan of the same model, data and score reads it and goes on from there.

    Returns
    -------
    Report
        For every weight a row for ``dense`` and one for each pattern: name, shape, pattern, density, loss, loss increase over the dense
        model, bytes of this weight on disk, and the reason where it cannot take the pattern (loss and increase are None then).

    Raises
    ------
    ArgumentError
        If there are no patterns, batches or loss, a loss is no finite scalar, or the cache is of another scan.
    TargetError, PatternError
        As `sparsify_`.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> data = Calibration([torch.randn(32, 8)], loss=lambda model, x: model(x).square().mean())
    >>> scan = sensitivity_scan(model, ["2:4", "1:4"], data)
    >>> [(row["name"], row["pattern"]) for row in scan.rows[:3]]
    [('0.weight', 'dense'), ('0.weight', '2:4'), ('0.weight', '1:4')]
    """
    tried = _patterns(patterns, sparsities)
    if score not in SCORES:
        raise ArgumentError(unknown("score", score, SCORES))
    if isinstance(targets, dict | str) or isinstance(ignore, str):
        raise TargetError("targets and ignore of a scan are lists of expressions: every weight takes the same patterns")
    data = replace(data, batches=list(data.batches))
    columns = [choose(model, pattern, targets, list(ignore)) for pattern in tried]
    rows_of = [row for row in zip(*columns, strict=True) if any(c.pattern is not None or c.refused for c in row)]
    rows_of = [row for row in rows_of if not row[0].weight.reason]
    with resting(model):
        dense = _mean_loss(model, data, "the model as it is")
        weights = [row[0].weight for row in rows_of]
        key = {"model": fingerprint(model), "score": score, "batches": len(list(data.batches)), "dense loss": dense}
        log = ScanLog(cache, key)
        scorer = SCORES[score](model, weights, None if score == "magnitude" else data)
        rows = [result for row in rows_of for result in _layer(model, row, tried, scorer, data, dense, log)]
    return Report(
        "sensitivity",
        tuple(rows),
        {
            "dense loss": dense,
            "layers": len(rows_of),
            "patterns": len(tried),
            "batches": key["batches"],
            "score": score,
            "from the cache": log.earlier,
        },
        ok=bool(rows),
    )


def _patterns(patterns: Pattern | str | Sequence[Pattern | str], sparsities: Sequence[float]) -> list[Pattern]:
    given = [patterns] if isinstance(patterns, Pattern | str) else list(patterns)
    found = list(dict.fromkeys(parse(p) if isinstance(p, str) else p for p in given))
    if not found:
        raise ArgumentError("a scan needs at least one pattern to try; give some, such as ['2:4', '1:4']")
    if not sparsities:
        return found
    if len(found) > 1 or not hasattr(found[0], "sparsity"):
        raise ArgumentError(
            f"sparsities go with one pattern that has a sparsity, such as 'tw16@75%', and the patterns are "
            f"{', '.join(map(str, found))}; leave sparsities out, or give such a pattern"
        )
    one: Any = found[0]
    return [replace(one, sparsity=float(sparsity)) for sparsity in dict.fromkeys(sparsities)]


def _layer(
    model: nn.Module,
    choices: Sequence[Assignment],
    tried: Sequence[Pattern],
    scorer: Scorer,
    data: Calibration,
    dense: float,
    log: ScanLog,
) -> Iterator[dict[str, object]]:
    """Yield the rows of one weight."""
    weight = choices[0].weight
    kind = _STORED.get(weight.tensor.dtype, "float32")
    width = 2 if weight.tensor.dtype in _STORED else 4
    yield _row(weight, DENSE, {"density": 1.0, "loss": dense, "bytes": width * weight.tensor.numel()}, dense)
    for pattern, choice in zip(tried, choices, strict=True):
        if choice.pattern is None:
            yield _row(weight, str(pattern), {}, dense, choice.reason)
            continue
        found = log.get(weight.name, pattern.canonical)
        if found is None:
            mask = solve([choice], scorer, "uniform")[weight.name]
            matrix = as_matrix(mask.numpy(), weight.layout)
            zeros = np.zeros(matrix.shape, dtype=np.float32 if kind == "float32" else np.uint16)
            zeros = zeros.view(np.float16) if kind == "float16" else zeros
            size = disk_bytes(pack(zeros, pattern, matrix, dtype=kind))
            with _pruned(weight, mask):
                loss = _mean_loss(model, data, f"{weight.name} at {pattern}")
            found = log.put(weight.name, pattern.canonical, density=float(matrix.mean()), loss=loss, bytes=size)
        yield _row(weight, str(pattern), found, dense)


def _row(weight: Weight, pattern: str, found: dict[str, Any], dense: float, reason: str = "") -> dict[str, object]:
    return {
        "name": weight.name,
        "shape": list(weight.tensor.shape),
        "pattern": pattern,
        "density": found.get("density"),
        "loss": found.get("loss"),
        "loss increase": found["loss"] - dense if found else None,
        "bytes": found.get("bytes"),
        "reason": reason,
    }


@contextmanager
def _pruned(weight: Weight, mask: Tensor) -> Iterator[None]:
    """Zero what the mask drops for as long as the block lasts; what this process holds is put back bit for bit."""
    own = local(weight.tensor)
    before = own.clone()
    try:
        own.masked_fill_(own_part(mask.to(own.device), weight.tensor).logical_not(), 0)
        yield
    finally:
        own.copy_(before)


def _mean_loss(model: nn.Module, data: Calibration, what: str) -> float:
    if data.loss is None:
        raise ArgumentError("a sensitivity scan needs data=Calibration(batches, loss): it measures that loss")
    losses = [
        _scalar(model, data, batch, f"with {what} it is {{}} at calibration batch {i}")
        for i, batch in enumerate(data.batches)
    ]
    if not losses:
        raise ArgumentError(
            "a sensitivity scan got no batch at all; data.batches is empty, or an iterator already used up"
        )
    return float(np.mean(losses))


def _scalar(model: nn.Module, data: Calibration, batch: Any, what: str) -> float:
    assert data.loss is not None
    with torch.no_grad():
        loss: Any = data.loss(model, batch)
    given = type(loss).__name__
    if isinstance(loss, Tensor):
        loss, given = (float(loss), "") if loss.numel() == 1 else (None, f"a tensor of shape {list(loss.shape)}")
    if isinstance(loss, float | int) and np.isfinite(loss):
        return float(loss)
    given = str(loss) if isinstance(loss, float | int) else given
    raise ArgumentError(
        f"the loss must be a finite scalar, and {what.format(given)}; take a bounded loss, or ignore that layer"
    )
