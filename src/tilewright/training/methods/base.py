"""The interface of all methods, and intermediate patterns between dense and the target."""

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from ...errors import ArgumentError
from ...patterns import NM, Pattern, TileVectorWise, TileWise, parse
from ...pruning import Assignment, Scorer, solve

__all__ = ["Method", "at_sparsity", "need", "parsed", "whole_number"]


class Method:
    """When masks change during training, and what happens to pruned elements in between.

    A method is a frozen value without state. The defaults hold one mask; a subclass overrides what differs. `Sparsifier` calls it
    after each optimizer step. Steps are counted from 1; step 0 is the model before training.
    """

    @property
    def final(self) -> Pattern | None:
        """The final pattern, parsed; None to hold the masks that the model already has."""
        return None

    @property
    def shared(self) -> bool:
        """Whether all weights share the method's sequence of patterns, so that targets cannot set their own."""
        return False

    @property
    def dynamic(self) -> bool:
        """Whether pruned elements keep a dense value and may return."""
        return False

    @property
    def last(self) -> int:
        """The step after which masks need no further change."""
        return 0

    @property
    def by(self) -> tuple[str, str]:
        """The score and the budget of a cut, as in `sparsify_`."""
        return "magnitude", "uniform"

    @property
    def hidden_decay(self) -> float:
        """The decay added to the gradient of the dense values behind masks."""
        return 0.0

    def first(self, final: Pattern) -> Pattern:
        """Return the pattern of a mask before the first step, for a final pattern."""
        return final

    def at(self, step: int, final: Pattern) -> Pattern | None:
        """Return the pattern to recompute masks for after a step; None to leave them unchanged."""
        return None

    def scoring(self, step: int) -> bool:
        """Return whether the gradients of a step count towards the score of the next cut."""
        return False

    def solve(self, choices: Sequence[Assignment], scorer: Scorer) -> dict[str, Tensor]:
        """Return the masks of a cut by weight name, in the stored shapes."""
        return solve(choices, scorer, self.by[1])


def at_sparsity(pattern: Pattern, sparsity: float) -> Pattern:
    """Return a pattern of the same kind at a lower sparsity, for gradual pruning towards the pattern.

    For n:m patterns, n is the smallest that keeps at least ``1 - sparsity``, and never below the target's n. A tile-vector-wise
    pattern below the sparsity of its n:m becomes tile-wise.

    Parameters
    ----------
    pattern
        The target pattern.
    sparsity
        The sparsity to reach, from 0 to that of the target.

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
    """Return a pattern, parsed if it is text."""
    return parse(pattern) if isinstance(pattern, str) else pattern


def need(valid: bool, kind: str, name: str, value: object, expected: str) -> None:
    """Raise `ArgumentError` for an invalid field of a method."""
    if not valid:
        raise ArgumentError(f"{name} of {kind} must be {expected}; got {value!r}")


def whole_number(value: object, least: int) -> bool:
    """Return whether a value is an integer of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
