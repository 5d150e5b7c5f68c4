"""The parts of a recipe before training: `Permute`, `Prune`, and the data that scores look at."""

from typing import Any

from pydantic import Field, model_validator

from ..choices import Budget, Score, Update
from .parts import Part, PatternText, Share

__all__ = ["CalibrationData", "LimitPart", "Permute", "Prune"]


class Permute(Part):
    """Reorder channels before pruning, so that the pattern keeps more; the model computes what it did. See `permute_`.

    Parameters
    ----------
    seconds
        Bound on the time of the search; null for none.
    steps
        Bound on the steps of each search: a group of channels has one for every head. With ``seconds: null`` the order found is the same on every machine.
    seed
        Of the search.
    """

    seconds: float | None = Field(default=60.0, gt=0)
    steps: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _bounded(self) -> "Permute":
        if self.seconds is None and self.steps is None:
            raise ValueError("seconds is null, so steps has to bound the search; 200000 is a thorough one")
        return self


class CalibrationData(Part):
    """Passages that scores, updates and budgets look at; of the job's own text, never of the held-out pairs.

    Parameters
    ----------
    passages
        How many.
    batch
        Passages in a batch.
    max_tokens
        Longer passages are cut.
    seed
        Chooses which.
    """

    passages: int = Field(default=512, ge=1)
    batch: int = Field(default=32, ge=1)
    max_tokens: int = Field(default=128, ge=8)
    seed: int = Field(default=0, ge=0)


class LimitPart(Part):
    """What the constrained budget holds to: one of the two.

    Parameters
    ----------
    size
        Bytes on disk of the pruned weights, as a share of their dense bytes.
    latency
        Time of the pruned layers on this machine, as a share of the dense layers' time.
    patterns
        What each layer may take beside dense; the family of its own pattern unless told.
    """

    size: Share | None = None
    latency: Share | None = None
    patterns: tuple[PatternText, ...] = ()

    @model_validator(mode="after")
    def _one(self) -> "LimitPart":
        if (self.size is None) == (self.latency is None):
            raise ValueError("give one of size and latency")
        if self.latency is not None and not self.patterns:
            raise ValueError("latency needs patterns: each is timed on each layer before one is chosen")
        return self


class Prune(Part):
    """Which layers to prune, to what, and by what.

    Parameters
    ----------
    pattern
        Text of a pattern: ``2:4``, ``tw16@75%``.
    targets
        Names, globs, ``re:`` expressions or class names of modules; first match wins. May also map each expression to a pattern of
        its own, which then takes the place of `pattern`.
    ignore
        Expressions for what stays dense.
    score
        What makes a weight worth keeping.
    update
        ``obs`` moves kept weights to make up for pruned ones.
    budget
        How sparsity is split over layers.
    limit
        For the constrained budget.
    calibration
        Data for scores beyond magnitude, for updates, and for budgets that measure the loss.
    """

    pattern: PatternText
    targets: tuple[str, ...] | dict[str, PatternText] = ()
    ignore: tuple[str, ...] = ()
    score: Score = "magnitude"
    update: Update = "none"
    budget: Budget = "uniform"
    limit: LimitPart | None = None
    calibration: CalibrationData | None = None

    @model_validator(mode="after")
    def _fits(self) -> "Prune":
        if (self.limit is not None) != (self.budget == "constrained"):
            raise ValueError("limit and budget: constrained go together")
        return self

    @property
    def looks_at_data(self) -> bool:
        """Whether score, update or budget need calibration data, when pruning is done at once."""
        return self.score != "magnitude" or self.update != "none" or self.budget in ("sensitivity", "constrained")

    @property
    def chosen(self) -> dict[str, Any]:
        """Which weights: `targets` and `ignore` as every verb takes them."""
        targets = dict(self.targets) if isinstance(self.targets, dict) else list(self.targets) or None
        return {"targets": targets, "ignore": list(self.ignore)}

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `sparsify_` beside the model, its data and its limit."""
        return {
            "pattern": self.pattern,
            **self.chosen,
            "score": self.score,
            "budget": self.budget,
            "update": self.update,
        }

    @property
    def patterns(self) -> str:
        """Every pattern it uses, in words."""
        return " and ".join(dict.fromkeys(self.targets.values())) if isinstance(self.targets, dict) else self.pattern
