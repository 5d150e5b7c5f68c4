"""`sparsify_`: choose, score, solve, and only then change the model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import ArgumentError, PatternError, TargetError
from ..patterns import Pattern, as_matrix, from_matrix, parse
from ..report import Report
from .budgets import BUDGETS
from .masks import masks_of, patterns_of, set_mask_
from .scores import SCORES, Calibration, Scorer
from .targets import pick, require_match
from .weights import Weight, survey

__all__ = ["sparsify_"]

Targets = Sequence[str] | Mapping[str, Pattern | str]


@dataclass(frozen=True)
class _Choice:
    """What happens to one weight: a pattern, or a reason for none."""

    weight: Weight
    pattern: Pattern | None
    reason: str = ""
    refused: bool = False  # it was meant to be pruned and cannot be


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
        ``"magnitude"``, or ``"taylor"``, which needs `data`.
    budget
        ``"uniform"`` gives each layer the pattern's sparsity; ``"global"`` ranks all layers together. Patterns of fixed
        density do not notice.
    targets
        Expressions, the first that matches a weight wins; a mapping gives each its own pattern. An expression is an exact module
        or weight name, a glob (``encoder.*``), ``re:`` and a regular expression for the whole name, or a class name
        (``Linear``). Without targets: every weight that can be pruned. Embeddings never are.
    ignore
        Expressions for what stays dense, whatever `targets` says.
    data
        Batches and a loss for the scores that take gradients.
    strict
        Refuse, before anything is changed, if a targeted weight cannot take its pattern. Otherwise it is skipped and the
        report says why.

    Returns
    -------
    Report
        One row for every weight that could be pruned: name, shape, pattern, density, sparsity, and the reason if it is
        dense. ``ok`` is False if no weight was pruned at all.

    Raises
    ------
    TargetError
        If an expression matches nothing, or the model has no weight to prune.
    PatternError
        If a weight holds NaN or infinity, or, under `strict`, cannot take its pattern.
    ArgumentError
        If score, budget or data are not what is described above.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> sparsify_(model, "2:4", ignore=["2"]).rows[0]["density"]
    0.5
    """
    _one_of("score", score, SCORES)
    _one_of("budget", budget, BUDGETS)
    if isinstance(ignore, str):
        raise TargetError(f"ignore must be a list of expressions, and it is {ignore!r}; write [{ignore!r}]")
    choices = _choose(model, pattern, targets, list(ignore))
    if strict:
        _refuse([choice for choice in choices if choice.refused])
    taken = [choice for choice in choices if choice.pattern is not None]
    _require_finite([choice.weight for choice in taken])
    scorer = SCORES[score](model, [choice.weight for choice in taken], data)
    masks = _solve(taken, scorer, budget)
    for choice in taken:
        assert choice.pattern is not None
        set_mask_(choice.weight, masks[choice.weight.name], choice.pattern)
    return _report(model, choices, score, budget)


def _one_of(what: str, given: str, table: Mapping[str, Any]) -> None:
    if given not in table:
        raise ArgumentError(f"{given!r} is no {what}; there are {' and '.join(map(repr, table))}")


def _choose(model: nn.Module, pattern: Pattern | str, targets: Targets | None, ignore: list[str]) -> list[_Choice]:
    """Decide for every weight of the model."""
    default = _parsed(pattern)
    if isinstance(targets, str) or (targets is not None and not targets):
        raise TargetError(
            f"targets must be a list of expressions or a mapping of them to patterns, and it is {targets!r}; "
            "leave it out to prune every weight that can be pruned"
        )
    chosen = dict.fromkeys(targets or (), default)
    if isinstance(targets, Mapping):
        chosen = {expression: _parsed(value) for expression, value in targets.items()}
    weights = survey(model)
    if all(weight.reason for weight in weights):
        why = f": {weights[0].name} cannot be, because {weights[0].reason}" if weights else ""
        raise TargetError(f"{type(model).__name__} has no weight that can be pruned{why}")
    require_match(chosen, model, weights, "targets")
    require_match(ignore, model, weights, "ignore")

    def decide(weight: Weight) -> _Choice:
        ignored = pick(ignore, weight)
        if ignored is not None:
            return _Choice(weight, None, f"ignored by {ignored!r}")
        target = pick(chosen, weight)
        if targets is not None and target is None:
            return _Choice(weight, None, "no target matches it")
        if weight.reason:
            return _Choice(weight, None, weight.reason, refused=target is not None)
        mine = default if target is None else chosen[target]
        refusal = mine.refusal(weight.matrix_shape)
        return _Choice(weight, None, refusal, refused=True) if refusal else _Choice(weight, mine)

    return [decide(weight) for weight in weights]


def _parsed(pattern: Pattern | str) -> Pattern:
    return pattern if isinstance(pattern, Pattern) else parse(pattern)


def _refuse(refused: list[_Choice]) -> None:
    if refused:
        lines = "; ".join(f"{choice.weight.name}: {choice.reason}" for choice in refused[:5])
        more = f"; and {len(refused) - 5} more" if len(refused) > 5 else ""
        raise PatternError(
            f"{len(refused)} targeted {'weight' if len(refused) == 1 else 'weights'} cannot be pruned, and strict was asked for: "
            f"{lines}{more}. Nothing was changed; put them under ignore, or leave strict out"
        )


def _require_finite(weights: Iterable[Weight]) -> None:
    for weight in weights:
        low, high = torch.aminmax(weight.tensor.detach())  # a NaN anywhere makes both NaN
        if not (torch.isfinite(low) and torch.isfinite(high)):
            bad = int((~torch.isfinite(weight.tensor)).sum())
            raise PatternError(
                f"{weight.name} holds {bad} NaN or infinite {'element' if bad == 1 else 'elements'} of {weight.tensor.numel()}; "
                "nothing was changed. Repair the weight, or put its layer under ignore"
            )


def _solve(taken: Sequence[_Choice], scorer: Scorer, budget: str) -> dict[str, Tensor]:
    """Return the mask of every weight in its stored shape; the model is not touched."""
    weights = {choice.weight.name: choice.weight for choice in taken}
    groups: dict[Pattern, list[str]] = {}
    for choice in taken:
        assert choice.pattern is not None
        groups.setdefault(choice.pattern, []).append(choice.weight.name)
    masks: dict[str, NDArray[np.bool_]] = {}
    scores = _matrices(weights, scorer)
    for pattern, names in groups.items():
        masks |= BUDGETS[budget](pattern, names, scores)
    return {
        name: torch.from_numpy(from_matrix(masks[name], weight.layout, tuple(weight.tensor.shape)).copy())
        for name, weight in weights.items()
    }


def _matrices(weights: Mapping[str, Weight], scorer: Scorer) -> Callable[[str], NDArray[Any]]:
    """Return a function that gives the scores of a named weight as ``[N, K]``, float32 or float64."""

    def scores(name: str) -> NDArray[Any]:
        weight = weights[name]
        values = scorer(weight)
        wide = values.to("cpu", torch.float64 if values.dtype == torch.float64 else torch.float32)
        return as_matrix(wide.numpy(), weight.layout)

    return scores


def _report(model: nn.Module, choices: Sequence[_Choice], score: str, budget: str) -> Report:
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
    }
    return Report("sparsify", tuple(rows), summary, ok=bool(pruned))
