"""`train_`: train a model with any loss, dense, with fixed masks, or pruning as it trains."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..pruning import masks_of
from ..records import digest
from .batches import Share
from .checkpoint import Checkpoint
from .distributed import bare
from .loop import Indexed, StepCallback, Task, Training, arranged, require_batches, run_, trained_of
from .methods import FixedMask, Method
from .options import TrainOptions
from .sparsifier import Sparsifier

__all__ = ["Loss", "train_"]

Loss = Callable[[nn.Module, Any], Tensor]
"""``loss(model, batch)`` returns a scalar tensor."""


def train_(
    model: nn.Module,
    batches: Indexed,
    loss: Loss,
    *,
    options: TrainOptions,
    method: Method | Sparsifier | None = None,
    checkpoint: Checkpoint | Path | str | None = None,
    progress: StepCallback | None = None,
) -> Training:
    """Train a model in place; pruned elements stay zero.

    With a checkpoint, a run that is killed at any time and restarted with the same arguments, on a model built the same way, ends
    bit-identical to an uninterrupted run (on the same machine, with the same number of threads).

    Parameters
    ----------
    model
        The model to train: dense, or with masks from `sparsify_`. It may be wrapped in `DistributedDataParallel` or sharded by
        ``fully_shard``; every process then calls `train_` with its own part of each batch, see `Share`.
    batches
        A sequence whose ``batches[i]`` is always the same batch, such as `Batches`. Step i reads the batches from
        ``i * options.accumulate`` on.
    loss
        ``loss(model, batch)`` returns a scalar tensor. With ``precision="bfloat16"`` it runs under autocast.
    options
        Steps, learning rate, optimizer and everything else, see `TrainOptions`.
    method
        How to prune while training: `FixedMask`, `Gradual`, `MultiStage`, `SRSTE`, or a `Sparsifier` of this model to choose
        targets. Default: hold the masks the model already has, if any.
    checkpoint
        A file to save to, and to resume from if it exists. Pass a `Checkpoint` to set how often to save.
    progress
        A callback that runs after every step, see `StepCallback`.

    Returns
    -------
    Training
        Steps, losses and notes of the run.

    Raises
    ------
    ArgumentError
        If the arguments contradict each other, or the checkpoint belongs to a different run.
    FormatError
        If the checkpoint is damaged.
    CheckFailed
        If the loss or its gradient becomes infinite or NaN, or a mask no longer holds.
    OSError
        If the checkpoint cannot be written.

    Examples
    --------
    >>> import torch
    >>> from tilewright.training import Gradual
    >>> model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    >>> batches = [torch.randn(16, 8) for _ in range(20)]
    >>> def loss(model, batch):
    ...     return model(batch).square().mean()
    >>> train_(model, batches, loss, options=TrainOptions(steps=20), method=Gradual("2:4", end=10, every=5)).steps
    20
    >>> bool((model[0].weight.view(8, 2, 4) != 0).sum(-1).max() <= 2)
    True
    """
    require_batches(batches, options)
    target = checkpoint if isinstance(checkpoint, Checkpoint | None) else Checkpoint(checkpoint)
    with prepared(model, batches, loss, options, method, target is not None) as (task, sparsifier):
        return run_(task, sparsifier, target, progress)


@contextmanager
def prepared(
    model: nn.Module,
    batches: Indexed,
    loss: Loss,
    options: TrainOptions,
    method: Method | Sparsifier | None,
    hashed: bool,
) -> Iterator[tuple[Task, Sparsifier | None]]:
    """Set the model up for training; yield the task and its sparsifier. `hashed`: whether a checkpoint needs the input hashes."""
    inner = bare(model)
    masks = masks_of(inner)
    if method is None and masks:
        method = FixedMask()
    with arranged(model, options):
        trained_of(inner)
        inputs = {}
        if hashed:
            schedule = method.method if isinstance(method, Sparsifier) else method
            finals = method.finals() if isinstance(method, Sparsifier) else {}
            inputs = {
                "options": digest(asdict(options), getattr(loss, "__qualname__", type(loss).__qualname__)),
                "method": digest(repr(schedule), finals) if finals else digest(repr(schedule)),
                "batches": digest(sample(batches, options)),
                # Masks that training changes are part of the starting point, like the weights, so only their names are hashed.
                "masks": digest(masks if isinstance(schedule, FixedMask) else sorted(masks)),
            }
        sparsifier = Sparsifier(model, method, steps=options.steps) if isinstance(method, Method) else method
        if sparsifier is not None:
            sparsifier.require_steps(options.steps)
        yield Task(model, lambda batch: (loss(model, batch), {}), batches, options, inputs), sparsifier


def sample(batches: Indexed, options: TrainOptions) -> list[Any]:
    """Return the first, middle and last batch, which identify the data; torch is seeded with the run's seed while they load."""
    batches = batches.whole if isinstance(batches, Share) else batches
    last = options.steps * options.accumulate - 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        return [batches[step] for step in sorted({0, (last + 1) // 2, last})]
