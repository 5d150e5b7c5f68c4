"""`Carried`: the part that both adapters share, one sparsifier from the start of training to its end."""

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
    """A sparsifier created with the model, attached once the optimizer exists, and finished when training ends.

    Parameters
    ----------
    method, targets, ignore
        As in `Sparsifier`. Passing a sparsifier as the method replaces all three. None holds the masks the model has.
    """

    def __init__(self, method: Method | Sparsifier | None, targets: Targets | None, ignore: Iterable[str]) -> None:
        self._method, self._targets, self._ignore = method or FixedMask(), targets, ignore
        if isinstance(method, Sparsifier) and (targets is not None or list(ignore)):
            raise ArgumentError(
                "method is a Sparsifier, which has its own targets; pass targets and ignore to it instead"
            )
        self.sparsifier: Sparsifier | None = None
        self.report: Report | None = None

    def make(self, model: nn.Module) -> None:
        """Create the sparsifier and its first masks, so that a checkpoint can be loaded into them."""
        method = self._method
        if not isinstance(method, Sparsifier):
            self.sparsifier = Sparsifier(model, method, targets=self._targets, ignore=self._ignore)
        elif method.model is bare(model):
            self.sparsifier = method
        else:
            raise ArgumentError(
                "the sparsifier was created for a different model; create it from the model passed to the trainer"
            )

    def begin(self, optimizer: Optimizer, state: Mapping[str, Any] | None, done: int, steps: float) -> None:
        """Attach to the optimizer, after restoring a state if the trainer resumes."""
        sparsifier = self.active()
        if done and not state:
            raise FormatError(
                f"the trainer resumes from step {done}, but its checkpoint has no SparsityCallback state; resume from a checkpoint "
                "written with the callback, or start over"
            )
        if state:
            sparsifier.load_state_dict(state)
        if steps < sparsifier.method.last:
            raise ArgumentError(
                f"{type(sparsifier.method).__name__} changes masks until step {sparsifier.method.last}, but the trainer stops after "
                f"{steps:.0f}; train longer or end the schedule earlier"
            )
        check_masks(sparsifier.model)
        sparsifier.attach(optimizer)

    def active(self) -> Sparsifier:
        """Return the sparsifier; raise `ArgumentError` if it does not exist yet or is finished."""
        if self.report is not None:
            raise ArgumentError(
                "this callback has already finished its model; to keep training with the same masks, create a new one with FixedMask()"
            )
        if self.sparsifier is None:
            raise ArgumentError(
                "the callback was added after the model was loaded; pass it to the trainer's constructor"
            )
        return self.sparsifier

    def finish(self) -> None:
        """Finish the sparsifier and store its report."""
        self.report = self.active().finish()

    @staticmethod
    def holder(model: nn.Module, optimizers: Iterable[Optimizer]) -> Optimizer:
        """Return the optimizer that trains the masked weights, or the first one if none does."""
        candidates = list(optimizers)
        masked = {id(bare(model).get_parameter(name)) for name in masks_of(bare(model))}
        for optimizer in candidates:
            if any(id(p) in masked for group in optimizer.param_groups for p in group["params"]):
                return optimizer
        return candidates[0]
