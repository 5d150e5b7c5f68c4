"""The names of scores, updates and budgets, known without importing torch so that a typo is refused in milliseconds."""

from typing import Literal, get_args

from ..errors import ArgumentError, unknown

__all__ = ["Budget", "Score", "Update", "require_choices"]

Score = Literal["magnitude", "taylor", "wanda", "second-order"]
Update = Literal["none", "obs"]
Budget = Literal["uniform", "global", "sensitivity", "constrained"]


def require_choices(score: str, update: str, budget: str) -> None:
    """Check the names that `prune` takes.

    Parameters
    ----------
    score, update, budget
        Names as for `sparsify_`. The constrained budget is refused: it needs a limit, which only a recipe can give.

    Raises
    ------
    ArgumentError
        If a name is unknown; the message suggests the nearest and lists all.
    """
    unlimited = tuple(name for name in get_args(Budget) if name != "constrained")
    if budget == "constrained":
        raise ArgumentError("the constrained budget needs a limit, which only a recipe can give; set prune.limit there")
    for what, value, choices in (
        ("score", score, get_args(Score)),
        ("update", update, get_args(Update)),
        ("budget", budget, unlimited),
    ):
        if value not in choices:
            raise ArgumentError(unknown(what, value, choices))
