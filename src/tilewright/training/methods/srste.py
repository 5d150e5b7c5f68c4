"""`SRSTE`: sparse-refined straight-through estimation, masks chosen anew while training."""

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

    The forward pass sees ``W * mask``, mask the best the pattern allows by magnitude. The gradient goes straight to all of W, and the
    hidden part is decayed: ``g = dL/d(W * mask) + decay * (1 - mask) * W``. After each step the mask is computed anew.

    Parameters
    ----------
    pattern
        Of every target without a pattern of its own; n:m in the paper, any pattern here.
    decay
        Of hidden values; 2e-4 in the paper. 0 is the plain straight-through estimator.
    every
        Steps between two computations of the mask.

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
        """Return the pattern at every `every`-th step."""
        return None if step % self.every else final

    def solve(self, choices: Sequence[Assignment], scorer: Scorer) -> dict[str, Tensor]:
        """Return the masks of a step, on the device of the weights where that is possible."""
        return solve_where_they_are(choices, scorer, self.by[1])
