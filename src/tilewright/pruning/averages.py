"""Averaged weights that keep the pattern.

An average over steps between which masks changed holds more elements than any one mask allows, and averaging the masks themselves
as buffers fails, or lets them only grow. What counts is the mask that the model has now. So torch's own averaging is taught to
leave masks out: trainers make the averages of others (Lightning's ``WeightAveraging`` does), and nobody could pass another class in.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ..errors import ArgumentError
from .masks import AT_FIRST, masks_of, patterns_of, set_mask_
from .weights import prunable
from .wrappers import bare

__all__ = ["copy_masks_", "teach_averages"]


def teach_averages() -> None:
    """Make every `AveragedModel` take over the masks of its model, and average everything else; once."""
    original = AveragedModel.update_parameters
    if hasattr(original, "__wrapped__"):
        return

    @wraps(original)
    def update_parameters(self: AveragedModel, model: nn.Module) -> None:
        with _without_masks(self.module, model):
            original(self, model)
        copy_masks_(self.module, model)

    AveragedModel.update_parameters = update_parameters  # type: ignore[method-assign]


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


AT_FIRST.append(teach_averages)
