"""`TrainOptions`, `RecoverOptions` and `ProgressiveOptions`: every choice of a training run, checked when it is made."""

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
    """How a model is trained.

    Parameters
    ----------
    steps
        Optimizer steps, ``accumulate`` batches each.
    learning_rate
        At its highest.
    warmup
        Fraction of the steps of a cycle over which the learning rate rises from zero.
    schedule
        What follows: ``"cosine"`` or ``"linear"`` down to zero, or ``"constant"``.
    weight_decay
        Of matrices; biases and normalisation are never decayed.
    betas
        Of AdamW.
    clip
        Largest norm of the gradient, pruned elements not counted; None for no limit.
    freeze
        Names or globs of parameters that are not trained.
    precision
        ``"bfloat16"`` runs the model under autocast; weights and optimizer stay as they are.
    mode
        ``"train"`` for training mode (dropout, batch statistics), ``"eval"`` for neither.
    seed
        Of everything random. What step i draws depends on the seed and i alone.
    optimizer
        ``"adamw"`` or ``"sgd"``.
    momentum
        Of SGD.
    accumulate
        Batches whose gradients are averaged for one step. Step i takes the batches from ``i * accumulate`` on.
    cycles
        How many times the learning rate goes through warm-up and schedule, in equal parts of the steps.
    recompute
        Names or globs of modules whose activations are computed again in the backward pass instead of being kept.

    Raises
    ------
    ArgumentError
        If a value is out of range.
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
        _need(self.cycles <= self.steps, "cycles", self.cycles, f"at most the {self.steps} steps")
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
        fine = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
        _need(fine, name, value, "a tuple of names or globs")

    def _need_choice(self, name: str, kind: Any) -> None:
        value = getattr(self, name)
        _need(value in get_args(kind), name, value, f"one of {', '.join(get_args(kind))}")

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        cycle = step * self.cycles // self.steps
        first = -(-cycle * self.steps // self.cycles)  # the least step that falls into the cycle
        length = -(-(cycle + 1) * self.steps // self.cycles) - first
        place, rising = step - first, round(self.warmup * length)
        if place < rising:
            return self.learning_rate * (place + 1) / (rising + 1)
        left = 1 - (place - rising) / (length - rising)  # 1 at the end of the warm-up, above 0 at the last step
        shape = {"constant": 1.0, "linear": left, "cosine": 0.5 - 0.5 * math.cos(math.pi * left)}
        return self.learning_rate * shape[self.schedule]


@dataclass(frozen=True)
class RecoverOptions(TrainOptions):
    """How to train a pruned model back towards its dense teacher: `TrainOptions`, and the terms of the loss.

    Parameters
    ----------
    mode
        ``"eval"``, the default here, trains without dropout, which follows a teacher best; ``"train"`` puts the student in training
        mode. The teacher is always in eval mode.
    hidden, output
        Weights of the two terms of the loss: hidden states layer by layer, as mean squared error over the teacher's mean
        square, padding left out; and the final output.
    output_loss
        ``"cosine"`` (one minus the cosine), ``"mse"`` (as for hidden states), or for logits ``"cross-entropy"`` with the teacher's
        probabilities as soft labels, less their entropy, so that 0 is the best there is.
    layers
        Names or globs of the modules whose outputs are the hidden states. Empty: those a Hugging Face model reports itself.

    Raises
    ------
    ArgumentError
        If a value is out of range.
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
            "hidden and output",
            (self.hidden, self.output),
            "not both 0: no loss is left",
        )
        self._need_names("layers")
        self._need_choice("output_loss", OutputLoss)


@dataclass(frozen=True)
class ProgressiveOptions(RecoverOptions):
    """How to distil module by module: `RecoverOptions`, how soon the student's blocks take their places, and the attention term.

    Parameters
    ----------
    start
        Probability, at the first step, that a block is the student's.
    rise
        Fraction of the steps over which that probability rises, along a line, to 1. 0: the student is whole from the beginning.
    attention
        Weight of the attention term.
    attentions
        Names or globs of attention modules. What is compared is their probabilities ``[B, H, T, T]`` where they return them second,
        as Hugging Face modules with eager attention do, and their output otherwise. None named: no such term.
    layers
        Modules whose outputs are the hidden states, as in `RecoverOptions`. Empty: the blocks that are replaced.

    Raises
    ------
    ArgumentError
        If a value is out of range.
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
        """Return the probability of a step, counted from 0, that a block is the student's."""
        rising = self.rise * self.steps
        return 1.0 if step >= rising else self.start + (1 - self.start) * step / rising


def _need(fine: bool, name: str, value: object, expected: str) -> None:
    if not fine:
        raise ArgumentError(f"{name} must be {expected}; it is {value!r}")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
