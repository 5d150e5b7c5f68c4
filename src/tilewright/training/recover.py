"""`recover_`: train what a mask has kept until the model behaves like the dense one again."""

import time
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ..errors import ArgumentError, CheckFailed, TargetError
from ..pruning import apply_masks_, masks_of
from .batches import digest
from .checkpoint import Checkpoint, State, restore_, save
from .losses import Output, Probe, final_output, hidden_loss, output_loss, padding_mask
from .options import RecoverOptions

__all__ = ["Progress", "Recovery", "recover_"]

Progress = Callable[[int, int, float, Mapping[str, float]], None]
"""``progress(step, steps, loss, extras)`` after every step, counted from 1; extras: hidden, output, learning_rate, gradient_norm."""


class _Indexed(Protocol):
    def __getitem__(self, step: int, /) -> Any: ...


@dataclass(frozen=True)
class Recovery:
    """What `recover_` did.

    Parameters
    ----------
    steps
        Steps the student has been trained for, all runs together.
    resumed_from
        Steps that a checkpoint had already done.
    losses
        One a step, from the first.
    seconds
        Wall-clock time of this run.
    notes
        Sentences about what is odd: masks that keep everything or nothing.
    """

    steps: int
    resumed_from: int
    losses: tuple[float, ...]
    seconds: float
    notes: tuple[str, ...] = ()


def recover_(
    student: nn.Module,
    teacher: nn.Module,
    batches: _Indexed,
    *,
    options: RecoverOptions,
    output: Output | None = None,
    checkpoint: Checkpoint | Path | str | None = None,
    progress: Progress | None = None,
) -> Recovery:
    """Train a masked model in place to follow a dense one; its zeros stay where they are.

    With a checkpoint, a run killed at any instant and started again with the same arguments ends with the same bits as one
    that was never interrupted (on the same machine, with the same number of threads).

    Parameters
    ----------
    student
        With masks, from `sparsify_`.
    teacher
        The dense model, which is left as it is. A deep copy made before pruning will do.
    batches
        ``batches[i]`` is the batch of step i, the same whenever it is asked for. A mapping is passed to the models as keywords, a
        tuple or list as positional arguments.
    options
        See `RecoverOptions`.
    output
        ``output(result, batch)`` gives the tensor of the output term. By default the logits, or the mean over tokens of the last
        hidden state, or the tensor that the model returns.
    checkpoint
        A file to save to and, if it exists, to go on from; `Checkpoint` says how often.
    progress
        Called after every step.

    Raises
    ------
    ArgumentError
        If student, teacher, batches and options do not fit together, or the checkpoint is another run's.
    FormatError
        If the checkpoint is damaged.
    CheckFailed
        If the loss or its gradient is no longer finite, or a pruned element is not zero at the end.
    OSError
        If a checkpoint cannot be written.

    Examples
    --------
    >>> import copy, tilewright
    >>> teacher = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    >>> student = copy.deepcopy(teacher)
    >>> report = tilewright.sparsify_(student, "2:4")
    >>> batches = [torch.randn(16, 8) for _ in range(20)]
    >>> recover_(student, teacher, batches, options=RecoverOptions(steps=20, hidden=0)).steps
    20
    """
    began = time.monotonic()
    notes = _check(student, teacher, batches, options)
    where = checkpoint if isinstance(checkpoint, Checkpoint | None) else Checkpoint(checkpoint)
    with _arranged(student, teacher, options) as (trained, probes):
        optimizer = _optimizer(trained, options)
        inputs = _inputs(student, teacher, batches, options, output) if where else {}
        state = restore_(Path(where.path), inputs, student, optimizer) if where else None
        state = state or State(0, (), inputs)
        resumed = state.step
        apply_masks_(student)
        step_ = _Step(student, optimizer, probes, options, output or final_output)
        saved = time.monotonic()
        while state.step < options.steps:
            loss, extras = step_(state.step, batches)
            state = State(state.step + 1, (*state.losses, loss), inputs)
            if where and _due(where, state.step, options.steps, saved):
                save(Path(where.path), state, student, optimizer)
                saved = time.monotonic()
            if progress:
                progress(state.step, options.steps, loss, extras)
    _require_zeros(student)
    return Recovery(state.step, resumed, state.losses, time.monotonic() - began, notes)


class _Step:
    """One step of training: everything random in it is drawn from a seed made of the run's seed and the step."""

    def __init__(
        self,
        student: nn.Module,
        optimizer: Optimizer,
        probes: tuple[Probe, Probe],
        options: RecoverOptions,
        output: Output,
    ) -> None:
        self.optimizer, self.options, self.output = optimizer, options, output
        self.student, self.teacher = probes
        self.device = next(student.parameters()).device
        self.trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        parameters, masks = dict(student.named_parameters()), masks_of(student)
        self.masked = [(parameters[name], mask) for name, mask in masks.items() if parameters[name].requires_grad]

    def __call__(self, step: int, batches: _Indexed) -> tuple[float, dict[str, float]]:
        torch.manual_seed((self.options.seed << 32) + step)
        terms = self._terms(_on(batches[step], self.device))
        total = torch.stack([getattr(self.options, name) * term for name, term in terms.items()]).sum()
        loss = total.item()
        self._require_finite("loss", loss, step)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        norm = self._prepare_gradients()
        self._require_finite("gradient norm", norm, step)
        rate = self.options.rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        extras = {name: term.item() for name, term in terms.items()}
        return loss, extras | {"learning_rate": rate, "gradient_norm": norm}

    def _terms(self, batch: Any) -> dict[str, Tensor]:
        options, mask = self.options, padding_mask(batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=options.precision == "bfloat16"):
            with torch.no_grad():
                goal, goals = self.teacher(batch)
                aim = self.output(goal, batch) if options.output else None
            result, hidden = self.student(batch)
            mine = self.output(result, batch) if options.output else None
        terms = {}
        if options.hidden:
            terms["hidden"] = hidden_loss(hidden, goals, mask)
        if mine is not None and aim is not None:
            terms["output"] = output_loss(options.output_loss, mine, aim, mask)
        return terms

    def _prepare_gradients(self) -> float:
        """Drop the gradients of pruned elements, so that they count neither for clipping nor in the moments; return the norm."""
        for parameter, mask in self.masked:
            if parameter.grad is not None:
                parameter.grad.mul_(mask)
        return float(torch.nn.utils.clip_grad_norm_(self.trained, self.options.clip or float("inf")))

    def _require_finite(self, what: str, value: float, step: int) -> None:
        if not abs(value) < float("inf"):
            raise CheckFailed(
                f"the {what} is {value} at step {step + 1} of {self.options.steps}; training stopped before it touched the weights. "
                "Lower the learning rate, or look at this step's batch"
            )


