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
    """Prune while a ``transformers.Trainer`` trains, or hold the masks that there are.

    The state that a model's weights lack (steps, dense values, score sums) travels in the optimizer's, so that the trainer's own
    checkpoints are whole and ``resume_from_checkpoint`` goes on from them. Masks are checked before each checkpoint is written.

    Parameters
    ----------
    method
        `FixedMask`, `Gradual`, `MultiStage`, `SRSTE`, or a `Sparsifier` of the trainer's model. None holds the masks there are.
    targets, ignore
        As in `sparsify_`.

    Attributes
    ----------
    report : Report or None
        After training: what `Sparsifier.finish` returned.

    Raises
    ------
    TargetError, PatternError, ArgumentError
        From the trainer's constructor, as `Sparsifier`; when training begins, if the trainer stops before the schedule does.
    FormatError
        When training begins, if a checkpoint was written without the callback.
    CheckFailed
        When a checkpoint is due or training ends, if masks do not hold.

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
        """What `Sparsifier.finish` returned, once training has ended."""
        return self._carried.report

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Give the model its masks before the trainer loads a checkpoint into it."""
        self._carried.make(kwargs["model"])

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Attach to the optimizer, into which a checkpoint has been loaded by now."""
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
        """Check the masks of a checkpoint that only the evaluation before it asked for."""
        if self._checked != state.global_step:
            self._check(kwargs["model"], state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Finish: hooks off, masks checked."""
        self._carried.finish()
        self._handle.remove()

    def _check(self, model: nn.Module, step: int) -> None:
        check_masks(model)
        self._checked = step

    def _add_state(self, optimizer: Optimizer, state: dict[str, Any]) -> None:
        # Loading keeps what else a group holds, and neither casts nor moves it as it does with the state of parameters.
        state["param_groups"][0][_KEY] = self._carried.active().state_dict()


def _plain(optimizer: Any) -> Optimizer:
    """Return the torch optimizer inside accelerate's wrapper."""
    while isinstance(getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = optimizer.optimizer
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(
            f"the trainer's optimizer is a {type(optimizer).__name__}, and only those of torch have hooks"
        )
    return optimizer
