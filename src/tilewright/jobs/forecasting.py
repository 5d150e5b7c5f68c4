"""What a job will take, told before it starts: measured on this machine in a few seconds, not guessed from a table."""

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
"""Patterns that a planned budget tries on each layer, about."""

_TRIAL = 2_000
"""Steps of a permutation search that are timed where steps alone bound it."""

_UPDATE = 8
"""Time of updating kept weights on top of the score, in forward passes over the data, about: both its passes and its solving."""


def forecast(recipe: Recipe) -> Report:
    """Return the time and memory that `run` will need, and which layers it will prune.

    Pruning is done on the model in memory and two training steps are timed; nothing is written.

    Raises
    ------
    TilewrightError
        If the model cannot be read, or cannot be pruned as the recipe says.
    """
    source = source_of(recipe.model)
    check_task(source, recipe.data)
    require_engines(recipe.bench.peers)
    subject = read_model(recipe.model)
    task, model = build_task(recipe.data, source, subject), inner_model(subject)
    permuting = _permutation(model, recipe)
    start = time.perf_counter()
    # Which layers are pruned and how far does not depend on the score, and scores that look at data take minutes.
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
    """Return the seconds of the permutation search, None if there is none. A trial leaves the model permuted: its outputs are unchanged."""
    wanted = recipe.permute
    if wanted is None or wanted.steps is None:
        return None if wanted is None else wanted.seconds
    trial = min(_TRIAL, wanted.steps)
    report = permute_(model, recipe.prune.pattern, **recipe.prune.chosen, seconds=wanted.seconds, steps=trial)
    seconds = sum(float(str(row["seconds"])) for row in report.rows) * wanted.steps / trial
    return seconds if wanted.seconds is None else min(seconds, wanted.seconds)


def forecast_prune(model: str, pattern: str, **choices: Any) -> Report:
    """Return which weights `prune` would prune and how far, by magnitude where it would look at data, without writing anything."""
    return sparsify_(inner_model(read_model(model)), **_plain(pattern=pattern, **choices))


def _plain(**choices: Any) -> dict[str, Any]:
    """Replace every choice that looks at data by one that does not; wrong ones are still refused."""
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
    """Return how many models' worth of numbers the job leaves on disk: weights, a checkpoint's weights and moments, members."""
    members = len(recipe.recover.falling(recipe.prune)[2]) if isinstance(recipe.recover, Inherited) else 0
    return 1 + (3 if recipe.recover else 0) + (recipe.permute is not None) + len(recipe.seeds) * members


def _calibration(model: torch.nn.Module, recipe: Recipe, task: Task, layers: int) -> dict[str, object]:
    """Return the stage of looking at data: passes over it, in units of one forward pass that is timed here."""
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
    """Return the time of one recovery step, the better of two that are taken here, and the bytes of its activations."""
    recover = recipe.recover
    assert recover is not None
    batch = task.batches(recover.batch, tokens=recover.max_tokens, seed=0)[0]
    low = recipe.options(0).precision == "bfloat16"
    seconds, held = [], [0]

    def count(module: torch.nn.Module, arguments: object, output: object) -> None:
        held[0] += output.numel() if isinstance(output, torch.Tensor) else 0

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
    # The optimizer, the losses and the masks add about a quarter on these models; the loss holds the outputs again.
    return 1.25 * min(seconds), 2 * 4 * held[0]
