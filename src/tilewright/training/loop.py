"""The training loop: seeded at every step, checked, checkpointed, and bit-identical however often it is interrupted."""

import time
from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD, AdamW, Optimizer
from torch.utils.checkpoint import checkpoint as recomputed

from ..errors import ArgumentError, CheckFailed, TargetError
from ..graph import keeping_modes
from ..pruning import apply_masks_, is_spread, masks_of, whole
from .batches import Share
from .checkpoint import Checkpoint, Snapshot, State, restore_, save
from .distributed import Ranks, bare, ranks_of
from .guards import check_masks
from .methods import FixedMask
from .options import TrainOptions
from .sparsifier import Sparsifier

__all__ = ["Indexed", "StepCallback", "Task", "Training", "run_", "trained_of"]

StepCallback = Callable[[int, int, float, Mapping[str, float]], None]
"""``progress(step, steps, loss, extras)``, called after every step, counted from 1. ``extras`` holds learning_rate, gradient_norm, the
terms of the loss by name, and mask_changes if the method changes masks."""

Terms = Callable[[Any], tuple[Tensor, Mapping[str, Tensor]]]
"""``terms(batch)`` returns the loss, a scalar, and the tensors to report with it, by name."""


class Indexed(Protocol):
    """A source of batches: ``batches[i]`` is always the same batch."""

    def __getitem__(self, step: int, /) -> Any: ...


@dataclass(frozen=True)
class Training:
    """The result of a training run.

    Parameters
    ----------
    steps
        Total number of steps trained, including those before a resume.
    resumed_from
        Number of steps already done in the checkpoint that the run resumed from; 0 for a fresh run.
    losses
        Loss of each step, from the first.
    seconds
        Wall-clock time of this run, in seconds.
    notes
        Warnings about the final masks: those that keep everything or nothing.
    mask_changes
        Number of mask elements that changed, summed over the steps (the architecture divergence of Zhou et al., arXiv 2102.04010).
    """

    steps: int
    resumed_from: int
    losses: tuple[float, ...]
    seconds: float
    notes: tuple[str, ...] = ()
    mask_changes: int = 0


@dataclass(frozen=True)
class Task:
    """What to train: a model, the terms of its loss, its batches, options and input hashes."""

    model: nn.Module
    terms: Terms
    batches: Indexed
    options: TrainOptions
    inputs: Mapping[str, str]


def run_(
    task: Task,
    sparsifier: Sparsifier | None,
    where: Checkpoint | None = None,
    progress: StepCallback | None = None,
    watch: Callable[[int], None] | None = None,
) -> Training:
    """Train a task's model in place, inside `arranged`; ``watch(step)`` runs after each step, before any save."""
    start = last_save = time.monotonic()
    options, inner, ranks = task.options, bare(task.model), ranks_of(task.model)
    optimizer = _optimizer(trained_of(inner), options)
    if sparsifier is not None:
        sparsifier.attach(optimizer)
    snapshot = Snapshot(inner, optimizer, sparsifier)
    try:
        state = restore_(Path(where.path), task.inputs, snapshot) if where else None
        state = state or State(0, (), task.inputs)
        resumed = state.step
        apply_masks_(inner)
        check_masks(inner)
        step_ = _Step(task, optimizer, sparsifier, ranks)
        while state.step < options.steps:
            loss, extras = step_(state.step)
            state = State(state.step + 1, (*state.losses, loss), task.inputs)
            if watch:
                watch(state.step)
            if where and ranks.mean(float(_due(where, state.step, options.steps, last_save)), step_.device) > 0:
                check_masks(inner)
                save(Path(where.path), state, snapshot, ranks)
                last_save = time.monotonic()
            if progress:
                progress(state.step, options.steps, loss, extras)
        changes = sparsifier.changes if sparsifier else 0
        _finish(inner, sparsifier)
    finally:
        if sparsifier is not None:
            sparsifier.detach()
    return Training(state.step, resumed, state.losses, time.monotonic() - start, _notes(inner), changes)


