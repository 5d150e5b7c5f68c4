"""The words that say how a job prunes: known without torch, so that a mistyped one is refused in milliseconds."""

from typing import Literal, get_args

from ..errors import ArgumentError, unknown

__all__ = ["Budget", "Score", "Update", "require_choices"]

Score = Literal["magnitude", "taylor", "wanda", "second-order"]
Update = Literal["none", "obs"]
Budget = Literal["uniform", "global", "sensitivity", "constrained"]


def require_choices(score: str, update: str, budget: str) -> None:
    """Refuse a word that pruning at once, without a recipe, does not have.

    Raises
    ------
    ArgumentError
        With the nearest word and all there are.
    """
    alone = tuple(name for name in get_args(Budget) if name != "constrained")
    if budget == "constrained":
        raise ArgumentError("the constrained budget needs a limit, which only a recipe can give: prune.limit")
    for what, value, choices in (
        ("score", score, get_args(Score)),
        ("update", update, get_args(Update)),
        ("budget", budget, alone),
    ):
        if value not in choices:
            raise ArgumentError(unknown(what, value, choices))
