"""`SparsityCallback`: any pruning method in a Lightning ``Trainer``."""

from collections.abc import Iterable, Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from ...pruning import Targets
from ...records import Report
from ..guards import check_masks
from ..methods import Method
from ..sparsifier import Sparsifier
from .carried import Carried

__all__ = ["SparsityCallback"]


class SparsityCallback(Callback):
    """Prune while a Lightning ``Trainer`` trains, or hold the masks that there are.

    Its state is part of the trainer's checkpoints, and ``fit(..., ckpt_path=...)`` goes on from them. Masks are checked before each
    checkpoint is written. Gradients are made ready before the trainer clips them, so pruned elements do not count in their norm.

    Parameters
    ----------
    method
        `FixedMask`, `Gradual`, `MultiStage`, `SRSTE`, or a `Sparsifier` of the module. None holds the masks there are.
    targets, ignore
        As in `sparsify_`; names are those of the ``LightningModule``, such as ``"model.head"``.

    Attributes
    ----------
    report : Report or None
        After training: what `Sparsifier.finish` returned.

    Raises
    ------
    TargetError, PatternError, ArgumentError
        From ``fit``, as `Sparsifier`, or if the trainer stops before the schedule does.
    FormatError
        From ``fit``, if a checkpoint was written without the callback.
    CheckFailed
        When a checkpoint is due or training ends, if masks do not hold.

    Examples
    --------
    >>> from tilewright.training import Gradual
    >>> callback = SparsityCallback(Gradual("2:4", end=200, every=20), ignore=["*.head"])
    >>> # lightning.Trainer(max_steps=300, callbacks=[callback]).fit(module, data)
    """

    def __init__(
        self,
        method: Method | Sparsifier | None = None,
        *,
        targets: Targets | None = None,
        ignore: Iterable[str] = (),
    ) -> None:
        self._carried = Carried(method, targets, ignore)
        self._loaded: Mapping[str, Any] | None = None
        self._optimizer: Optimizer | None = None

    @property
    def report(self) -> Report | None:
        """What `Sparsifier.finish` returned, once training has ended."""
        return self._carried.report

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the module its masks before the trainer loads a checkpoint into it."""
        if stage == "fit" and self._carried.sparsifier is None:
            self._carried.make(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach to the optimizer that trains the masked weights."""
        self._optimizer = self._carried.holder(pl_module, trainer.optimizers)
        steps = trainer.estimated_stepping_batches
        self._carried.begin(self._optimizer, self._loaded, trainer.global_step, steps)
        self._loaded = None

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Make the gradients ready before they are clipped."""
        if optimizer is self._optimizer:
            self._carried.active().prepare()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Check the masks before anything is written."""
        check_masks(pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finish: hooks off, masks checked."""
        self._carried.finish()

    def state_dict(self) -> dict[str, Any]:
        """Return what the module's own state lacks."""
        live = self._carried.sparsifier is not None and self._carried.report is None
        return self._carried.active().state_dict() if live else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a state until training starts, when the module has loaded its own."""
        self._loaded = state_dict
