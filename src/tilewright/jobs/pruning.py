"""Pruning as a job does it: channels reordered, weights chosen on the job's own text; and `prune`, which does no more than that."""

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
    """Reorder the channels of the dense model, by magnitude; its outputs are unchanged."""
    return permute_(inner_model(model), prune.pattern, **prune.chosen, **chosen.model_dump())


def prune_at_once_(student: Any, dense: Any, chosen: Prune, task: Task) -> Report:
    """Prune a copy of the dense model as a recipe says.

    Parameters
    ----------
    student
        A model, changed in place.
    dense
        The same model, which stays as it is.
    chosen
        From the recipe, with calibration data if it needs any.
    task
        Whose batches are looked at.
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
        Folder, ``package:NAME``, name on the hub, or ``module:callable`` for a plain torch module.
    output
        Folder of the checkpoint.
    pattern, score, update, budget, targets, ignore, strict
        As for `sparsify_`.
    passages
        Items to look at, for scores, updates and budgets that look at data: passages of the running Python's documentation for models
        that read text, else `inputs` or generated ones.
    inputs
        File with arrays to look at: ``.npz``, ``.npy`` or ``.safetensors``, items first.
    shape
        Shape of one input, for a plain module where `inputs` is not given.
    progress
        Told about every stage.

    Raises
    ------
    ArgumentError
        If score, update or budget are not what is described above, the budget needs a limit, or `output` is the model or holds it.
    TilewrightError
        If the model cannot be had, pruned or written. An earlier checkpoint in `output` stays as it was.
    """
    require_choices(score, update, budget)
    told = progress or SilentProgress()
    source = source_of(model)
    if source.folder:
        check_output(source.folder, Path(output))
    told.stage("read model")
    dense = read_model(model)
    told.stage(f"prune to {pattern}")
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
    told.stage("pack and write")
    save(dense, output, files=files_of(dense, model))
    written = sum(file.stat().st_size for file in Path(output).glob("*.safetensors"))
    return replace(report, summary={**report.summary, "MB written": round(written / 1e6, 1)})


def _looked_at(
    source: Source, items: int, inputs: str | None, shape: Sequence[int] | None
) -> RetrievalData | MatchData:
    """Return what pruning looks at: real text where a model reads any."""
    if source.kind in ("sentences", "hub") and inputs is None:
        return RetrievalData()
    if inputs is not None:
        return MatchData(file=inputs, test=10, validation=10)
    given = None if shape is None else tuple(shape)
    return MatchData(shape=given, items=items + 20, tokens=128, test=10, validation=10)


def _limit(model: nn.Module, chosen: Prune, limit: LimitPart) -> Limit:
    """Turn shares into bytes or seconds of the weights that are to be pruned."""
    choices = choose(model, chosen.pattern, chosen.chosen["targets"], list(chosen.ignore))
    weights = [choice.weight for choice in choices if choice.pattern is not None]
    if limit.size is not None:
        dense = sum(weight.tensor.numel() * weight.tensor.element_size() for weight in weights)
        return Limit(size=limit.size * dense, patterns=limit.patterns)
    assert limit.latency is not None
    costs = measured_costs(model, limit.patterns)
    seconds = sum(costs[weight.name, "dense"] for weight in weights)
    return Limit(latency=limit.latency * seconds, seconds=costs, patterns=limit.patterns)
