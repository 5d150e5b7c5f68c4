"""`SparsityCallback`: any pruning method in a Hugging Face ``Trainer``."""

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback

from ...errors import ArgumentError
from ...pruning import Targets
from ...records import Report
from ..guards import check_masks
from ..methods import Method
from ..sparsifier import Sparsifier
from .carried import Carried

__all__ = ["SparsityCallback"]

_KEY = "tilewright"


class SparsityCallback(TrainerCallback):
    """Prune in a ``transformers.Trainer``, or hold the masks that the model already has.

    The state that is not in the model (steps, dense values, score sums) is stored with the optimizer's, so the trainer's own
    checkpoints are complete and ``resume_from_checkpoint`` works. Masks are checked before each checkpoint is written.

    Parameters
    ----------
    method
        `FixedMask`, `Gradual`, `MultiStage`, `SRSTE`, or a `Sparsifier` of the trainer's model. Default: hold the masks the model
        has.
    targets, ignore
        Which weights to prune, as in `sparsify_`. Default: every weight that can take the pattern.

    Attributes
    ----------
    report : Report or None
        The report of `Sparsifier.finish`, once training has ended.

    Raises
    ------
    TargetError, PatternError, ArgumentError
        In the trainer's constructor, as in `Sparsifier`; when training begins, if the trainer stops before the schedule ends.
    FormatError
        When training resumes from a checkpoint that was written without the callback.
    CheckFailed
        When a checkpoint is due or training ends, if a mask no longer holds.

    Examples
    --------
    >>> from tilewright.training import Gradual
    >>> callback = SparsityCallback(Gradual("2:4", end=200, every=20), ignore=["classifier"])
    >>> # transformers.Trainer(model, arguments, train_dataset=data, callbacks=[callback]).train()
    """

    def __init__(
        self,
        method: Method | Sparsifier | None = None,
        *,
        targets: Targets | None = None,
        ignore: Iterable[str] = (),
    ) -> None:
        self._carried = Carried(method, targets, ignore)
        self._handle: Any = None
        self._checked = -1

    @property
    def report(self) -> Report | None:
        """The report of `Sparsifier.finish`, once training has ended."""
        return self._carried.report

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Create the masks before the trainer loads a checkpoint into the model."""
        self._carried.make(kwargs["model"])

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Attach to the optimizer, after any checkpoint has been loaded into it."""
        if self._carried.sparsifier is None and state.global_step == 0:
            self._carried.make(kwargs["model"])
        optimizer = _plain(kwargs["optimizer"])
        loaded = optimizer.param_groups[0].pop(_KEY, None)
        self._carried.begin(optimizer, loaded, state.global_step, state.max_steps)
        self._handle = optimizer.register_state_dict_post_hook(self._add_state)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check the masks if a checkpoint is due."""
        if control.should_save:
            self._check(kwargs["model"], state.global_step)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check the masks if a checkpoint is due."""
        if control.should_save:
            self._check(kwargs["model"], state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check the masks before a checkpoint that only an evaluation has requested."""
        if self._checked != state.global_step:
            self._check(kwargs["model"], state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remove the hooks and check the masks."""
        self._carried.finish()
        self._handle.remove()

    def _check(self, model: nn.Module, step: int) -> None:
        check_masks(model)
        self._checked = step

    def _add_state(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        # Loading keeps extra entries of a group as they are; it would cast and move entries in the state of parameters.
        state["param_groups"][0][_KEY] = self._carried.active().state_dict()


def _plain(optimizer: Any) -> Optimizer:
    """Return the torch optimizer inside accelerate's wrapper."""
    while isinstance(getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = optimizer.optimizer
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(
            f"the trainer's optimizer must be a torch.optim.Optimizer, which has hooks; got a {type(optimizer).__name__}"
        )
    return optimizer
