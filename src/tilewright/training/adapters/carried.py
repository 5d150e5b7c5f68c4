"""What both adapters share: one sparsifier from the trainer's beginning to its end, and refusals."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from ...errors import ArgumentError, FormatError
from ...pruning import Targets, masks_of
from ...records import Report
from ..distributed import bare
from ..guards import check_masks
from ..methods import FixedMask, Method
from ..sparsifier import Sparsifier

__all__ = ["Carried"]


class Carried:
    """A sparsifier that is made with the model, attached to an optimizer that comes later, and finished at the end.

    Parameters
    ----------
    method, targets, ignore
        As of `Sparsifier`; a sparsifier of one's own takes the place of all three.
    """

    def __init__(self, method: Method | Sparsifier | None, targets: Targets | None, ignore: Iterable[str]) -> None:
        self._method, self._targets, self._ignore = method or FixedMask(), targets, ignore
        if isinstance(method, Sparsifier) and (targets is not None or list(ignore)):
            raise ArgumentError("targets and ignore belong to the sparsifier that is given; leave them out here")
        self.sparsifier: Sparsifier | None = None
        self.report: Report | None = None

    def make(self, model: nn.Module) -> None:
        """Give the model its first masks, so that a checkpoint finds them when it is loaded."""
        given = self._method
        if not isinstance(given, Sparsifier):
            self.sparsifier = Sparsifier(model, given, targets=self._targets, ignore=self._ignore)
        elif given.model is bare(model):
            self.sparsifier = given
        else:
            raise ArgumentError(
                "the sparsifier is of another model than the trainer's; make it from the trainer's model"
            )

    def begin(self, optimizer: Optimizer, state: Mapping[str, Any] | None, done: int, steps: float) -> None:
        """Attach to the optimizer, going on from a state if steps were done before."""
        sparsifier = self.active()
        if done and not state:
            raise FormatError(
                f"the trainer goes on from step {done}, and its checkpoint has no state of a SparsityCallback; resume from a "
                "checkpoint that was written with the callback, or begin anew"
            )
        if state:
            sparsifier.load_state_dict(state)
        if steps < sparsifier.method.last:
            raise ArgumentError(
                f"{type(sparsifier.method).__name__} changes masks until step {sparsifier.method.last}, and the trainer stops after "
                f"{steps:.0f}; train longer or end the schedule earlier"
            )
        check_masks(sparsifier.model)
        sparsifier.attach(optimizer)

    def active(self) -> Sparsifier:
        """Return the sparsifier, which must exist and not be finished."""
        if self.report is not None:
            raise ArgumentError(
                "this callback has finished its model; to train on with the masks as they are, make a new one with FixedMask()"
            )
        if self.sparsifier is None:
            raise ArgumentError(
                "the callback came after the model was loaded; pass it to the trainer when that is made"
            )
        return self.sparsifier

    def finish(self) -> None:
        """Finish, and keep the report."""
        self.report = self.active().finish()

    @staticmethod
    def holder(model: nn.Module, optimizers: Iterable[Optimizer]) -> Optimizer:
        """Return the optimizer that trains the masked weights; the first one if none does."""
        every = list(optimizers)
        masked = {id(bare(model).get_parameter(name)) for name in masks_of(bare(model))}
        for optimizer in every:
            if any(id(p) in masked for group in optimizer.param_groups for p in group["params"]):
                return optimizer
        return every[0]
