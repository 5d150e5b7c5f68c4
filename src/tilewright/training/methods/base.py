"""The seam of every method, and patterns on their way from dense to their target."""

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from ...errors import ArgumentError
from ...patterns import NM, Pattern, TileVectorWise, TileWise, parse
from ...pruning import Assignment, Scorer, solve

__all__ = ["Method", "at_sparsity", "need", "parsed", "whole_number"]


class Method:
    """When masks change during training, and what pruned elements do meanwhile.

    A method is a frozen value without state; it overrides what differs from holding one mask. `Sparsifier` asks it after each
    optimizer step. Steps are counted from 1, so that step 0 is the model as it was given.
    """

    @property
    def final(self) -> Pattern | None:
        """The pattern at the end, parsed; None for the masks that the model has."""
        return None

    @property
    def shared(self) -> bool:
        """Whether every weight goes through the method's own patterns, so that targets cannot have theirs."""
        return False

    @property
    def dynamic(self) -> bool:
        """Whether pruned elements keep a dense value and may come back."""
        return False

    @property
    def last(self) -> int:
        """Step after which masks no longer have to change."""
        return 0

    @property
    def by(self) -> tuple[str, str]:
        """Score and budget of a cut."""
        return "magnitude", "uniform"

    @property
    def hidden_decay(self) -> float:
        """Decay added to the gradient of hidden values."""
        return 0.0

    def first(self, final: Pattern) -> Pattern:
        """Return what a mask obeys before the first step."""
        return final

    def at(self, step: int, final: Pattern) -> Pattern | None:
        """Return the pattern for which masks are computed anew after a step; None to leave them."""
        return None

    def scoring(self, step: int) -> bool:
        """Say whether the gradients of a step count for the score of the next cut."""
        return False

    def solve(self, choices: Sequence[Assignment], scorer: Scorer) -> dict[str, Tensor]:
        """Return the masks of a cut in the stored shapes."""
        return solve(choices, scorer, self.by[1])


def at_sparsity(pattern: Pattern, sparsity: float) -> Pattern:
    """Return a pattern of the same kind that prunes only this much, for the way from dense to the pattern.

    n:m patterns take the least n that keeps ``1 - sparsity``, never below their own; a tile-vector-wise pattern below its least
    sparsity is tile-wise alone.

    Parameters
    ----------
    pattern
        The target.
    sparsity
        From 0 to the target's own.

    Examples
    --------
    >>> [str(at_sparsity(parse("1:8"), s)) for s in (0, 0.5, 0.8, 0.875)]
    ['8:8', '4:8', '2:8', '1:8']
    >>> [str(at_sparsity(parse("tvw8@75%"), s)) for s in (0.25, 0.6)]
    ['tw8@25%', 'tvw8@60%']
    """
    if isinstance(pattern, NM):
        kept = math.ceil(pattern.m * (1 - sparsity) - 1e-6)
        return replace(pattern, n=min(max(kept, pattern.n), pattern.m))
    share = round(min(sparsity, 1 - pattern.density), 6)
    if isinstance(pattern, TileVectorWise) and share < 1 - pattern.n / pattern.m:
        return TileWise(pattern.tile, share)
    if abs(share - (1 - pattern.density)) < 1e-6:
        return pattern
    return replace(pattern, sparsity=share)  # type: ignore[call-arg]


def parsed(pattern: Pattern | str) -> Pattern:
    """Return a pattern given as a value or as text."""
    return parse(pattern) if isinstance(pattern, str) else pattern


def need(fine: bool, kind: str, name: str, value: object, expected: str) -> None:
    """Raise `ArgumentError` for a field of a method."""
    if not fine:
        raise ArgumentError(f"{kind} needs {name} to be {expected}; it is {value!r}")


def whole_number(value: object, least: int) -> bool:
    """Say whether a value is a whole number of at least so much."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