@contextmanager
def _arranged(
    student: nn.Module, teacher: nn.Module, options: RecoverOptions
) -> Iterator[tuple[list[nn.Parameter], tuple[Probe, Probe]]]:
    """Set modes, frozen parameters, hooks and random state for training, and put all of them back afterwards."""
    modes = [(module, module.training) for model in (student, teacher) for module in model.modules()]
    frozen = [parameter for name, parameter in _frozen(student, options.freeze) if parameter.requires_grad]
    probes: list[Probe] = []
    devices = sorted({p.device.index or 0 for p in student.parameters() if p.device.type == "cuda"})
    try:
        student.train(options.mode == "train")
        teacher.eval()
        for parameter in frozen:
            parameter.requires_grad_(False)
        probes = [Probe(model, options.layers, options.hidden > 0) for model in (student, teacher)]
        trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
        if not trained:
            raise ArgumentError("the student has no parameter left to train; all are frozen or require no gradient")
        with torch.random.fork_rng(devices), torch.enable_grad():
            yield trained, (probes[0], probes[1])
    finally:
        for probe in probes:
            probe.close()
        for parameter in frozen:
            parameter.requires_grad_(True)
        for module, mode in modes:
            module.training = mode
        for parameter in student.parameters():
            parameter.grad = None


def _frozen(student: nn.Module, freeze: tuple[str, ...]) -> list[tuple[str, Tensor]]:
    named = list(student.named_parameters())
    for expression in freeze:
        if not any(fnmatchcase(name, expression) for name, _ in named):
            raise TargetError(f"freeze {expression!r} matches no parameter of {type(student).__name__}")
    return [(name, p) for name, p in named if any(fnmatchcase(name, expression) for expression in freeze)]


def _optimizer(trained: list[nn.Parameter], options: RecoverOptions) -> Optimizer:
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return AdamW(
        [group for group in groups if group["params"]], lr=options.learning_rate, betas=options.betas, fused=True
    )


def _check(student: nn.Module, teacher: nn.Module, batches: _Indexed, options: RecoverOptions) -> tuple[str, ...]:
    """Refuse what cannot work; return notes on what is only odd."""
    masks = masks_of(student)
    if not masks:
        raise ArgumentError("the student has no masks, so there is nothing to hold at zero; call sparsify_ on it first")
    shared = {id(parameter) for parameter in teacher.parameters()}
    mine = [name for name, parameter in student.named_parameters() if id(parameter) in shared]
    if mine:
        raise ArgumentError(
            f"student and teacher share the parameter {mine[0]}, so training one would change the other; "
            "make the teacher a copy.deepcopy of the model from before it was pruned"
        )
    count = len(batches) if isinstance(batches, Sized) else options.steps
    if count < options.steps:
        raise ArgumentError(
            f"{options.steps} steps need as many batches, and there are {count}; Batches goes round for ever"
        )
    return tuple(_odd(name, mask) for name, mask in masks.items() if bool(mask.all()) or not bool(mask.any()))


def _odd(name: str, mask: Tensor) -> str:
    return f"{name} is pruned entirely" if not bool(mask.any()) else f"{name} keeps everything: its mask prunes nothing"


def _inputs(
    student: nn.Module, teacher: nn.Module, batches: _Indexed, options: RecoverOptions, output: Output | None
) -> dict[str, str]:
    """Return a hash of each thing that decides what the run computes. Of the batches three are looked at."""
    sample = [batches[step] for step in sorted({0, options.steps // 2, options.steps - 1})]
    return {
        "options": digest(asdict(options), getattr(output, "__qualname__", type(output).__qualname__)),
        "batches": digest(sample),
        "masks": digest(masks_of(student)),
        "teacher": digest(dict(teacher.named_parameters())),
    }


def _due(where: Checkpoint, step: int, steps: int, saved: float) -> bool:
    late = where.seconds is not None and time.monotonic() - saved >= where.seconds
    return late or step % where.every == 0 or step == steps


def _on(batch: Any, device: torch.device) -> Any:
    """Return the batch with its tensors on a device."""
    match batch:
        case Tensor():
            return batch.to(device)
        case Mapping():
            return {key: _on(value, device) for key, value in batch.items()}
        case list() | tuple():
            return [_on(value, device) for value in batch]
        case _:
            return batch


def _require_zeros(student: nn.Module) -> None:
    parameters = dict(student.named_parameters())
    for name, mask in masks_of(student).items():
        stray = int((parameters[name].detach().ne(0) & ~mask).sum())
        if stray:
            raise CheckFailed(
                f"{name} has {stray} pruned elements that are not zero after training; something else writes to it"
            )
