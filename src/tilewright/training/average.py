"""Averaged weights that keep the pattern.

An average over steps between which masks changed holds more elements than any one mask allows, and averaging the masks themselves
as buffers lets them only grow. What counts is the mask that the model has now.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..errors import ArgumentError
from ..pruning import masks_of, patterns_of, prunable, set_mask_
from .distributed import bare

__all__ = ["MaskedAverage", "copy_masks_"]


class MaskedAverage(AveragedModel):
    """`torch.optim.swa_utils.AveragedModel` of a pruned model: the average always has the masks that the model has now.

    It takes the same arguments, and can be made before or after the model gets its masks. Elements that come back start from an
    average of zero.

    Examples
    --------
    >>> import torch
    >>> from torch.optim.swa_utils import get_ema_multi_avg_fn
    >>> from tilewright.training import SRSTE, Sparsifier
    >>> model = nn.Linear(8, 4)
    >>> average = MaskedAverage(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> sparsifier = Sparsifier(model, SRSTE("2:4")).attach(optimizer)
    >>> for _ in range(3):
    ...     optimizer.zero_grad()
    ...     model(torch.randn(16, 8)).square().mean().backward()
    ...     optimizer.step()
    ...     average.update_parameters(model)
    >>> int(average.module.weight.count_nonzero())
    16
    """

    def update_parameters(self, model: nn.Module) -> None:
        """Take the model's present weights into the average."""
        with _without_masks(self.module, bare(model)):
            super().update_parameters(model)
        copy_masks_(self.module, model)


@contextmanager
def _without_masks(*models: nn.Module) -> Iterator[None]:
    """Take the masks out of models: torch walks through the buffers of two models side by side, and cannot average bools."""
    taken: list[tuple[nn.Module, str, Tensor]] = []
    for model in models:
        names = masks_of(model)
        for name in names:
            path, _, parameter = name.rpartition(".")
            module = model.get_submodule(path)
            mask = module._buffers.pop(f"{parameter}_mask")
            assert mask is not None
            taken.append((module, f"{parameter}_mask", mask))
    try:
        yield
    finally:
        for module, name, mask in taken:
            module._buffers[name] = mask


def copy_masks_(target: nn.Module, source: nn.Module) -> None:
    """Give a copy of a model, such as an average of its weights, the masks that the model has now, and zero what they prune.

    Parameters
    ----------
    target
        Built like the source; it may have masks already or not.
    source
        With masks.

    Raises
    ------
    ArgumentError
        If the target lacks a weight that has a mask.
    """
    masks, patterns = masks_of(bare(source)), patterns_of(bare(source))
    weights = {weight.name: weight for weight in prunable(bare(target))}
    missing = [name for name in masks if name not in weights]
    if missing:
        raise ArgumentError(
            f"the target has no weight {missing[0]}, which has a mask in the source; copy the same model"
        )
    for name, mask in masks.items():
        set_mask_(weights[name], mask.clone(), patterns[name], in_place=True)