class _Step:
    """One training step; all its randomness comes from a seed derived from the run's seed and the step."""

    def __init__(self, task: Task, optimizer: Optimizer, sparsifier: Sparsifier | None, ranks: Ranks) -> None:
        self.task, self.options = task, task.options
        self.optimizer, self.sparsifier, self.ranks = optimizer, sparsifier, ranks
        self.device = next(task.model.parameters()).device
        self.trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def __call__(self, step: int) -> tuple[float, dict[str, float]]:
        torch.manual_seed(_mixed(self.options.seed, step, self.ranks.rank))
        self.optimizer.zero_grad(set_to_none=True)
        loss, extras = self._gradients(step)
        changes = self._prepare()
        norm = self._clip()
        self._require_finite("gradient norm", norm, step)
        rate = self.options.rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        extras |= {"learning_rate": rate, "gradient_norm": norm}
        if self.sparsifier is not None and not isinstance(self.sparsifier.method, FixedMask):
            extras["mask_changes"] = self.sparsifier.changes - changes
        return loss, extras

    def _gradients(self, step: int) -> tuple[float, dict[str, float]]:
        """Compute the gradient of the mean loss over the batches of a step."""
        count = self.options.accumulate
        losses, extras = [], dict[str, float]()
        for index in range(count):
            batch = on(self.task.batches[step * count + index], self.device)
            with self._quiet(index < count - 1):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.precision == "bfloat16"):
                    total, parts = self.task.terms(batch)
                _require_scalar(total, step)
                losses.append(self.ranks.mean(total.item(), self.device))
                self._require_finite("loss", losses[-1], step)
                (total / count if count > 1 else total).backward()  # type: ignore[no-untyped-call]
            for name, part in parts.items():
                extras[name] = extras.get(name, 0.0) + part.item() / count
        return sum(losses) / count, extras

    def _quiet(self, more: bool) -> Any:
        """Return a context that defers DDP's gradient exchange if more batches follow."""
        model = self.task.model
        return model.no_sync() if more and isinstance(model, DistributedDataParallel) else nullcontext()

    def _prepare(self) -> int:
        """Remove pruned elements from gradients before clipping and moments; return the number of mask changes so far."""
        if self.sparsifier is None:
            return 0
        self.sparsifier.prepare()
        return self.sparsifier.changes

    def _clip(self) -> float:
        return float(whole(torch.nn.utils.clip_grad_norm_(self.trained, self.options.clip or float("inf"))))

    def _require_finite(self, what: str, value: float, step: int) -> None:
        if not abs(value) < float("inf"):
            raise CheckFailed(
                f"the {what} is {value} at step {step + 1} of {self.options.steps}; training stopped before updating the weights. "
                "Lower the learning rate, or inspect this step's batch"
            )


def _mixed(seed: int, step: int, rank: int) -> int:
    """Mix seed, step and rank into 64 bits; torch's CPU generator uses only the low 32, so every bit must depend on all three.

    Each process draws differently; rank 0 draws what a single process would.
    """
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0])


@contextmanager
def arranged(model: nn.Module, options: TrainOptions) -> Iterator[None]:
    """Set modes, frozen parameters, recomputation and random state for training; restore them all on exit."""
    frozen = [parameter for parameter in _frozen(model, options.freeze) if parameter.requires_grad]
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    wrapped: list[nn.Module] = []
    modes = ExitStack()
    try:
        modes.enter_context(keeping_modes(model))
        model.train(options.mode == "train")
        for parameter in frozen:
            parameter.requires_grad_(False)
        for module in _recomputed(model, options.recompute):
            module.forward = _recomputing(module.forward)  # an instance attribute that shadows the class's method
            wrapped.append(module)
        with torch.random.fork_rng(devices), torch.enable_grad():
            yield
    finally:
        for module in wrapped:
            del module.forward
        for parameter in frozen:
            parameter.requires_grad_(True)
        modes.close()
        for parameter in model.parameters():
            parameter.grad = None


