"""The recovery methods of a recipe, all by distillation from the dense model: one class each, selected by `method`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from ...patterns import NM, parse
from .distil import Distilled, Rise, gradual, late, listed, only
from .parts import Part, PatternText, Share
from .prune import Prune

if TYPE_CHECKING:
    from ...training import SRSTE, Gradual, Method, MultiStage, ProgressiveOptions

__all__ = [
    "METHODS",
    "AprioriPart",
    "Fixed",
    "GradualRecovery",
    "Inherited",
    "MultiStageRecovery",
    "Pick",
    "Progressive",
    "Recover",
    "SRSTERecovery",
]


_MOST_MEMBERS = 255
"""Maximum number of members in a family: each is a training run of its own."""


class Fixed(Distilled):
    """Prune once, then train with the mask fixed (Mishra et al., arXiv 2104.08378)."""

    method: Literal["fixed"] = "fixed"

    @property
    def once(self) -> bool:
        """Whether the model is pruned in one shot, before training."""
        return True

    def objections(self, prune: Prune) -> Iterator[str]:
        """Yield nothing: a fixed mask can come from any kind of pruning."""
        yield from ()


class GradualRecovery(Distilled, Rise):
    """Prune step by step while training (Zhu and Gupta, arXiv 1710.01878)."""

    method: Literal["gradual"]

    def way(self, prune: Prune) -> "Gradual":
        """Return the schedule."""
        return gradual(self, prune)

    def objections(self, prune: Prune) -> Iterator[str]:
        """Yield what gradual pruning does not support, and what is wrong with its steps."""
        yield from only(prune, ("magnitude", "taylor"), ("uniform", "global"), "recover.method: gradual")
        yield from late(self.end, self.steps)


class AprioriPart(Part):
    """Protect tiles that an element-wise pass keeps almost entirely, and drop those it nearly empties first; see `Apriori`.

    Parameters
    ----------
    protect
        Kept fraction at or above which an output or a tile column is kept before all others.
    drop
        Kept fraction at or below which an output or a tile column is dropped before all others.
    """

    protect: float = Field(default=0.95, ge=0, le=1)
    drop: float = Field(default=0.05, ge=0, le=1)


class MultiStageRecovery(Distilled):
    """Prune in stages with training between them (Guo et al., arXiv 2008.13006).

    Parameters
    ----------
    stages
        Intermediate patterns, each sparser than the one before. The last stage is ``prune.pattern`` and is not repeated here.
    every
        Number of steps between cuts.
    begin
        Number of steps before the first cut. Default: the smaller of `scoring_steps` and `every`.
    scoring_steps
        Number of steps before each cut whose gradients contribute to the Taylor score.
    apriori
        Apriori tuning of tile-wise cuts. Default: none.
    """

    method: Literal["multi-stage"]
    stages: tuple[PatternText, ...] = ()
    every: int = Field(ge=1)
    begin: int | None = Field(default=None, ge=1)
    scoring_steps: int = Field(default=100, ge=1)
    apriori: AprioriPart | None = None

    def way(self, prune: Prune) -> "MultiStage":
        """Return the stages."""
        from ...training import Apriori, MultiStage

        return MultiStage(
            (*self.stages, prune.pattern),
            every=self.every,
            begin=self.begin,
            score=prune.score,
            budget=prune.budget,
            scoring_steps=self.scoring_steps,
            apriori=None if self.apriori is None else Apriori(self.apriori.protect, self.apriori.drop),
        )

    def objections(self, prune: Prune) -> Iterator[str]:
        """Yield what stages do not support, and what is wrong with their steps."""
        yield from only(prune, ("magnitude", "taylor"), ("uniform", "global"), "recover.method: multi-stage")
        yield from listed(prune, "stages")
        first = min(self.scoring_steps, self.every) if self.begin is None else self.begin
        yield from late(first + len(self.stages) * self.every, self.steps)


class SRSTERecovery(Distilled):
    """Train dense weights through a mask that follows them (Zhou et al., arXiv 2102.04010).

    Parameters
    ----------
    decay
        Weight decay of the pruned weights, which keep training behind the mask.
    every
        Number of steps between mask updates.
    """

    method: Literal["sr-ste"]
    decay: float = Field(default=2e-4, ge=0, lt=1)
    every: int = Field(default=1, ge=1)

    def way(self, prune: Prune) -> "SRSTE":
        """Return the method."""
        from ...training import SRSTE

        return SRSTE(prune.pattern, self.decay, self.every)


class Pick(Part):
    """Which member of a family becomes the result: give one of the three keys.

    Parameters
    ----------
    n
        Pick the member that keeps n of m.
    quality
        Pick the smallest member that reaches this share of the dense model's quality on the validation split.
    size
        Pick the best member on the validation split whose size on disk is at most this fraction of the dense model's.
    """

    n: int | None = Field(default=None, ge=1)
    quality: float | None = Field(default=None, gt=0)
    size: Share | None = None

    @model_validator(mode="after")
    def _one(self) -> "Pick":
        if sum(value is not None for value in (self.n, self.quality, self.size)) != 1:
            raise ValueError("give exactly one of n, quality and size")
        return self


class Inherited(Distilled):
    """Train a whole family of n:m members, each from the best of the one above (Fang et al., arXiv 2208.06118).

    ``prune.pattern`` is the sparsest member.

    Parameters
    ----------
    cost
        Number of steps for the whole family, as a multiple of `steps`.
    levels
        Values of n in decreasing order, ending with that of the pattern. Default: every n below m.
    decay
        Weight decay of the pruned weights, which keep training behind the mask.
    checks
        Number of evaluations on the validation split per level; the best state of a level becomes its member.
    curve
        No effect here: each member is a point of the curve.
    pick
        Which member becomes the result. Default: the sparsest.
    """

    method: Literal["inherited"]
    cost: float = Field(default=2.5, gt=0)
    levels: tuple[int, ...] | None = Field(default=None, min_length=1)
    decay: float = Field(default=2e-4, ge=0, lt=1)
    checks: int = Field(default=1, ge=1)
    pick: Pick | None = None

    @property
    def looks(self) -> bool:
        """Always True: members are chosen on the validation split."""
        return True

    @property
    def total(self) -> int:
        """Number of optimizer steps per seed."""
        return round(self.cost * self.steps)

    def falling(self, prune: Prune) -> tuple[int, int, tuple[int, ...]]:
        """Return n and m of the pattern, and the levels."""
        pattern = parse(prune.pattern)
        assert isinstance(pattern, NM)
        levels = self.levels or tuple(range(pattern.m - 1, pattern.n - 1, -1))
        return pattern.n, pattern.m, levels

    def objections(self, prune: Prune) -> Iterator[str]:
        """Yield what is wrong with the pattern, the levels or the pick."""
        yield from super().objections(prune)
        yield from listed(prune, "members")
        pattern = parse(prune.pattern)
        if not (isinstance(pattern, NM) and pattern.tile == 1 and not pattern.transposable):
            yield f"prune.pattern is {pattern}, but a family needs a plain n:m pattern, without tiles"
            return
        if not 0 < pattern.m - pattern.n <= _MOST_MEMBERS:
            yield (
                f"prune.pattern is {pattern}, but a family has one member for every n from m - 1 down to that of the pattern, "
                f"1 to {_MOST_MEMBERS} in all"
            )
            return
        n, m, levels = self.falling(prune)
        if list(levels) != sorted(set(levels), reverse=True) or levels[-1] != n or levels[0] >= m:
            yield f"recover.levels is {list(levels)}; levels must decrease from at most {m - 1} to {n}, the n of prune.pattern"
        if self.pick is not None and self.pick.n is not None and self.pick.n not in levels:
            yield f"recover.pick.n is {self.pick.n}; the members have n = {', '.join(map(str, levels))}"


class Progressive(Distilled):
    """Distil block by block inside the dense model (Huang et al., arXiv 2110.08190).

    Parameters
    ----------
    blocks
        Names or globs of the modules to replace.
    start
        Probability that a block is the student's at the first step.
    rise
        Fraction of the steps over which that probability rises to 1.
    attention
        Weight of the attention term of the loss.
    attentions
        Names or globs of the attention modules to compare. Default: none, and no attention term.
    gradual
        Schedule for pruning during training. Default: prune once, before training.
    """

    method: Literal["progressive"]
    blocks: tuple[str, ...] = Field(min_length=1)
    start: float = Field(default=0.5, ge=0, le=1)
    rise: float = Field(default=0.5, ge=0, le=1)
    attention: float = Field(default=1.0, ge=0)
    attentions: tuple[str, ...] = ()
    gradual: Rise | None = None

    @property
    def once(self) -> bool:
        """Whether the model is pruned in one shot, before training."""
        return self.gradual is None

    def options(self, seed: int) -> "ProgressiveOptions":
        """Return the training options for one seed."""
        from ...training import ProgressiveOptions

        replacement = self.model_dump(include={"start", "rise", "attention"})
        return ProgressiveOptions(**self._plain(), **replacement, attentions=self.attentions, seed=seed)

    def way(self, prune: Prune) -> "Method | None":
        """Return the schedule, if there is one."""
        return None if self.gradual is None else gradual(self.gradual, prune)

    def objections(self, prune: Prune) -> Iterator[str]:
        """Yield what is wrong with the schedule."""
        if self.gradual is not None:
            # A student identical to its teacher has no gradient at the first cut, so all Taylor scores would be equal.
            yield from only(prune, ("magnitude",), ("uniform", "global"), "recover.gradual")
            yield from late(self.gradual.end, self.steps)


METHODS: dict[str, type[Distilled]] = {
    "fixed": Fixed,
    "gradual": GradualRecovery,
    "multi-stage": MultiStageRecovery,
    "sr-ste": SRSTERecovery,
    "inherited": Inherited,
    "progressive": Progressive,
}


def _named(value: Any) -> Any:
    return value.get("method", "fixed") if isinstance(value, dict) else getattr(value, "method", None)


Recover = Annotated[
    Annotated[Fixed, Tag("fixed")]
    | Annotated[GradualRecovery, Tag("gradual")]
    | Annotated[MultiStageRecovery, Tag("multi-stage")]
    | Annotated[SRSTERecovery, Tag("sr-ste")]
    | Annotated[Inherited, Tag("inherited")]
    | Annotated[Progressive, Tag("progressive")],
    Discriminator(_named),
]
"""One of `METHODS`; `fixed` if no method is named."""
