"""`MultiStage`: a sequence of cuts with training in between, as in tile-wise pruning."""

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
    """Prune in stages, each starting from the model that the previous stage trained (Guo et al., arXiv 2008.13006, and its artifact).

    The gradients of the `scoring_steps` steps before a cut make up its scores, and all layers are ranked together; between cuts the
    model trains with a fixed mask. Pruned elements score zero, so each stage prunes what the previous one kept. Tiles are regrouped
    at each stage, so an element may return with its tile; it then starts from zero.

    Parameters
    ----------
    stages
        Patterns of the stages, each sparser than the one before; all targets share them.
    every
        Number of steps between cuts.
    begin
        The step after which the first cut is made. Default: ``min(scoring_steps, every)``.
    score
        ``"taylor"`` (default) or ``"magnitude"``.
    budget
        ``"global"`` (default) or ``"uniform"``, as in `sparsify_`.
    scoring_steps
        Number of steps before each cut whose gradients count; only the last `every` of them do. Default: 100.
    apriori
        Element-wise tuning of tile-wise cuts, see `Apriori`; requires tile-wise patterns and a global budget. Default: None, no
        tuning.

    Raises
    ------
    ArgumentError
        If a value is out of range, or the stages do not grow sparser.

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
            raise ArgumentError(f"stages of MultiStage must be a list of patterns; got {self.stages!r}")
        stages = tuple(parsed(stage) for stage in self.stages)
        object.__setattr__(self, "stages", stages)  # a tuple keeps the value immutable and hashable
        for stage, successor in pairwise(stages):
            if successor.density >= stage.density:
                raise ArgumentError(f"each stage must be sparser than the one before, but {successor} follows {stage}")
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
        """Always True: all targets share the stages."""
        return True

    @property
    def last(self) -> int:
        """The step of the last cut."""
        return self._first + (len(self.stages) - 1) * self.every

    @property
    def by(self) -> tuple[str, str]:
        """The score and the budget."""
        return self.score, self.budget

    def first(self, final: Pattern) -> Pattern:
        """Return the pattern at sparsity 0, which prunes nothing."""
        return at_sparsity(final, 0.0)

    def at(self, step: int, final: Pattern) -> Pattern | None:
        """Return the pattern of the stage that begins after a step; None if none does."""
        number, remainder = divmod(step - self._first, self.every)
        return parsed(self.stages[number]) if remainder == 0 and 0 <= number < len(self.stages) else None

    def scoring(self, step: int) -> bool:
        """Return whether a cut follows within `scoring_steps`."""
        if self.score != "taylor" or step > self.last:
            return False
        ahead = self._first - step if step <= self._first else (self._first - step) % self.every
        return ahead < self.scoring_steps

    def solve(self, choices: Sequence[Assignment], scorer: Scorer) -> dict[str, Tensor]:
        """Return the masks of a cut, with apriori tuning if it is set."""
        if self.apriori is None:
            return solve(choices, scorer, self.budget)
        pattern = choices[0].pattern  # all targets are in the same stage
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
