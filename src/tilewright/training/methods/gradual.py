"""`Gradual`: sparsity rises along a cubic curve while the model trains."""

from dataclasses import KW_ONLY, dataclass

from ...patterns import Pattern
from .base import Method, at_sparsity, need, parsed, whole_number

__all__ = ["Gradual"]


@dataclass(frozen=True)
class Gradual(Method):
    """Prune step by step: ``s(t) = s_f + (s_0 - s_f) * (1 - (t - begin) / (end - begin))**3`` (Zhu & Gupta, arXiv 1710.01878, eq. 1).

    Patterns with a sparsity rise to it. For n:m and banks, n falls from m to its target through whole numbers.
    What is pruned stays pruned, as the masked weights are what is scored (the practice of Yen et al., arXiv
    2207.08006), unless `regrow`. Tile-wise patterns regroup their outputs at each cut, so elements may come back with a new tile;
    they start again from zero.

    Parameters
    ----------
    pattern
        At the end; targets of a `Sparsifier` may each have their own.
    begin, end, every
        Steps: after step `begin` sparsity starts to rise, after step `end` the target is met; cuts are `every` steps apart.
    score
        ``"magnitude"``, or ``"taylor"``: ``sum of (w * g)**2`` over the last `scoring_steps` steps before the cut.
    budget
        ``"uniform"`` or ``"global"``, as in `sparsify_`.
    initial
        Sparsity s_0 before `begin`.
    regrow
        Keep dense values behind the mask, train them on with straight-through gradients, and let a later cut bring them back.
    scoring_steps
        Steps whose gradients make up a Taylor score, at most `every`.

    Raises
    ------
    ArgumentError
        If the steps contradict each other.

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
        """The pattern at the end."""
        return parsed(self.pattern)

    @property
    def dynamic(self) -> bool:
        """Whether pruned elements may come back."""
        return self.regrow

    @property
    def last(self) -> int:
        """The step at which the target is met."""
        return self.end

    @property
    def by(self) -> tuple[str, str]:
        """Score and budget."""
        return self.score, self.budget

    def sparsity(self, step: int, final: float) -> float:
        """Return the sparsity after a step on the way to a final one."""
        left = 1 - min(max(step - self.begin, 0) / (self.end - self.begin), 1)
        return final + (min(self.initial, final) - final) * left**3

    def first(self, final: Pattern) -> Pattern:
        """Return the pattern at the initial sparsity."""
        return at_sparsity(final, self.initial)

    def at(self, step: int, final: Pattern) -> Pattern | None:
        """Return the pattern of a cut, None between cuts."""
        if not self._cut(step):
            return None
        return final if step == self.end else at_sparsity(final, self.sparsity(step, 1 - final.density))

    def scoring(self, step: int) -> bool:
        """Say whether a cut follows within `scoring_steps`."""
        if self.score != "taylor" or step > self.end:
            return False
        ahead = range(step, min(step + self.scoring_steps, self.end + 1))
        return any(self._cut(later) for later in ahead)

    def _cut(self, step: int) -> bool:
        return self.begin < step <= self.end and ((step - self.begin) % self.every == 0 or step == self.end)
