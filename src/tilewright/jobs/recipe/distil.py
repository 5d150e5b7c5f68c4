"""Keys that the recovery methods of a recipe share: batches, training options, and a schedule of rising sparsity."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from .parts import Part
from .prune import Prune

if TYPE_CHECKING:
    from ...training import Gradual, Method, RecoverOptions

__all__ = ["Distilled", "Rise", "fastest_precision", "gradual", "late", "listed", "only"]


class Distilled(Part):
    """Keys of every recovery method: batches and the fields of `RecoverOptions`.

    Parameters
    ----------
    steps
        Number of optimizer steps; for `inherited`, of one member.
    batch
        Items per batch.
    max_tokens
        Maximum tokens per text; longer texts are truncated.
    learning_rate
        Peak learning rate of AdamW.
    warmup
        Fraction of the steps over which the learning rate rises to its peak.
    schedule
        Learning-rate schedule after the warmup.
    weight_decay
        Weight decay of matrices; vectors have none.
    clip
        Maximum norm of the gradient; null disables clipping.
    hidden
        Weight of the hidden-state term of the loss.
    output
        Weight of the output term of the loss.
    precision
        Precision of the forward pass. ``bfloat16`` uses autocast; ``auto`` selects bfloat16 where the processor supports it natively.
    checkpoint_seconds
        Minimum time between checkpoints, in seconds.
    curve
        Number of evaluations on the validation split during recovery, evenly spaced; 0 disables them.
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
        """Whether the model is pruned in one shot, before training."""
        return False

    @property
    def total(self) -> int:
        """Number of optimizer steps per seed."""
        return self.steps

    @property
    def looks(self) -> bool:
        """Whether recovery uses the validation split."""
        return self.curve > 0

    def options(self, seed: int) -> "RecoverOptions":
        """Return the training options for one seed."""
        from ...training import RecoverOptions

        return RecoverOptions(**self._plain(), seed=seed)

    def way(self, prune: Prune) -> "Method | None":
        """Return the method that prunes during training, or None if masks are fixed."""
        return None

    def objections(self, prune: Prune) -> Iterator[str]:
        """Yield the reasons why this recovery cannot be combined with `prune`."""
        yield from only(prune, ("magnitude",), ("uniform",), f"recover.method: {getattr(self, 'method', '')}")

    def _plain(self) -> dict[str, Any]:
        handled_elsewhere = {"batch", "max_tokens", "checkpoint_seconds", "precision", "curve"}
        names = set(Distilled.model_fields) - handled_elsewhere
        precision = fastest_precision() if self.precision == "auto" else self.precision
        return self.model_dump(include=names) | {"precision": precision}


class Rise(Part):
    """Sparsity that rises along a cubic curve; see `Gradual`.

    Parameters
    ----------
    begin
        Step after which sparsity starts to rise.
    end
        Step after which the full pattern holds.
    every
        Number of steps between cuts.
    initial
        Sparsity before `begin`.
    regrow
        Whether pruned elements keep training behind the mask and may return.
    scoring_steps
        Number of steps before each cut whose gradients contribute to the Taylor score.
    """

    begin: int = Field(default=0, ge=0)
    end: int = Field(ge=1)
    every: int = Field(ge=1)
    initial: float = Field(default=0.0, ge=0, lt=1)
    regrow: bool = False
    scoring_steps: int = Field(default=100, ge=1)


def gradual(rise: Rise, prune: Prune) -> "Gradual":
    """Return the schedule of rising sparsity, with the pattern, score and budget of `prune`."""
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
    """Return bfloat16 if the processor multiplies it natively, else float32."""
    import torch

    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "bfloat16" if native else "float32"


def only(prune: Prune, scores: tuple[str, ...], budgets: tuple[str, ...], what: str) -> Iterator[str]:
    """Yield the choices in `prune` that a method that prunes during training does not support."""
    for key, value, supported in (
        ("score", prune.score, scores),
        ("budget", prune.budget, budgets),
        ("update", prune.update, ("none",)),
    ):
        if value not in supported:
            yield f"prune.{key} is {value!r}, but {what} prunes during training and supports only {' or '.join(supported)}"


def listed(prune: Prune, what: str) -> Iterator[str]:
    """Yield an objection if targets have patterns of their own."""
    if isinstance(prune.targets, dict):
        yield f"prune.targets is a mapping, but all targets share the same {what}; make targets a list"


def late(last: int, steps: int) -> Iterator[str]:
    """Yield an objection if the last cut comes after the last step."""
    if last > steps:
        yield f"recover.steps is {steps}, but the last cut is after step {last}; train longer or cut earlier"
