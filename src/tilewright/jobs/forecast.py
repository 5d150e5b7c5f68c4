"""What a job will take, told before it starts: measured on this machine in a few seconds, not guessed from a table."""

import time
from typing import Any

import torch

from ..pruning import prunable, sparsify_
from ..report import Report
from .models import inner_model, read_model
from .peers import require_engines
from .recipe import Recipe

__all__ = ["forecast", "forecast_prune"]

_TOKENS_A_PASSAGE = 48
"""Mean padded length of a passage of the Python documentation in batches of similar length."""


def forecast(recipe: Recipe) -> Report:
    """Return the time and memory that `run` will need, and which layers it will prune.

    Pruning is done on the model in memory and two training steps are timed; nothing is written.

    Raises
    ------
    TilewrightError
        If the model cannot be read, or cannot be pruned as the recipe says.
    """
    require_engines(recipe.bench.peers)
    model = inner_model(read_model(recipe.model))
    start = time.perf_counter()
    report = sparsify_(model, **recipe.prune.arguments())
    mask_seconds = time.perf_counter() - start
    weights = sum(p.numel() for p in model.parameters())
    stages: list[dict[str, object]] = [
        {"stage": "rate, prune, pack, load", "minutes": round(len(recipe.seeds) * 0.4 + mask_seconds / 60, 1)}
    ]
    memory = 3 * 4 * weights
    if recipe.recover is not None:
        step, activations = _step_seconds(model, recipe)
        total = len(recipe.seeds) * recipe.recover.steps * step / 60
        stages.append(
            {"stage": f"recover: {recipe.recover.steps} steps, {len(recipe.seeds)} seeds", "minutes": round(total, 1)}
        )
        memory += 3 * 4 * weights + activations
    stages.append({"stage": "measure against dense engines", "minutes": 1.5})
    minutes = sum(float(str(stage["minutes"])) for stage in stages)
    summary = {
        "minutes": round(minutes, 1),
        "memory in GB": round(memory / 1e9, 2),
        "disk in GB": round((4 * weights + (3 * 4 * weights if recipe.recover else 0)) / 1e9, 2),
        **{key: report.summary[key] for key in list(report.summary)[:3]},
    }
    return Report("forecast", tuple(stages), summary)


def forecast_prune(
    model: str, pattern: str, *, targets: Any = None, ignore: Any = (), strict: bool = False, **choices: Any
) -> Report:
    """Return which weights `prune` would prune and how far, without writing anything."""
    return sparsify_(inner_model(read_model(model)), pattern, targets=targets, ignore=ignore, strict=strict, **choices)


def _step_seconds(model: torch.nn.Module, recipe: Recipe) -> tuple[float, int]:
    """Return the time of one recovery step, the better of two that are taken here, and the bytes of its activations."""
    recover = recipe.recover
    assert recover is not None
    length = min(recover.max_tokens, _TOKENS_A_PASSAGE)
    ids = torch.ones(recover.batch, length, dtype=torch.long)
    low = recipe.options(0).precision == "bfloat16"
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            with torch.no_grad():
                model(input_ids=ids)
            model(input_ids=ids).last_hidden_state.float().square().mean().backward()
        seconds.append(time.perf_counter() - start)
    wide = sum(weight.tensor.shape[0] for weight in prunable(model))
    model.zero_grad(set_to_none=True)
    # The optimizer, the losses and the masks add about a quarter on these models.
    return 1.25 * min(seconds), 3 * 4 * ids.numel() * wide
