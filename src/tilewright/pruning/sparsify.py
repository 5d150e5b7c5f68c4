"""`sparsify_`: choose, score, solve, and only then change the model."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from ..errors import ArgumentError, PatternError, TargetError, unknown
from ..patterns import Pattern
from ..records import Report
from .assignment import Assignment, Targets, choose, refuse
from .budgets import BUDGETS
from .masks import masks_of, patterns_of, set_mask_
from .plans.planned import PLANNED, Limit, decide
from .scores import SCORES, Calibration
from .solve import solve
from .tensors import whole
from .unseen import refuse_unseen, whole_model
from .update.obs import Obs
from .update.reconstruct import prune_and_update_
from .weights import Weight

__all__ = ["sparsify_"]


def sparsify_(
    model: nn.Module,
    pattern: Pattern | str,
    *,
    score: str = "magnitude",
    budget: str = "uniform",
    targets: Targets | None = None,
    ignore: Iterable[str] = (),
    data: Calibration | None = None,
    strict: bool = False,
    limit: Limit | None = None,
    update: str | Obs = "none",
) -> Report:
    """Prune a model in place: zero the weights a pattern drops, and keep them zero through training.

    Either everything that the report lists happens, or, with an exception, nothing.

    Parameters
    ----------
    model
        Any module. Each pruned weight gets a bool buffer ``<name>_mask``, which is part of `state_dict`.
    pattern
        For every target without a pattern of its own: a value, or text such as ``"2:4"`` or ``"tw16@75%"``.
    score
        ``"magnitude"``; or ``"taylor"``, ``"wanda"`` or ``"second-order"``, which need `data`.
    budget
        ``"uniform"`` gives each layer the pattern's sparsity; ``"global"`` ranks all layers together. Patterns of fixed
        density do not notice. ``"sensitivity"`` scans how much each layer's pruning costs and gives each the sparsity, or
        the n of n:m, that together cost least at the density of the pattern; ``"constrained"`` does so within `limit`.
    targets
        Expressions, the first that matches a weight wins; a mapping gives each its own pattern. An expression is an exact module
        or weight name, a glob (``encoder.*``), ``re:`` and a regular expression for the whole name, or a class name
        (``Linear``). Without targets: every weight that can be pruned. Embeddings never are.
    ignore
        Expressions for what stays dense, whatever `targets` says.
    data
        Batches: for scores that look at the inputs of layers, for updates, and, with a loss, for the score that takes gradients and
        the budgets that scan.
    strict
        Refuse, before anything is changed, if a targeted weight cannot take its pattern. Otherwise it is skipped and the
        report says why.
    limit
        Size or latency that the ``"constrained"`` budget holds to.
    update
        ``"none"`` leaves kept weights as they are. ``"obs"``, or an `Obs` with options, moves them so that the outputs of the
        layers change least on `data`; with ``score="second-order"`` n:m masks are chosen along the way, on weights that carry the
        corrections so far.

    Returns
    -------
    Report
        One row for every weight that could be pruned: name, shape, pattern, density, sparsity, and the reason if it is
        dense. ``ok`` is False if no weight was pruned at all. With an update also the squared error of the layer's output
        relative to its power, with the dense weights under the mask and with the updated ones. The summary states the zeros of the whole
        model, and how much of it stands in tensors that no pattern was tried on.

    Raises
    ------
    TargetError
        If an expression matches nothing, or the model has no weight to prune.
    PatternError
        If a weight holds NaN or infinity, or, under `strict`, cannot take its pattern or is one that no pattern is tried on, such as
        experts that are held as one parameter of three axes.
    ArgumentError
        If score, budget or data are not what is described above.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> sparsify_(model, "2:4", ignore=["2"]).rows[0]["density"]
    0.5
    """
    _one_of("score", score, SCORES)
    _one_of("budget", budget, {**BUDGETS, **PLANNED})
    if not isinstance(update, Obs):
        _one_of("update", update, {"none": None, "obs": None})
    if isinstance(ignore, str):
        raise TargetError(f"ignore must be a list of expressions, and it is {ignore!r}; write [{ignore!r}]")
    choices = choose(model, pattern, targets, list(ignore))
    if strict:
        refuse([choice for choice in choices if choice.refused])
        refuse_unseen(model, targets, list(ignore))
    _require_finite([choice.weight for choice in choices if choice.pattern is not None])
    if budget in PLANNED and data is not None:
        data = replace(data, batches=list(data.batches))  # walked through by the scan, and then by the score
    choices = decide(model, choices, budget, score, data, limit)
    taken = [choice for choice in choices if choice.pattern is not None]
    ranked = budget if budget in BUDGETS else "uniform"
    errors = None
    if update == "none":
        scored = None if budget in PLANNED and score == "magnitude" else data
        masks = solve(taken, SCORES[score](model, [choice.weight for choice in taken], scored), ranked)
    else:
        options = update if isinstance(update, Obs) else Obs()
        masks, errors = prune_and_update_(model, taken, score, ranked, data, options)
    for choice in taken:
        assert choice.pattern is not None
        set_mask_(choice.weight, masks[choice.weight.name], choice.pattern)
    return _report(model, choices, score, budget, errors)


def _one_of(what: str, given: str, table: Mapping[str, Any]) -> None:
    if given not in table:
        raise ArgumentError(unknown(what, given, table))


def _require_finite(weights: Iterable[Weight]) -> None:
    for weight in weights:
        values = whole(weight.tensor.detach())
        low, high = torch.aminmax(values)  # a NaN anywhere makes both NaN
        if not (torch.isfinite(low) and torch.isfinite(high)):
            bad = int((~torch.isfinite(values)).sum())
            raise PatternError(
                f"{weight.name} holds {bad} NaN or infinite {'element' if bad == 1 else 'elements'} of {weight.tensor.numel()}; "
                "nothing was changed. Repair the weight, or put its layer under ignore"
            )


def _report(
    model: nn.Module,
    choices: Sequence[Assignment],
    score: str,
    budget: str,
    errors: Mapping[str, tuple[float, float]] | None,
) -> Report:
    masks, patterns = masks_of(model), patterns_of(model)
    kept = {name: int(np.count_nonzero(mask.cpu().numpy())) for name, mask in masks.items()}
    rows = []
    for choice in choices:
        name, reason = choice.weight.name, choice.reason
        density = kept[name] / choice.weight.tensor.numel() if name in masks else 1.0
        if name in masks and choice.pattern is None:
            reason = f"as it was before: {reason}"
        rows.append(
            {
                "name": name,
                "shape": list(choice.weight.tensor.shape),
                "pattern": str(patterns[name]) if name in masks else "",
                "density": density,
                "sparsity": 1 - density,
                **_error_columns(name, errors),
                "reason": reason,
            }
        )
    pruned = [choice.weight for choice in choices if choice.pattern is not None]
    left = sum(kept[weight.name] for weight in pruned)
    total = sum(weight.tensor.numel() for weight in pruned)
    summary = {
        "pruned weights": len(pruned),
        "dense weights": sum(row["name"] not in masks for row in rows),
        "density of the pruned": left / total if total else 1.0,
        "sparsity of the pruned": 1 - left / total if total else 0.0,
        "score": score,
        "budget": budget,
        **({} if errors is None else {"update": "obs"}),
        **whole_model(model, choices),
    }
    return Report("sparsify", tuple(rows), summary, ok=bool(pruned))


def _error_columns(name: str, errors: Mapping[str, tuple[float, float]] | None) -> dict[str, float | None]:
    if errors is None:
        return {}
    masked, updated = errors.get(name, (None, None))
    return {"error masked": masked, "error updated": updated}
