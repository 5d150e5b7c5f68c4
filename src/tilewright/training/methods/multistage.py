"""`MultiStage`: one cut after another, with training between them, as tile-wise pruning is done."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ...errors import ArgumentError
from ...patterns import Pattern, as_matrix, from_matrix
from ...pruning import Assignment, Scorer, solve
from .apriori import Apriori, tuned_masks
from .base import Method, at_sparsity, need, parsed, whole_number

__all__ = ["MultiStage"]


@dataclass(frozen=True)
class MultiStage(Method):
    """Prune in stages, each from the model that the last one has trained (Guo et al., arXiv 2008.13006, and its artifact).

    Gradients of the `scoring_steps` before a cut make up its scores; all layers are ranked together; between cuts the model trains
    on with its mask fixed. Scores of pruned elements are zero, so a new stage takes from what the last one left. Tiles are
    formed anew at each stage: an element may come back with its tile, and starts again from zero.

    Parameters
    ----------
    stages
        Patterns, each sparser than the one before, for all targets alike.
    every
        Steps from one cut to the next.
    begin
        Steps before the first cut; ``min(scoring_steps, every)`` where not given.
    score
        ``"taylor"`` or ``"magnitude"``.
    budget
        ``"global"`` or ``"uniform"``, as in `sparsify_`.
    scoring_steps
        Steps before each cut whose gradients count, at most `every`.
    apriori
        Tuning of tile-wise cuts by an element-wise pass, for patterns with tiles and a global budget; None for none.

    Raises
    ------
    ArgumentError
        If stages or steps contradict each other.

    Examples
    --------
    >>> plan = MultiStage(["tw16@25%", "tw16@50%", "tw16@75%"], every=100, scoring_steps=20)
    >>> plan.last, str(plan.at(120, plan.final)), plan.at(121, plan.final), plan.scoring(100), plan.scoring(101)
    (220, 'tw16@50%', None, False, True)
    """

    stages: Sequence[Pattern | str]
    _: KW_ONLY
    every: int
    begin: int | None = None
    score: str = "taylor"
    budget: str = "global"
    scoring_steps: int = 100
    apriori: Apriori | None = None

    def __post_init__(self) -> None:
        kind = "MultiStage"
        if isinstance(self.stages, str) or not self.stages:
            raise ArgumentError(f"MultiStage needs a list of patterns, and its stages are {self.stages!r}")
        stages = tuple(parsed(stage) for stage in self.stages)
        object.__setattr__(self, "stages", stages)  # a list would make the value change and its hash fail
        for before, after in pairwise(stages):
            if after.density >= before.density:
                raise ArgumentError(f"each stage must keep less than the one before, and {after} follows {before}")
        need(whole_number(self.every, 1), kind, "every", self.every, "a whole number of steps, 1 or more")
        need(self.begin is None or whole_number(self.begin, 1), kind, "begin", self.begin, "a step, 1 or more, or None")
        need(self.score in ("magnitude", "taylor"), kind, "score", self.score, "'magnitude' or 'taylor'")
        need(self.budget in ("uniform", "global"), kind, "budget", self.budget, "'uniform' or 'global'")
        need(whole_number(self.scoring_steps, 1), kind, "scoring_steps", self.scoring_steps, "1 or more")
        if self.apriori is not None:
            need(self.budget == "global", kind, "budget", self.budget, "'global' for apriori tuning")
            tiled = all(hasattr(stage, "tile") and not stage.fixed for stage in stages)
            need(tiled, kind, "stages", ", ".join(map(str, stages)), "tile-wise for apriori tuning")

    @property
    def final(self) -> Pattern:
        """The last stage."""
        return parsed(self.stages[-1])

    @property
    def shared(self) -> bool:
        """Always True: targets are lists."""
        return True

    @property
    def last(self) -> int:
        """The step of the last cut."""
        return self._first + (len(self.stages) - 1) * self.every

    @property
    def by(self) -> tuple[str, str]:
        """Score and budget."""
        return self.score, self.budget

    def first(self, final: Pattern) -> Pattern:
        """Return the pattern that prunes nothing yet."""
        return at_sparsity(final, 0.0)

    def at(self, step: int, final: Pattern) -> Pattern | None:
        """Return the stage that begins after a step, None if none does."""
        number, rest = divmod(step - self._first, self.every)
        return parsed(self.stages[number]) if rest == 0 and 0 <= number < len(self.stages) else None

    def scoring(self, step: int) -> bool:
        """Say whether a cut follows within `scoring_steps`."""
        if self.score != "taylor" or step > self.last:
            return False
        ahead = self._first - step if step <= self._first else (self._first - step) % self.every
        return ahead < self.scoring_steps

    def solve(self, choices: Sequence[Assignment], scorer: Scorer) -> dict[str, Tensor]:
        """Return the masks of a cut, tuned if asked for."""
        if self.apriori is None:
            return solve(choices, scorer, self.budget)
        pattern = choices[0].pattern  # one stage at a time
        assert pattern is not None
        weights = {choice.weight.name: choice.weight for choice in choices}
        scores = {name: as_matrix(scorer(weight).cpu().numpy(), weight.layout) for name, weight in weights.items()}
        masks = tuned_masks(pattern, scores, self.apriori)
        return {
            name: torch.from_numpy(from_matrix(masks[name], weight.layout, tuple(weight.tensor.shape)).copy())
            for name, weight in weights.items()
        }

    @property
    def _first(self) -> int:
        return min(self.scoring_steps, self.every) if self.begin is None else self.begin
