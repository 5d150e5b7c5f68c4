"""`Gradual`: sparsity that rises along a cubic curve during training."""

from dataclasses import KW_ONLY, dataclass

from ...patterns import Pattern
from .base import Method, at_sparsity, need, parsed, whole_number

__all__ = ["Gradual"]


@dataclass(frozen=True)
class Gradual(Method):
    """Prune gradually: ``s(t) = s_f + (s_0 - s_f) * (1 - (t - begin) / (end - begin))**3`` (Zhu & Gupta, arXiv 1710.01878, eq. 1).

    For patterns with a sparsity, the sparsity rises along this curve. For n:m and banks, n falls from m to the target in whole
    numbers. Each cut scores the masked weights, so pruned elements stay pruned (as in Yen et al., arXiv 2207.08006), unless
    `regrow` is set. Tile-wise patterns regroup their outputs at each cut, so an element may return with a new tile; it then starts
    from zero.

    Parameters
    ----------
    pattern
        The final pattern. The targets of a `Sparsifier` may override it.
    begin, end, every
        Schedule in steps: sparsity starts to rise after step `begin` (default 0) and reaches the target after step `end`, with a
        cut every `every` steps.
    score
        ``"magnitude"`` (default), or ``"taylor"``: the sum of ``(w * g)**2`` over the last `scoring_steps` steps before the cut.
    budget
        ``"uniform"`` (default) or ``"global"``, as in `sparsify_`.
    initial
        Initial sparsity s_0, up to step `begin`. Default: 0.
    regrow
        Whether to keep dense values behind the mask and train them with straight-through gradients, so that a later cut can bring
        them back. Default: False.
    scoring_steps
        Number of steps before a cut whose gradients make up its Taylor score; only the last `every` of them count. Default: 100.

    Raises
    ------
    ArgumentError
        If a value is out of range, or `end` is not after `begin`.

    Examples
    --------
    >>> plan = Gradual("1:4", begin=0, end=40, every=10)
    >>> [str(plan.at(step, plan.final)) for step in (10, 20, 30, 40)], plan.at(15, plan.final)
    (['3:4', '2:4', '2:4', '1:4'], None)
    """

    pattern: Pattern | str
    _: KW_ONLY
    begin: int = 0
    end: int
    every: int
    score: str = "magnitude"
    budget: str = "uniform"
    initial: float = 0.0
    regrow: bool = False
    scoring_steps: int = 100

    def __post_init__(self) -> None:
        parsed(self.pattern)
        kind = type(self).__name__
        need(whole_number(self.begin, 0), kind, "begin", self.begin, "a step, 0 or more")
        need(
            whole_number(self.end, self.begin + 1), kind, "end", self.end, f"a step after begin, which is {self.begin}"
        )
        need(whole_number(self.every, 1), kind, "every", self.every, "a whole number of steps, 1 or more")
        need(self.score in ("magnitude", "taylor"), kind, "score", self.score, "'magnitude' or 'taylor'")
        need(self.budget in ("uniform", "global"), kind, "budget", self.budget, "'uniform' or 'global'")
        need(0 <= self.initial < 1, kind, "initial", self.initial, "a sparsity in [0, 1)")
        need(whole_number(self.scoring_steps, 1), kind, "scoring_steps", self.scoring_steps, "1 or more")

    @property
    def final(self) -> Pattern:
        """The final pattern."""
        return parsed(self.pattern)

    @property
    def dynamic(self) -> bool:
        """Whether pruned elements may return."""
        return self.regrow

    @property
    def last(self) -> int:
        """The step at which the target is reached."""
        return self.end

    @property
    def by(self) -> tuple[str, str]:
        """The score and the budget."""
        return self.score, self.budget

    def sparsity(self, step: int, final: float) -> float:
        """Return the sparsity after a step, for a final sparsity."""
        remainder = 1 - min(max(step - self.begin, 0) / (self.end - self.begin), 1)
        return final + (min(self.initial, final) - final) * remainder**3

    def first(self, final: Pattern) -> Pattern:
        """Return the pattern at the initial sparsity."""
        return at_sparsity(final, self.initial)

    def at(self, step: int, final: Pattern) -> Pattern | None:
        """Return the pattern of the cut after a step; None between cuts."""
        if not self._cut(step):
            return None
        return final if step == self.end else at_sparsity(final, self.sparsity(step, 1 - final.density))

    def scoring(self, step: int) -> bool:
        """Return whether a cut follows within `scoring_steps`."""
        if self.score != "taylor" or step > self.end:
            return False
        ahead = range(step, min(step + self.scoring_steps, self.end + 1))
        return any(self._cut(later) for later in ahead)

    def _cut(self, step: int) -> bool:
        return self.begin < step <= self.end and ((step - self.begin) % self.every == 0 or step == self.end)
