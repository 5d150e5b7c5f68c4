"""The recoveries a recipe can name, all by distillation from the dense model: one class each, told apart by `method`."""

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
"""Members of a family: each is a training run of its own."""


class Fixed(Distilled):
    """Prune once, then train with the mask fixed (Mishra et al., arXiv 2104.08378)."""

    method: Literal["fixed"] = "fixed"

    @property
    def once(self) -> bool:
        """Whether the model is pruned at once, before training."""
        return True

    def objections(self, prune: Prune) -> Iterator[str]:
        """Yield nothing: every way of pruning goes before."""
        yield from ()


class GradualRecovery(Distilled, Rise):
    """Prune step by step while training (Zhu and Gupta, arXiv 1710.01878)."""

    method: Literal["gradual"]

    def way(self, prune: Prune) -> "Gradual":
        """Return the schedule."""
        return gradual(self, prune)

    def objections(self, prune: Prune) -> Iterator[str]:
        """Yield what gradual pruning cannot do, or what is wrong with its steps."""
        yield from only(prune, ("magnitude", "taylor"), ("uniform", "global"), "recover.method: gradual")
        yield from late(self.end, self.steps)


class AprioriPart(Part):
    """Protect tiles that an element-wise pass keeps nearly whole, drop first those it empties; see `Apriori`.

    Parameters
    ----------
    protect
        Share kept from which on an output or a tile column comes before all others.
    drop
        Share kept up to which it goes before all others.
    """

    protect: float = Field(default=0.95, ge=0, le=1)
    drop: float = Field(default=0.05, ge=0, le=1)


class MultiStageRecovery(Distilled):
    """Prune in stages with training between them (Guo et al., arXiv 2008.13006).

    Parameters
    ----------
    stages
        Patterns on the way, each sparser than the one before; the last stage is ``prune.pattern`` and is not repeated here.
    every
        Steps from one cut to the next.
    begin
        Steps before the first cut; the smaller of `scoring_steps` and `every` where not given.
    scoring_steps
        Steps before each cut whose gradients count, for the Taylor score.
    apriori
        Tuning of tile-wise cuts; null for none.
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
        """Yield what stages cannot do, or what is wrong with their steps."""
        yield from only(prune, ("magnitude", "taylor"), ("uniform", "global"), "recover.method: multi-stage")
        yield from listed(prune, "stages")
        first = min(self.scoring_steps, self.every) if self.begin is None else self.begin
        yield from late(first + len(self.stages) * self.every, self.steps)


class SRSTERecovery(Distilled):
    """Train dense weights through a mask that follows them (Zhou et al., arXiv 2102.04010).

    Parameters
    ----------
    decay
        Of hidden values.
    every
        Steps between two computations of the mask.
    """

    method: Literal["sr-ste"]
    decay: float = Field(default=2e-4, ge=0, lt=1)
    every: int = Field(default=1, ge=1)

    def way(self, prune: Prune) -> "SRSTE":
        """Return the method."""
        from ...training import SRSTE

        return SRSTE(prune.pattern, self.decay, self.every)


class Pick(Part):
    """Which member of a family becomes the result: one of the three.

    Parameters
    ----------
    n
        The member that keeps n of m.
    quality
        The smallest member that reaches this share of the dense model's quality on the validation split.
    size
        The best member on the validation split that takes at most this share of the dense model's bytes on disk.
    """

    n: int | None = Field(default=None, ge=1)
    quality: float | None = Field(default=None, gt=0)
    size: Share | None = None

    @model_validator(mode="after")
    def _one(self) -> "Pick":
        if sum(value is not None for value in (self.n, self.quality, self.size)) != 1:
            raise ValueError("give one of n, quality and size")
        return self


class Inherited(Distilled):
    """Train a whole family of n:m members, each from the best of the one above (Fang et al., arXiv 2208.06118).

    ``prune.pattern`` is the sparsest member.

    Parameters
    ----------
    cost
        Steps of the whole family, in units of `steps`.
    levels
        Values of n, falling to that of the pattern; every one below m where not given.
    decay
        Of hidden values.
    checks
        How often in a level the validation split is rated; the best moment is the member.
    curve
        No effect here: each member is a point of the curve.
    pick
        Which member becomes the result; the sparsest where not given.
    """

    method: Literal["inherited"]
    cost: float = Field(default=2.5, gt=0)
    levels: tuple[int, ...] | None = Field(default=None, min_length=1)
    decay: float = Field(default=2e-4, ge=0, lt=1)
    checks: int = Field(default=1, ge=1)
    pick: Pick | None = None

    @property
    def looks(self) -> bool:
        """Always True: members are chosen on the validation pairs."""
        return True

    @property
    def total(self) -> int:
        """Optimizer steps of a seed."""
        return round(self.cost * self.steps)

    def falling(self, prune: Prune) -> tuple[int, int, tuple[int, ...]]:
        """Return n and m of the pattern, and the levels."""
        pattern = parse(prune.pattern)
        assert isinstance(pattern, NM)
        levels = self.levels or tuple(range(pattern.m - 1, pattern.n - 1, -1))
        return pattern.n, pattern.m, levels

    def objections(self, prune: Prune) -> Iterator[str]:
        """Yield what is wrong with pattern, levels or pick."""
        yield from super().objections(prune)
        yield from listed(prune, "members")
        pattern = parse(prune.pattern)
        if not (isinstance(pattern, NM) and pattern.tile == 1 and not pattern.transposable):
            yield f"prune.pattern is {pattern}: a family has patterns n:m without tiles"
            return
        if not 0 < pattern.m - pattern.n <= _MOST_MEMBERS:
            yield f"prune.pattern is {pattern}: a family has a member for every n from m - 1 down to that of the pattern, 1 to {_MOST_MEMBERS} of them"
            return
        n, m, levels = self.falling(prune)
        if list(levels) != sorted(set(levels), reverse=True) or levels[-1] != n or levels[0] >= m:
            yield f"recover.levels is {list(levels)}: they fall from {m - 1} at most to the {n} of prune.pattern"
        if self.pick is not None and self.pick.n is not None and self.pick.n not in levels:
            yield f"recover.pick.n is {self.pick.n}: the members have n {', '.join(map(str, levels))}"


class Progressive(Distilled):
    """Distil block by block inside the dense model (Huang et al., arXiv 2110.08190).

    Parameters
    ----------
    blocks
        Names or globs of the modules that are replaced.
    start
        Probability, at the first step, that a block is the student's.
    rise
        Share of the steps over which it rises to 1.
    attention
        Weight of the attention term.
    attentions
        Names or globs of the attention modules; none, no such term.
    gradual
        Prune meanwhile; without it the model is pruned once before.
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
        """Whether the model is pruned at once, before training."""
        return self.gradual is None

    def options(self, seed: int) -> "ProgressiveOptions":
        """Return the options of the training for one seed."""
        from ...training import ProgressiveOptions

        own = self.model_dump(include={"start", "rise", "attention"})
        return ProgressiveOptions(**self._plain(), **own, attentions=self.attentions, seed=seed)

    def way(self, prune: Prune) -> "Method | None":
        """Return the schedule, if there is one."""
        return None if self.gradual is None else gradual(self.gradual, prune)

    def objections(self, prune: Prune) -> Iterator[str]:
        """Yield what is wrong with the schedule."""
        if self.gradual is not None:
            # A student that begins as its teacher has no gradient at the first cut, so Taylor scores would be all alike.
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
"""One of `METHODS`; `fixed` where no method is named."""
