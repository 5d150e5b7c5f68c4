"""`sparsify_`: choose weights, score them, solve for masks, and only then change the model."""

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
    """Prune a model in place: zero the elements a pattern drops and keep them zero during training.

    If an exception is raised, the model is unchanged.

    Parameters
    ----------
    model
        Model to prune, any `nn.Module`. Each pruned weight gets a bool buffer ``<name>_mask``, which is part of `state_dict`.
    pattern
        Pattern of every target that `targets` gives no pattern: a `Pattern`, or text such as ``"2:4"`` or ``"tw16@75%"``.
    score
        How elements are ranked: ``"magnitude"`` (the default), or ``"taylor"``, ``"wanda"`` or ``"second-order"``, which need `data`.
    budget
        How the sparsity is split over layers. ``"uniform"`` (the default) prunes every layer to the pattern's sparsity. ``"global"``
        ranks the elements of all layers together; it has no effect on patterns with fixed density. ``"sensitivity"`` measures how much
        the loss rises when each layer is pruned, then gives each layer its own sparsity (or its own n of n:m) such that the predicted
        loss is lowest at the overall density of the pattern. ``"constrained"`` does the same within `limit`.
    targets
        Expressions for the weights to prune, as a list, or as a mapping from expression to pattern; the first expression that matches
        a weight wins. An expression is an exact module or weight name, a glob (``encoder.*``), ``re:`` followed by a regular expression
        for the whole name, or a class name (``Linear``). Default: every weight that can be pruned. Embeddings are never pruned.
    ignore
        Expressions for weights that stay dense; they take precedence over `targets`.
    data
        Calibration batches. Required by ``"wanda"``, ``"second-order"`` and updates and, with a loss, by ``"taylor"`` and by the
        ``"sensitivity"`` and ``"constrained"`` budgets.
    strict
        If True, raise before anything is changed when a targeted weight cannot take its pattern. By default such a weight is skipped,
        and the report gives the reason.
    limit
        Size or latency limit of the ``"constrained"`` budget.
    update
        ``"none"`` (the default) leaves the kept weights as they are. ``"obs"``, or an `Obs` with options, adjusts them so that the
        outputs of the layers change least on `data`. With ``score="second-order"``, n:m masks are then chosen during the update, on
        weights that already include the corrections made so far.

    Returns
    -------
    Report
        One row for every weight that could be pruned: name, shape, pattern, density, sparsity, and the reason if it stayed dense; with
        an update, also the squared error of the layer's output relative to its power, for the masked dense weights and for the updated
        ones. The summary includes the share of zeros in the whole model and the share of the model in tensors that pruning does not
        cover. ``ok`` is False if no weight was pruned.

    Raises
    ------
    TargetError
        If an expression matches nothing, or the model has no weight to prune.
    PatternError
        If a weight holds NaN or infinity; under `strict`, also if a weight cannot take its pattern or belongs to a kind that is never
        pruned, such as experts stacked in one three-dimensional parameter.
    ArgumentError
        If `score`, `budget`, `update`, `limit` or `data` is invalid, or `data` is missing where it is needed.

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
        raise TargetError(f"ignore must be a list of expressions, not the string {ignore!r}; write [{ignore!r}]")
    assignments = choose(model, pattern, targets, list(ignore))
    if strict:
        refuse([assignment for assignment in assignments if assignment.refused])
        refuse_unseen(model, targets, list(ignore))
    _require_finite([assignment.weight for assignment in assignments if assignment.pattern is not None])
    if budget in PLANNED and data is not None:
        data = replace(data, batches=list(data.batches))  # iterated twice: by the scan, then by the score
    assignments = decide(model, assignments, budget, score, data, limit)
    targeted = [assignment for assignment in assignments if assignment.pattern is not None]
    mask_budget = budget if budget in BUDGETS else "uniform"
    errors = None
    if update == "none":
        score_data = None if budget in PLANNED and score == "magnitude" else data
        masks = solve(
            targeted, SCORES[score](model, [assignment.weight for assignment in targeted], score_data), mask_budget
        )
    else:
        options = update if isinstance(update, Obs) else Obs()
        masks, errors = prune_and_update_(model, targeted, score, mask_budget, data, options)
    for assignment in targeted:
        assert assignment.pattern is not None
        set_mask_(assignment.weight, masks[assignment.weight.name], assignment.pattern)
    return _report(model, assignments, score, budget, errors)


def _one_of(what: str, value: str, table: Mapping[str, Any]) -> None:
    if value not in table:
        raise ArgumentError(unknown(what, value, table))


def _require_finite(weights: Iterable[Weight]) -> None:
    for weight in weights:
        values = whole(weight.tensor.detach())
        low, high = torch.aminmax(values)  # a NaN anywhere makes both NaN
        if not (torch.isfinite(low) and torch.isfinite(high)):
            count = int((~torch.isfinite(values)).sum())
            raise PatternError(
                f"{weight.name} has {count} NaN or infinite {'element' if count == 1 else 'elements'} out of {weight.tensor.numel()}; "
                "nothing was changed. Repair the weight, or add its layer to ignore"
            )


def _report(
    model: nn.Module,
    assignments: Sequence[Assignment],
    score: str,
    budget: str,
    errors: Mapping[str, tuple[float, float]] | None,
) -> Report:
    masks, patterns = masks_of(model), patterns_of(model)
    kept = {name: int(np.count_nonzero(mask.cpu().numpy())) for name, mask in masks.items()}
    rows = []
    for assignment in assignments:
        name, reason = assignment.weight.name, assignment.reason
        density = kept[name] / assignment.weight.tensor.numel() if name in masks else 1.0
        if name in masks and assignment.pattern is None:
            reason = f"unchanged by this call: {reason}"
        rows.append(
            {
                "name": name,
                "shape": list(assignment.weight.tensor.shape),
                "pattern": str(patterns[name]) if name in masks else "",
                "density": density,
                "sparsity": 1 - density,
                **_error_columns(name, errors),
                "reason": reason,
            }
        )
    pruned = [assignment.weight for assignment in assignments if assignment.pattern is not None]
    kept_elements = sum(kept[weight.name] for weight in pruned)
    total = sum(weight.tensor.numel() for weight in pruned)
    summary = {
        "pruned weights": len(pruned),
        "dense weights": sum(row["name"] not in masks for row in rows),
        "density of the pruned": kept_elements / total if total else 1.0,
        "sparsity of the pruned": 1 - kept_elements / total if total else 0.0,
        "score": score,
        "budget": budget,
        **({} if errors is None else {"update": "obs"}),
        **whole_model(model, assignments),
    }
    return Report("sparsify", tuple(rows), summary, ok=bool(pruned))


def _error_columns(name: str, errors: Mapping[str, tuple[float, float]] | None) -> dict[str, float | None]:
    if errors is None:
        return {}
    masked, updated = errors.get(name, (None, None))
    return {"error masked": masked, "error updated": updated}
