"""Which weights get which pattern: one assignment for every weight of a model, with a reason where it stays dense."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from ..errors import PatternError, TargetError
from ..patterns import Pattern, parse
from .targets import pick, require_match
from .weights import Weight, survey

__all__ = ["Assignment", "Targets", "choose", "refuse"]

Targets = Sequence[str] | Mapping[str, Pattern | str]


@dataclass(frozen=True)
class Assignment:
    """A weight with its pattern, or with the reason why it stays dense."""

    weight: Weight
    pattern: Pattern | None
    reason: str = ""
    refused: bool = False  # targeted, but cannot be pruned


def choose(model: nn.Module, pattern: Pattern | str, targets: Targets | None, ignore: list[str]) -> list[Assignment]:
    """Assign a pattern, or none, to every weight of the model; parameters as in `sparsify_`."""
    default = _parsed(pattern)
    if isinstance(targets, str) or (targets is not None and not targets):
        raise TargetError(
            f"targets must be a list of expressions or a mapping from expressions to patterns, not {targets!r}; "
            "omit it to prune every weight that can be pruned"
        )
    patterns = dict.fromkeys(targets or (), default)
    if isinstance(targets, Mapping):
        patterns = {expression: _parsed(value) for expression, value in targets.items()}
    weights = survey(model)
    if all(weight.reason for weight in weights):
        why = f": {weights[0].name} cannot be pruned because {weights[0].reason}" if weights else ""
        raise TargetError(f"{type(model).__name__} has no weight that can be pruned{why}")
    require_match(patterns, model, weights, "targets")
    require_match(ignore, model, weights, "ignore")

    def decide(weight: Weight) -> Assignment:
        ignored = pick(ignore, weight)
        if ignored is not None:
            return Assignment(weight, None, f"ignored by {ignored!r}")
        target = pick(patterns, weight)
        if targets is not None and target is None:
            return Assignment(weight, None, "no target matches it")
        if weight.reason:
            return Assignment(weight, None, weight.reason, refused=target is not None)
        own_pattern = default if target is None else patterns[target]
        refusal = weight.refusal(own_pattern)
        return Assignment(weight, None, refusal, refused=True) if refusal else Assignment(weight, own_pattern)

    return [decide(weight) for weight in weights]


def _parsed(pattern: Pattern | str) -> Pattern:
    return pattern if isinstance(pattern, Pattern) else parse(pattern)


def refuse(refused: list[Assignment]) -> None:
    """Raise `PatternError` naming the targeted weights that cannot be pruned, if there are any."""
    if refused:
        lines = "; ".join(f"{assignment.weight.name}: {assignment.reason}" for assignment in refused[:5])
        more = f"; and {len(refused) - 5} more" if len(refused) > 5 else ""
        raise PatternError(
            f"{len(refused)} targeted {'weight' if len(refused) == 1 else 'weights'} cannot be pruned, which strict does not allow: "
            f"{lines}{more}. Nothing was changed; add them to ignore, or omit strict"
        )
