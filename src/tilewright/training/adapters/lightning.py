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
    """Prune in a Lightning ``Trainer``, or hold the masks that the module already has.

    The callback's state is part of the trainer's checkpoints, and ``fit(..., ckpt_path=...)`` resumes from them. Masks are checked
    before each checkpoint is written. Gradients are prepared before the trainer clips them, so pruned elements do not count
    towards the norm.

    Parameters
    ----------
    method
        `FixedMask`, `Gradual`, `MultiStage`, `SRSTE`, or a `Sparsifier` of the module. Default: hold the masks the module has.
    targets, ignore
        Which weights to prune, as in `sparsify_`; names are those in the ``LightningModule``, such as ``"model.head"``. Default:
        every weight that can take the pattern.

    Attributes
    ----------
    report : Report or None
        The report of `Sparsifier.finish`, once training has ended.

    Raises
    ------
    TargetError, PatternError, ArgumentError
        In ``fit``, as in `Sparsifier`, or if the trainer stops before the schedule ends.
    FormatError
        In ``fit``, if it resumes from a checkpoint that was written without the callback.
    CheckFailed
        When a checkpoint is due or training ends, if a mask no longer holds.

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
        """The report of `Sparsifier.finish`, once training has ended."""
        return self._carried.report

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Create the masks before the trainer loads a checkpoint into the module."""
        if stage == "fit" and self._carried.sparsifier is None:
            self._carried.make(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Attach to the optimizer that trains the masked weights."""
        self._optimizer = self._carried.holder(pl_module, trainer.optimizers)
        steps = trainer.estimated_stepping_batches
        self._carried.begin(self._optimizer, self._loaded, trainer.global_step, steps)
        self._loaded = None

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Prepare the gradients before they are clipped."""
        if optimizer is self._optimizer:
            self._carried.active().prepare()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Check the masks before a checkpoint is written."""
        check_masks(pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the hooks and check the masks."""
        self._carried.finish()

    def state_dict(self) -> dict[str, Any]:
        """Return the state that the module's `state_dict` does not hold; empty before and after training."""
        live = self._carried.sparsifier is not None and self._carried.report is None
        return self._carried.active().state_dict() if live else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Store a state until training starts, by which time the module has loaded its own."""
        self._loaded = state_dict
