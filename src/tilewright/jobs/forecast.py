"""What a job will take, told before it starts: measured on this machine in a second, not guessed from a table."""

import time
from typing import Any

import torch

from ..pruning import prunable, sparsify_
from ..report import Report
from .models import inner_model, read_model
from .recipe import Recipe, fastest_precision

__all__ = ["forecast", "forecast_prune"]

_TOKENS_A_PASSAGE = 48
"""Mean padded length of a passage of the Python documentation in batches of similar length."""


def forecast(recipe: Recipe) -> Report:
    """Return the time and memory that `run` will need, and which layers it will prune.

    One training step's worth of matrix products is timed to forecast the recovery; pruning is tried on a copy of the model.

    Raises
    ------
    TilewrightError
        If the model cannot be read, or cannot be pruned as the recipe says.
    """
    model = inner_model(read_model(recipe.model))
    prune = recipe.prune
    start = time.perf_counter()
    report = sparsify_(
        model,
        prune.pattern,
        targets=list(prune.targets) or None,
        ignore=list(prune.ignore),
        score=prune.score,
        budget=prune.budget,
    )
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
    """Return the time of one recovery step and the bytes of its activations, from one timed matrix product.

    Forward and backward of the student and forward of the teacher are 8 floating-point operations a weight and token.
    """
    recover = recipe.recover
    assert recover is not None
    tokens = recover.batch * min(recover.max_tokens, _TOKENS_A_PASSAGE)
    matrices = [weight.tensor for weight in prunable(model) if weight.tensor.ndim == 2]
    operations = 8 * tokens * sum(p.numel() for p in matrices)
    low = recover.precision == "bfloat16" or (recover.precision == "auto" and fastest_precision() == "bfloat16")
    x = torch.randn(tokens, matrices[0].shape[1], dtype=torch.bfloat16 if low else torch.float32)
    weight = matrices[0].detach().to(x.dtype)
    x @ weight.T
    start = time.perf_counter()
    for _ in range(5):
        x @ weight.T
    rate = 5 * 2 * tokens * weight.numel() / (time.perf_counter() - start)
    activations = 4 * tokens * sum(p.shape[0] for p in matrices) * 3
    # The products are about half of a step on these models; the rest is softmax, norms, the optimizer and the masks.
    return 2 * operations / rate, activations
