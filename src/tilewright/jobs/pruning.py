"""`prune`: prune a model once, pack it and write it, without any training."""

import os
from collections.abc import Sequence

from ..pruning import sparsify_
from ..report import Report
from ..reports import Progress, SilentProgress
from ..runtime import save
from .models import inner_model, read_model

__all__ = ["prune"]


def prune(
    model: str,
    output: str | os.PathLike[str],
    pattern: str,
    *,
    score: str = "magnitude",
    budget: str = "uniform",
    targets: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    strict: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Prune a SentenceTransformer, pack it and write it; quality is not recovered.

    Parameters
    ----------
    model
        Folder, ``package:NAME`` or name on the hub.
    output
        Folder of the checkpoint.
    pattern, score, budget, targets, ignore, strict
        As for `sparsify_`.
    progress
        Told about every stage.

    Raises
    ------
    TilewrightError
        If the model cannot be had, pruned or written. An earlier checkpoint in `output` stays as it was.
    """
    told = progress or SilentProgress()
    told.stage("read model")
    dense = read_model(model)
    told.stage(f"prune to {pattern}")
    report = sparsify_(
        inner_model(dense), pattern, score=score, budget=budget, targets=targets, ignore=ignore, strict=strict
    )
    told.stage("pack and write")
    save(dense, output)
    return report
