"""Which weights are meant: one decision for every weight of a model, and the reason where it stays dense."""

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
    """What happens to one weight: a pattern, or a reason for none."""

    weight: Weight
    pattern: Pattern | None
    reason: str = ""
    refused: bool = False  # it was meant to be pruned and cannot be


def choose(model: nn.Module, pattern: Pattern | str, targets: Targets | None, ignore: list[str]) -> list[Assignment]:
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

    def decide(weight: Weight) -> Assignment:
        ignored = pick(ignore, weight)
        if ignored is not None:
            return Assignment(weight, None, f"ignored by {ignored!r}")
        target = pick(chosen, weight)
        if targets is not None and target is None:
            return Assignment(weight, None, "no target matches it")
        if weight.reason:
            return Assignment(weight, None, weight.reason, refused=target is not None)
        mine = default if target is None else chosen[target]
        refusal = weight.refusal(mine)
        return Assignment(weight, None, refusal, refused=True) if refusal else Assignment(weight, mine)

    return [decide(weight) for weight in weights]


def _parsed(pattern: Pattern | str) -> Pattern:
    return pattern if isinstance(pattern, Pattern) else parse(pattern)


def refuse(refused: list[Assignment]) -> None:
    """Raise `PatternError` naming the weights that were meant to be pruned and cannot be, if there are any."""
    if refused:
        lines = "; ".join(f"{choice.weight.name}: {choice.reason}" for choice in refused[:5])
        more = f"; and {len(refused) - 5} more" if len(refused) > 5 else ""
        raise PatternError(
            f"{len(refused)} targeted {'weight' if len(refused) == 1 else 'weights'} cannot be pruned, and strict was asked for: "
            f"{lines}{more}. Nothing was changed; put them under ignore, or leave strict out"
        )
