"""The pruning stages of a job: channel permutation, and pruning with the task's data; and `prune`, for pruning alone."""

import copy
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ..pruning import Limit, choose, permute_, sparsify_
from ..records import Progress, Report, SilentProgress
from ..runtime import measured_costs, save
from .choices import require_choices
from .learning import calibration_of
from .models import inner_model, read_model
from .packing import files_of
from .places import check_output
from .recipe.data import MatchData, RetrievalData
from .recipe.prune import CalibrationData, LimitPart, Permute, Prune
from .sources import Source, source_of
from .tasks import Task, build_task

__all__ = ["permute_dense_", "prune", "prune_at_once_"]


def permute_dense_(model: Any, chosen: Permute, prune: Prune) -> Report:
    """Reorder the channels of the dense model so that the pattern keeps more magnitude; its outputs are unchanged."""
    return permute_(inner_model(model), prune.pattern, **prune.chosen, **chosen.model_dump())


def prune_at_once_(student: Any, dense: Any, chosen: Prune, task: Task) -> Report:
    """Prune a copy of the dense model in one shot, as a recipe says.

    Parameters
    ----------
    student
        Copy of the dense model, pruned in place.
    dense
        The dense model, left unchanged.
    chosen
        The `prune` section of the recipe, with calibration data if it needs any.
    task
        Task whose batches serve as calibration data.
    """
    inner = inner_model(student)
    data = None if chosen.calibration is None else calibration_of(task, inner_model(dense), chosen.calibration)
    limit = None if chosen.limit is None else _limit(inner, chosen, chosen.limit)
    return sparsify_(inner, **chosen.arguments(), data=data, limit=limit)


def prune(
    model: str,
    output: str | os.PathLike[str],
    pattern: str,
    *,
    score: str = "magnitude",
    update: str = "none",
    budget: str = "uniform",
    targets: Sequence[str] | None = None,
    ignore: Sequence[str] = (),
    strict: bool = False,
    passages: int = 512,
    inputs: str | None = None,
    shape: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Prune a model, pack it and write it, without any training.

    Parameters
    ----------
    model
        Folder of a model, ``package:NAME``, name on the hub, or ``module:callable`` for a plain torch module.
    output
        Folder to write the checkpoint to.
    pattern, score, update, budget, targets, ignore, strict
        As for `sparsify_`.
    passages
        Number of calibration items, for scores, updates and budgets that need data. The items are passages of the running Python's
        documentation for models that read text, else `inputs` or generated inputs.
    inputs
        File of calibration inputs: ``.npz``, ``.npy`` or ``.safetensors``, items along the first axis. Default: generated inputs.
    shape
        Shape of one input, for a plain module without `inputs`.
    progress
        Receives every stage. Default: none.

    Returns
    -------
    Report
        The report of `sparsify_`, with the size written in its summary.

    Raises
    ------
    ArgumentError
        If `score`, `update` or `budget` is unknown, the budget needs a limit, or `output` is or contains the model's folder.
    TilewrightError
        If the model cannot be read, pruned or written. An earlier checkpoint in `output` is then left unchanged.
    """
    require_choices(score, update, budget)
    progress = progress or SilentProgress()
    source = source_of(model)
    if source.folder:
        check_output(source.folder, Path(output))
    progress.stage("read model")
    dense = read_model(model)
    progress.stage(f"prune to {pattern}")
    data = None
    if score != "magnitude" or update != "none" or budget == "sensitivity":
        task = build_task(_looked_at(source, passages, inputs, shape), source, dense)
        data = calibration_of(task, copy.deepcopy(inner_model(dense)), CalibrationData(passages=passages))
    report = sparsify_(
        inner_model(dense),
        pattern,
        score=score,
        update=update,
        budget=budget,
        targets=targets,
        ignore=ignore,
        strict=strict,
        data=data,
    )
    progress.stage("pack and write")
    save(dense, output, files=files_of(dense, model))
    written = sum(file.stat().st_size for file in Path(output).glob("*.safetensors"))
    return replace(report, summary={**report.summary, "MB written": round(written / 1e6, 1)})


def _looked_at(
    source: Source, items: int, inputs: str | None, shape: Sequence[int] | None
) -> RetrievalData | MatchData:
    """Return the calibration data: real text if the model reads text, else `inputs` or generated ones."""
    if source.kind in ("sentences", "hub") and inputs is None:
        return RetrievalData()
    if inputs is not None:
        return MatchData(file=inputs, test=10, validation=10)
    sides = None if shape is None else tuple(shape)
    return MatchData(shape=sides, items=items + 20, tokens=128, test=10, validation=10)


def _limit(model: nn.Module, chosen: Prune, limit: LimitPart) -> Limit:
    """Convert a limit relative to dense into bytes or seconds of the weights to prune."""
    choices = choose(model, chosen.pattern, chosen.chosen["targets"], list(chosen.ignore))
    weights = [choice.weight for choice in choices if choice.pattern is not None]
    if limit.size is not None:
        dense = sum(weight.tensor.numel() * weight.tensor.element_size() for weight in weights)
        return Limit(size=limit.size * dense, patterns=limit.patterns)
    assert limit.latency is not None
    costs = measured_costs(model, limit.patterns)
    seconds = sum(costs[weight.name, "dense"] for weight in weights)
    return Limit(latency=limit.latency * seconds, seconds=costs, patterns=limit.patterns)
