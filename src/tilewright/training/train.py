"""`train_`: train a model with any loss, dense, with fixed masks, or pruning it on the way."""

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
"""``loss(model, batch)``, a scalar tensor."""


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
    """Train a model in place; what is pruned stays zero.

    With a checkpoint, a run killed at any instant and started again with the same arguments, on a model built the same way, ends
    with the same bits as one that was never interrupted (on the same machine, with the same number of threads).

    Parameters
    ----------
    model
        Dense, or with masks from `sparsify_`. May be wrapped in `DistributedDataParallel` or sharded by ``fully_shard``; then every
        process calls `train_` with its own share of each batch, see `Share`.
    batches
        ``batches[i]`` is the i-th batch, the same whenever it is asked for.
    loss
        ``loss(model, batch)`` gives a scalar tensor. Under ``precision="bfloat16"`` it runs under autocast.
    options
        See `TrainOptions`.
    method
        How to prune while training: `FixedMask`, `Gradual`, `MultiStage`, `SRSTE`, or a `Sparsifier` of this model where targets
        have to be chosen. None holds the masks that there are, if any.
    checkpoint
        A file to save to and, if it exists, to go on from; `Checkpoint` says how often.
    progress
        Called after every step.

    Raises
    ------
    ArgumentError
        If the arguments do not fit together, or the checkpoint is another run's.
    FormatError
        If the checkpoint is damaged.
    CheckFailed
        If the loss or its gradient is no longer finite, or masks do not hold.
    OSError
        If a checkpoint cannot be written.

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
    where = checkpoint if isinstance(checkpoint, Checkpoint | None) else Checkpoint(checkpoint)
    with prepared(model, batches, loss, options, method, where is not None) as (task, sparsifier):
        return run_(task, sparsifier, where, progress)


@contextmanager
def prepared(
    model: nn.Module,
    batches: Indexed,
    loss: Loss,
    options: TrainOptions,
    method: Method | Sparsifier | None,
    hashed: bool,
) -> Iterator[tuple[Task, Sparsifier | None]]:
    """Yield task and sparsifier of a training run, the model set up for it."""
    inner = bare(model)
    masks = masks_of(inner)
    if method is None and masks:
        method = FixedMask()
    with arranged(model, options):
        trained_of(inner)
        inputs = {}
        if hashed:
            chosen = method.method if isinstance(method, Sparsifier) else method
            finals = method.finals() if isinstance(method, Sparsifier) else {}
            inputs = {
                "options": digest(asdict(options), getattr(loss, "__qualname__", type(loss).__qualname__)),
                "method": digest(repr(chosen), finals) if finals else digest(repr(chosen)),
                "batches": digest(sample(batches, options)),
                # Masks that training moves are where the model starts from, and no more an input than its weights.
                "masks": digest(masks if isinstance(chosen, FixedMask) else sorted(masks)),
            }
        sparsifier = Sparsifier(model, method, steps=options.steps) if isinstance(method, Method) else method
        if sparsifier is not None:
            sparsifier.require_steps(options.steps)
        yield Task(model, lambda batch: (loss(model, batch), {}), batches, options, inputs), sparsifier


def sample(batches: Indexed, options: TrainOptions) -> list[Any]:
    """Return three batches to tell these batches from others. What torch draws for them is drawn alike each time, as in training."""
    batches = batches.whole if isinstance(batches, Share) else batches
    last = options.steps * options.accumulate - 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        return [batches[step] for step in sorted({0, (last + 1) // 2, last})]
