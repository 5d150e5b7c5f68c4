"""Estimate the time and memory of a job before it starts, from a few seconds of measurements on this machine."""

import time
from typing import Any

import torch

from ..pruning import permute_, sparsify_
from ..records import Report
from .models import inner_model, read_model
from .recipe.recipe import Recipe
from .recipe.recover import Inherited
from .sources import source_of
from .speed.peers import require_engines
from .tasks import Task, build_task, check_task

__all__ = ["forecast", "forecast_prune"]

_MEMBERS = 5
"""Approximate number of patterns that a planned budget tries on each layer."""

_TRIAL = 2_000
"""Number of steps to time for a permutation search that is limited by steps alone."""

_UPDATE = 8
"""Approximate time of updating kept weights, in forward passes over the data: its own passes, and solving."""


def forecast(recipe: Recipe) -> Report:
    """Estimate the time, memory and disk space that `run` needs, and count the layers it will prune.

    The model is pruned in memory and two training steps are timed; nothing is written.

    Raises
    ------
    TilewrightError
        If the model cannot be read, or cannot be pruned as the recipe requires.
    """
    source = source_of(recipe.model)
    check_task(source, recipe.data)
    require_engines(recipe.bench.peers)
    subject = read_model(recipe.model)
    task, model = build_task(recipe.data, source, subject), inner_model(subject)
    permuting = _permutation(model, recipe)
    start = time.perf_counter()
    # The layers and their densities do not depend on the score, and scores that use data take minutes.
    report = sparsify_(model, **_plain(**recipe.prune.arguments()))
    mask_seconds = time.perf_counter() - start
    weights = sum(p.numel() for p in model.parameters())
    stages: list[dict[str, object]] = [
        {"stage": "rate, prune, pack, load", "minutes": round(len(recipe.seeds) * 0.4 + mask_seconds / 60, 1)}
    ]
    if permuting is not None:
        stages.append({"stage": "permute channels", "minutes": round(permuting / 60 + 0.2, 1)})
    if recipe.prune.calibration is not None:
        stages.append(_calibration(model, recipe, task, len(report.rows)))
    memory = 3 * 4 * weights
    if recipe.recover is not None:
        steps = recipe.recover.total
        step, activations = _step_seconds(model, recipe, task)
        total = len(recipe.seeds) * steps * step / 60
        stages.append({"stage": f"recover: {steps} steps, {_seeds(recipe)}", "minutes": round(total, 1)})
        memory += 3 * 4 * weights + activations
    stages.append({"stage": "measure against dense engines", "minutes": 1.5})
    minutes = sum(float(str(stage["minutes"])) for stage in stages)
    summary = {
        "minutes": round(minutes, 1),
        "memory in GB": round(memory / 1e9, 2),
        "disk in GB": round(4 * weights * _copies(recipe) / 1e9, 2),
        **{key: report.summary[key] for key in list(report.summary)[:3]},
    }
    return Report("forecast", tuple(stages), summary)


def _permutation(model: Any, recipe: Recipe) -> float | None:
    """Return the time of the permutation search in seconds, or None without one. The model is left permuted; its outputs are unchanged."""
    permute = recipe.permute
    if permute is None or permute.steps is None:
        return None if permute is None else permute.seconds
    trial = min(_TRIAL, permute.steps)
    report = permute_(model, recipe.prune.pattern, **recipe.prune.chosen, seconds=permute.seconds, steps=trial)
    seconds = sum(float(str(row["seconds"])) for row in report.rows) * permute.steps / trial
    return seconds if permute.seconds is None else min(seconds, permute.seconds)


def forecast_prune(model: str, pattern: str, **choices: Any) -> Report:
    """Return the weights that `prune` would prune and their densities, without writing anything.

    Choices that need data are replaced by ones that do not: the score by magnitude, and sensitivity by a uniform budget.

    Parameters
    ----------
    model, pattern
        As for `prune`.
    choices
        Further arguments of `sparsify_`.
    """
    return sparsify_(inner_model(read_model(model)), **_plain(pattern=pattern, **choices))


def _plain(**choices: Any) -> dict[str, Any]:
    """Replace every choice that needs data by one that does not; invalid ones pass through and are refused later."""
    named = {
        "score": ({"taylor", "wanda", "second-order"}, "magnitude"),
        "update": ({"obs"}, "none"),
        "budget": ({"sensitivity", "constrained"}, "uniform"),
    }
    plain = {key: value for key, (slow, value) in named.items() if choices.get(key) in slow}
    return choices | plain


def _seeds(recipe: Recipe) -> str:
    return "1 seed" if len(recipe.seeds) == 1 else f"{len(recipe.seeds)} seeds"


def _copies(recipe: Recipe) -> int:
    """Return the disk space of the job in copies of the model: its weights, a checkpoint's weights and moments, family members."""
    members = len(recipe.recover.falling(recipe.prune)[2]) if isinstance(recipe.recover, Inherited) else 0
    return 1 + (3 if recipe.recover else 0) + (recipe.permute is not None) + len(recipe.seeds) * members


def _calibration(model: torch.nn.Module, recipe: Recipe, task: Task, layers: int) -> dict[str, object]:
    """Return the calibration stage, estimated as a number of forward passes, one of which is timed here."""
    prune, data = recipe.prune, recipe.prune.calibration
    assert data is not None
    batch = task.batches(min(data.batch, data.passages), tokens=data.max_tokens, seed=data.seed)[0]
    start = time.perf_counter()
    with torch.no_grad():
        model(**batch)
    forward = time.perf_counter() - start
    passes = 0.0
    if prune.score != "magnitude":
        passes += 4 if prune.score == "taylor" else 2
    if prune.update == "obs":
        passes += _UPDATE
    if prune.budget in ("sensitivity", "constrained"):
        passes += 2 * layers * _MEMBERS
    batches = max(1, data.passages // data.batch)
    minutes = len(recipe.seeds) * batches * passes * forward / 60
    return {"stage": f"look at {data.passages} items", "minutes": round(minutes, 1)}


def _step_seconds(model: torch.nn.Module, recipe: Recipe, task: Task) -> tuple[float, int]:
    """Return the time of one recovery step in seconds, the faster of two, and the size of its activations in bytes."""
    recover = recipe.recover
    assert recover is not None
    batch = task.batches(recover.batch, tokens=recover.max_tokens, seed=0)[0]
    low = recipe.options(0).precision == "bfloat16"
    seconds, activations = [], [0]

    def count(module: torch.nn.Module, arguments: object, output: object) -> None:
        activations[0] += output.numel() if isinstance(output, torch.Tensor) else 0

    with torch.no_grad():
        leaves = [module for module in model.modules() if not list(module.children())]
        handles = [module.register_forward_hook(count) for module in leaves]
        model(**batch)
        for handle in handles:
            handle.remove()
    for _ in range(2):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            with torch.no_grad():
                model(**batch)
            task.output(model(**batch), batch).float().square().mean().backward()
        seconds.append(time.perf_counter() - start)
    model.zero_grad(set_to_none=True)
    # The optimizer, the losses and the masks add about a quarter on these models; the loss stores the outputs a second time.
    return 1.25 * min(seconds), 2 * 4 * activations[0]