def trained_of(model: nn.Module) -> list[nn.Parameter]:
    """Return the trainable parameters; raise `ArgumentError` if there are none."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ArgumentError("the model has no parameters to train; all are frozen or do not require gradients")
    return trained


def require_batches(batches: Indexed, options: TrainOptions) -> None:
    """Raise `ArgumentError` if the batches cannot be indexed or are too few for the run."""
    if not hasattr(batches, "__getitem__"):
        raise ArgumentError(
            f"batches must support batches[i], the same batch every time, which a {type(batches).__name__} does not; "
            "use Batches, or list(loader) if the data is small enough"
        )
    total = options.steps * options.accumulate
    batches = batches.whole if isinstance(batches, Share) else batches
    count = len(batches) if isinstance(batches, Sized) else total
    if count < total:
        raise ArgumentError(
            f"{total} steps need {total} batches, but there are only {count}; use Batches, which never runs out"
            if options.accumulate == 1
            else f"{options.steps} steps of {options.accumulate} batches need {total} batches, but there are only {count}; "
            "use Batches, which never runs out"
        )


def on(batch: Any, device: torch.device) -> Any:
    """Return a batch with its tensors moved to a device."""
    match batch:
        case Tensor():
            return batch.to(device)
        case Mapping():
            return {key: on(value, device) for key, value in batch.items()}
        case list() | tuple():
            return [on(value, device) for value in batch]
        case _:
            return batch


def _frozen(model: nn.Module, freeze: tuple[str, ...]) -> list[nn.Parameter]:
    named = list(bare(model).named_parameters())
    for expression in freeze:
        if not any(fnmatchcase(name, expression) for name, _ in named):
            raise TargetError(f"freeze={expression!r} matches no parameter of {type(bare(model)).__name__}")
    return [p for name, p in named if any(fnmatchcase(name, expression) for expression in freeze)]


def _recomputed(model: nn.Module, names: tuple[str, ...]) -> list[nn.Module]:
    named = [(name, module) for name, module in bare(model).named_modules() if name]
    for expression in names:
        if not any(fnmatchcase(name, expression) for name, _ in named):
            raise TargetError(f"recompute={expression!r} matches no module of {type(bare(model)).__name__}")
    return [module for name, module in named if any(fnmatchcase(name, expression) for expression in names)]


def _recomputing(forward: Callable[..., Any]) -> Callable[..., Any]:
    def inside(*args: Any, **kwargs: Any) -> Any:
        return recomputed(forward, *args, use_reentrant=False, **kwargs)

    return inside


def _optimizer(trained: list[nn.Parameter], options: TrainOptions) -> Optimizer:
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if options.optimizer == "sgd":
        fused = not any(is_spread(parameter) for parameter in trained)  # torch has no fused SGD for sharded weights
        return SGD(groups, lr=options.learning_rate, momentum=options.momentum, fused=fused)
    return AdamW(groups, lr=options.learning_rate, betas=options.betas, fused=True)


def _require_scalar(total: Any, step: int) -> None:
    if not isinstance(total, Tensor) or total.numel() != 1 or not total.requires_grad:
        kind = f"a tensor of shape {list(total.shape)}" if isinstance(total, Tensor) else f"a {type(total).__name__}"
        raise ArgumentError(
            f"the loss must be a scalar tensor that depends on the weights; at step {step + 1} it is {kind}"
        )


def _finish(model: nn.Module, sparsifier: Sparsifier | None) -> None:
    if sparsifier is not None:
        sparsifier.finish()
    else:
        check_masks(model)


def _notes(model: nn.Module) -> tuple[str, ...]:
    masks = masks_of(model)
    return tuple(_odd(name, mask) for name, mask in masks.items() if bool(mask.all()) or not bool(mask.any()))


def _odd(name: str, mask: Tensor) -> str:
    return f"{name} is pruned entirely" if not bool(mask.any()) else f"{name} keeps everything: its mask prunes nothing"


def _due(where: Checkpoint, step: int, steps: int, saved: float) -> bool:
    overdue = where.seconds is not None and time.monotonic() - saved >= where.seconds
    return overdue or step % where.every == 0 or step == steps
