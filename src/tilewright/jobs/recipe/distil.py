"""What the recoveries of a recipe have in common: batches, training options, and a rising sparsity."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from .parts import Part
from .prune import Prune

if TYPE_CHECKING:
    from ...training import Gradual, Method, RecoverOptions

__all__ = ["Distilled", "Rise", "fastest_precision", "gradual", "late", "listed", "only"]


class Distilled(Part):
    """What every recovery has: batches and the fields of `RecoverOptions`.

    Parameters
    ----------
    steps
        Optimizer steps; for `inherited`, of one member.
    batch
        Passages in a batch.
    max_tokens
        Longer passages are cut.
    learning_rate
        Of AdamW, at its highest.
    warmup
        Share of the steps over which it rises.
    schedule
        How it falls.
    weight_decay
        Of matrices.
    clip
        Largest norm of the gradient; null for none.
    hidden
        Weight of the hidden states in the loss.
    output
        Weight of the sentence embedding in the loss.
    precision
        ``auto`` is bfloat16 where the processor has it.
    checkpoint_seconds
        Least time between two checkpoints.
    curve
        How often the validation split is rated along the recovery; 0 for never.
    """

    steps: int = Field(ge=1)
    batch: int = Field(default=32, ge=1)
    max_tokens: int = Field(default=128, ge=8)
    learning_rate: float = Field(default=3e-4, gt=0)
    warmup: float = Field(default=0.1, ge=0, le=1)
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float | None = Field(default=1.0, gt=0)
    hidden: float = Field(default=1.0, ge=0)
    output: float = Field(default=1.0, ge=0)
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    checkpoint_seconds: float = Field(default=60.0, gt=0)
    curve: int = Field(default=8, ge=0)

    @property
    def once(self) -> bool:
        """Whether the model is pruned at once, before training."""
        return False

    @property
    def total(self) -> int:
        """Optimizer steps of a seed."""
        return self.steps

    @property
    def looks(self) -> bool:
        """Whether a recovery looks at the validation split."""
        return self.curve > 0

    def options(self, seed: int) -> "RecoverOptions":
        """Return the options of the training for one seed."""
        from ...training import RecoverOptions

        return RecoverOptions(**self._plain(), seed=seed)

    def way(self, prune: Prune) -> "Method | None":
        """Return the method that prunes while training, None for fixed masks."""
        return None

    def objections(self, prune: Prune) -> Iterator[str]:
        """Yield why this recovery cannot go with that pruning."""
        yield from only(prune, ("magnitude",), ("uniform",), f"recover.method: {getattr(self, 'method', '')}")

    def _plain(self) -> dict[str, Any]:
        own = {"batch", "max_tokens", "checkpoint_seconds", "precision", "curve"}
        names = set(Distilled.model_fields) - own
        precision = fastest_precision() if self.precision == "auto" else self.precision
        return self.model_dump(include=names) | {"precision": precision}


class Rise(Part):
    """Sparsity that rises along a cubic curve; see `Gradual`.

    Parameters
    ----------
    begin
        Step after which it starts to rise.
    end
        Step after which the pattern is met.
    every
        Steps from one cut to the next.
    initial
        Sparsity before.
    regrow
        Whether pruned elements train on behind the mask and may come back.
    scoring_steps
        Steps before each cut whose gradients count, for the Taylor score.
    """

    begin: int = Field(default=0, ge=0)
    end: int = Field(ge=1)
    every: int = Field(ge=1)
    initial: float = Field(default=0.0, ge=0, lt=1)
    regrow: bool = False
    scoring_steps: int = Field(default=100, ge=1)


def gradual(rise: Rise, prune: Prune) -> "Gradual":
    """Return the schedule that takes a pruning's pattern, score and budget there."""
    from ...training import Gradual

    return Gradual(
        prune.pattern,
        begin=rise.begin,
        end=rise.end,
        every=rise.every,
        score=prune.score,
        budget=prune.budget,
        initial=rise.initial,
        regrow=rise.regrow,
        scoring_steps=rise.scoring_steps,
    )


def fastest_precision() -> Literal["float32", "bfloat16"]:
    """Return bfloat16 where the processor multiplies it natively, else float32."""
    import torch

    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "bfloat16" if native else "float32"


def only(prune: Prune, scores: tuple[str, ...], budgets: tuple[str, ...], what: str) -> Iterator[str]:
    """Yield what of a pruning a method that prunes while it trains cannot do."""
    for key, value, known in (
        ("score", prune.score, scores),
        ("budget", prune.budget, budgets),
        ("update", prune.update, ("none",)),
    ):
        if value not in known:
            yield f"prune.{key} is {value!r}: {what} prunes while it trains, and takes {' or '.join(known)}"


def listed(prune: Prune, what: str) -> Iterator[str]:
    """Yield that targets may not have patterns of their own, if they have."""
    if isinstance(prune.targets, dict):
        yield f"prune.targets is a mapping: all targets have the same {what}, so targets must be a list"


def late(last: int, steps: int) -> Iterator[str]:
    """Yield that the last cut comes after the last step, if it does."""
    if last > steps:
        yield f"recover.steps is {steps}: the last cut is after step {last}; train longer, or cut earlier"
