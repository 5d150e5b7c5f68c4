"""`SRSTE`: sparse-refined straight-through estimation, with masks that follow the weights during training."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ...patterns import Pattern
from ...pruning import Assignment, Scorer
from .base import Method, need, parsed, whole_number
from .device import solve_where_they_are

__all__ = ["SRSTE"]


@dataclass(frozen=True)
class SRSTE(Method):
    """Train dense weights through a mask that follows them (Zhou et al., arXiv 2102.04010, section 3.2).

    The forward pass uses ``W * mask``, where the mask keeps the largest magnitudes that the pattern allows. The gradient passes
    straight through to all of W, and masked elements decay: ``g = dL/d(W * mask) + decay * (1 - mask) * W``. The mask is recomputed
    after each step.

    Parameters
    ----------
    pattern
        Pattern of every target that does not set its own. The paper uses n:m; any pattern works here.
    decay
        Decay of masked elements. 0 gives the plain straight-through estimator. Default: 2e-4, as in the paper.
    every
        Number of steps between mask updates. Default: 1.

    Raises
    ------
    ArgumentError
        If a value is out of range.

    Examples
    --------
    >>> SRSTE("2:4").final
    NM(n=2, m=4, tile=1, transposable=False)
    """

    pattern: Pattern | str
    decay: float = 2e-4
    every: int = 1

    def __post_init__(self) -> None:
        parsed(self.pattern)
        need(
            isinstance(self.decay, int | float) and 0 <= self.decay < 1,
            "SRSTE",
            "decay",
            self.decay,
            "a number in [0, 1)",
        )
        need(whole_number(self.every, 1), "SRSTE", "every", self.every, "a whole number of steps, 1 or more")

    @property
    def final(self) -> Pattern:
        """The pattern."""
        return parsed(self.pattern)

    @property
    def dynamic(self) -> bool:
        """Always True."""
        return True

    @property
    def hidden_decay(self) -> float:
        """The decay."""
        return self.decay

    def at(self, step: int, final: Pattern) -> Pattern | None:
        """Return the pattern at multiples of `every`; None otherwise."""
        return None if step % self.every else final

    def solve(self, choices: Sequence[Assignment], scorer: Scorer) -> dict[str, Tensor]:
        """Return the masks of a step, computed on the weights' device if possible."""
        return solve_where_they_are(choices, scorer, self.by[1])
