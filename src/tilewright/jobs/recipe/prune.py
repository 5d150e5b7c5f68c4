"""The sections of a recipe that come before training: `Permute`, `Prune`, and calibration data."""

from typing import Any

from pydantic import Field, model_validator

from ..choices import Budget, Score, Update
from .parts import Part, PatternText, Share

__all__ = ["CalibrationData", "LimitPart", "Permute", "Prune"]


class Permute(Part):
    """Reorder channels before pruning so that the pattern keeps more; the model's outputs are unchanged. See `permute_`.

    Parameters
    ----------
    seconds
        Time limit of the search, in seconds; null for no limit.
    steps
        Step limit of each search; a group of channels has one search per head. With ``seconds: null`` the resulting order is the same
        on every machine. Default: no limit.
    seed
        Seed of the search.
    """

    seconds: float | None = Field(default=60.0, gt=0)
    steps: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _bounded(self) -> "Permute":
        if self.seconds is None and self.steps is None:
            raise ValueError("seconds is null, so steps must limit the search; 200000 makes it thorough")
        return self


class CalibrationData(Part):
    """Calibration data for scores, updates and budgets, drawn from the training part of the task's data.

    Parameters
    ----------
    passages
        Number of passages, or other items of the task.
    batch
        Items per batch.
    max_tokens
        Maximum tokens per passage; longer passages are truncated.
    seed
        Seed that selects the passages.
    """

    passages: int = Field(default=512, ge=1)
    batch: int = Field(default=32, ge=1)
    max_tokens: int = Field(default=128, ge=8)
    seed: int = Field(default=0, ge=0)


class LimitPart(Part):
    """Limit of the constrained budget: either a size or a latency.

    Parameters
    ----------
    size
        Maximum size on disk of the pruned weights, as a fraction of their dense size.
    latency
        Maximum time of the pruned layers on this machine, as a fraction of the dense layers' time.
    patterns
        Patterns that each layer may take besides dense. Default: the family of the layer's own pattern.
    """

    size: Share | None = None
    latency: Share | None = None
    patterns: tuple[PatternText, ...] = ()

    @model_validator(mode="after")
    def _one(self) -> "LimitPart":
        if (self.size is None) == (self.latency is None):
            raise ValueError("give either size or latency")
        if self.latency is not None and not self.patterns:
            raise ValueError("latency requires patterns: each is timed on every layer before one is chosen")
        return self


class Prune(Part):
    """Which layers to prune, to which pattern, and how weights are scored.

    Parameters
    ----------
    pattern
        Text of a pattern, such as ``2:4`` or ``tw16@75%``.
    targets
        Module names, globs, ``re:`` expressions or class names to prune; the first match wins. May also map each expression to its own
        pattern, which then replaces `pattern`. Default: every prunable weight.
    ignore
        Expressions for modules that stay dense.
    score
        Score that ranks weights by importance.
    update
        Update of the kept weights. ``obs`` adjusts them to compensate for the pruned ones.
    budget
        How sparsity is distributed over layers.
    limit
        Size or latency limit; required with the constrained budget.
    calibration
        Data for scores other than magnitude, for updates, and for budgets that measure the loss.
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
            raise ValueError("limit and budget: constrained require each other; give both or neither")
        return self

    @property
    def looks_at_data(self) -> bool:
        """Whether the score, update or budget needs calibration data when pruning in one shot."""
        return self.score != "magnitude" or self.update != "none" or self.budget in ("sensitivity", "constrained")

    @property
    def chosen(self) -> dict[str, Any]:
        """`targets` and `ignore` as keyword arguments of the functions that select weights."""
        targets = dict(self.targets) if isinstance(self.targets, dict) else list(self.targets) or None
        return {"targets": targets, "ignore": list(self.ignore)}

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `sparsify_`, except the model, its data and its limit."""
        return {
            "pattern": self.pattern,
            **self.chosen,
            "score": self.score,
            "budget": self.budget,
            "update": self.update,
        }

    @property
    def patterns(self) -> str:
        """All patterns in use, joined by "and"."""
        return " and ".join(dict.fromkeys(self.targets.values())) if isinstance(self.targets, dict) else self.pattern
