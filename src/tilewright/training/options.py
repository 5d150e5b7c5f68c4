"""`TrainOptions`, `RecoverOptions` and `ProgressiveOptions`: the settings of a training run, validated on construction."""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..errors import ArgumentError

__all__ = ["ProgressiveOptions", "RecoverOptions", "TrainOptions"]

Schedule = Literal["cosine", "linear", "constant"]
OutputLoss = Literal["cosine", "cross-entropy", "mse"]
Precision = Literal["float32", "bfloat16"]
Mode = Literal["eval", "train"]
Rule = Literal["adamw", "sgd"]


@dataclass(frozen=True)
class TrainOptions:
    """Settings of a training run: optimizer, learning-rate schedule, precision and seed.

    Parameters
    ----------
    steps
        Number of optimizer steps, each over ``accumulate`` batches.
    learning_rate
        Peak learning rate. Default: 3e-4.
    warmup
        Fraction of each cycle's steps over which the learning rate rises linearly from zero. Default: 0.1.
    schedule
        Learning-rate schedule after the warm-up: ``"cosine"`` (default) or ``"linear"``, both down to zero, or ``"constant"``.
    weight_decay
        Weight decay of parameters with two or more dimensions; biases and normalisation parameters are never decayed. Default: 0.
    betas
        Moment decay rates of AdamW. Default: (0.9, 0.999).
    clip
        Largest gradient norm, computed without pruned elements; None disables clipping. Default: 1.
    freeze
        Names or globs of parameters to freeze. Default: none.
    precision
        ``"float32"`` (default), or ``"bfloat16"``, which runs the model under autocast; weights and optimizer state keep their dtype.
    mode
        ``"train"`` (default) for training mode (dropout, batch statistics), ``"eval"`` for evaluation mode.
    seed
        Seed of all randomness. What step i draws depends only on the seed and i. Default: 0.
    optimizer
        ``"adamw"`` (default) or ``"sgd"``.
    momentum
        Momentum of SGD. Default: 0.9.
    accumulate
        Number of batches whose gradients are averaged in one step. Step i reads the batches from ``i * accumulate`` on. Default: 1.
    cycles
        Number of times the learning rate goes through warm-up and schedule, in equal parts of the steps. Default: 1.
    recompute
        Names or globs of modules whose activations are recomputed in the backward pass instead of stored. Default: none.

    Raises
    ------
    ArgumentError
        If a value is invalid.
    """

    steps: int
    learning_rate: float = 3e-4
    warmup: float = 0.1
    schedule: Schedule = "cosine"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float | None = 1.0
    freeze: tuple[str, ...] = ()
    precision: Precision = "float32"
    mode: Mode = "train"
    seed: int = 0
    optimizer: Rule = "adamw"
    momentum: float = 0.9
    accumulate: int = 1
    cycles: int = 1
    recompute: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate", "cycles"):
            value = getattr(self, name)
            _need(_whole(value) and value >= 1, name, value, "a whole number of at least 1")
        _need(self.cycles <= self.steps, "cycles", self.cycles, f"at most steps ({self.steps})")
        _need(_number(self.learning_rate) and self.learning_rate > 0, "learning_rate", self.learning_rate, "above 0")
        _need(_number(self.warmup) and 0 <= self.warmup <= 1, "warmup", self.warmup, "a fraction of the steps, 0 to 1")
        _need(_number(self.weight_decay) and self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        _need(_number(self.momentum) and 0 <= self.momentum < 1, "momentum", self.momentum, "in [0, 1)")
        betas = len(self.betas) == 2 and all(_number(beta) and 0 <= beta < 1 for beta in self.betas)
        _need(betas, "betas", self.betas, "two numbers in [0, 1)")
        _need(self.clip is None or (_number(self.clip) and self.clip > 0), "clip", self.clip, "above 0, or None")
        for name in ("freeze", "recompute"):
            self._need_names(name)
        choices = {"schedule": Schedule, "precision": Precision, "mode": Mode, "optimizer": Rule}
        for name, kind in choices.items():
            self._need_choice(name, kind)
        _need(_whole(self.seed) and 0 <= self.seed < 2**32, "seed", self.seed, "a whole number from 0 to 2**32 - 1")

    def _need_names(self, name: str) -> None:
        value = getattr(self, name)
        valid = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
        _need(valid, name, value, "a tuple of names or globs")

    def _need_choice(self, name: str, kind: Any) -> None:
        value = getattr(self, name)
        _need(value in get_args(kind), name, value, f"one of {', '.join(get_args(kind))}")

    def rate(self, step: int) -> float:
        """Return the learning rate at a step, counted from 0."""
        cycle = step * self.cycles // self.steps
        first = -(-cycle * self.steps // self.cycles)  # the first step of the cycle
        length = -(-(cycle + 1) * self.steps // self.cycles) - first
        position, ramp = step - first, round(self.warmup * length)
        if position < ramp:
            return self.learning_rate * (position + 1) / (ramp + 1)
        remainder = 1 - (position - ramp) / (length - ramp)  # 1 at the end of the warm-up, above 0 at the last step
        shape = {"constant": 1.0, "linear": remainder, "cosine": 0.5 - 0.5 * math.cos(math.pi * remainder)}
        return self.learning_rate * shape[self.schedule]


@dataclass(frozen=True)
class RecoverOptions(TrainOptions):
    """Settings for training a pruned model against its dense teacher: `TrainOptions` plus the terms of the loss.

    Parameters
    ----------
    mode
        Mode of the student: ``"eval"`` (default here), without dropout, follows a teacher best; ``"train"`` enables training mode.
        The teacher is always in evaluation mode.
    hidden, output
        Weights of the loss terms for hidden states and for the final output. Hidden states are compared layer by layer: mean
        squared error divided by the teacher's mean square, ignoring padding. 0 disables a term. Default: 1 each.
    output_loss
        Loss on the final output: ``"cosine"`` (default), one minus the cosine similarity; ``"mse"``, as for hidden states; or, for
        logits, ``"cross-entropy"`` against the teacher's probabilities, minus their entropy, so that the minimum is 0.
    layers
        Names or globs of the modules whose outputs are compared as hidden states. Default: the hidden states that a Hugging Face
        model returns.

    Raises
    ------
    ArgumentError
        If a value is invalid.
    """

    mode: Mode = "eval"
    hidden: float = 1.0
    output: float = 1.0
    output_loss: OutputLoss = "cosine"
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("hidden", "output"):
            _need(_number(getattr(self, name)) and getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        _need(
            self.hidden + self.output > 0,
            "hidden + output",
            (self.hidden, self.output),
            "above 0, so that there is a loss",
        )
        self._need_names("layers")
        self._need_choice("output_loss", OutputLoss)


@dataclass(frozen=True)
class ProgressiveOptions(RecoverOptions):
    """Settings for progressive distillation: `RecoverOptions`, the replacement schedule and the attention term.

    Parameters
    ----------
    start
        Probability at the first step that a block is the student's. Default: 0.5.
    rise
        Fraction of the steps over which that probability rises linearly to 1. With 0 the whole student runs from the first step.
        Default: 0.5.
    attention
        Weight of the attention term. Default: 1.
    attentions
        Names or globs of attention modules. Their probabilities ``[B, H, T, T]`` are compared if they return them as the second
        output, as Hugging Face modules with eager attention do; otherwise their outputs are. Default: none, and no attention term.
    layers
        Names or globs of the modules whose outputs are compared as hidden states. Default: the replaced blocks.

    Raises
    ------
    ArgumentError
        If a value is invalid.
    """

    start: float = 0.5
    rise: float = 0.5
    attention: float = 1.0
    attentions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, expected in (("start", "a probability, 0 to 1"), ("rise", "a fraction of the steps, 0 to 1")):
            value = getattr(self, name)
            _need(_number(value) and 0 <= value <= 1, name, value, expected)
        _need(_number(self.attention) and self.attention >= 0, "attention", self.attention, "0 or more")
        self._need_names("attentions")

    def replacing(self, step: int) -> float:
        """Return the probability at a step, counted from 0, that a block is the student's."""
        ramp = self.rise * self.steps
        return 1.0 if step >= ramp else self.start + (1 - self.start) * step / ramp


def _need(valid: bool, name: str, value: object, expected: str) -> None:
    if not valid:
        raise ArgumentError(f"{name} must be {expected}; got {value!r}")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
