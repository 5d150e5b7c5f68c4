"""Averaged weights that keep the pattern.

If masks change between steps, an average over those steps has more nonzero elements than any of the masks allows, and averaging the
masks themselves as buffers either fails or only lets them grow. The mask that counts is the model's current one, so
`torch.optim.swa_utils.AveragedModel` is patched to leave masks out of the average. A subclass would not do: some trainers create the
average themselves (Lightning's ``WeightAveraging`` does) and accept no other class.
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
    """Patch `AveragedModel` to copy the masks of its model and average everything else. Later calls have no effect."""
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
    """Remove the masks for the duration of the block: torch pairs the buffers of the two models and cannot average bools."""
    removed: list[tuple[nn.Module, str, Tensor]] = []
    for model in models:
        names = masks_of(model)
        for name in names:
            path, _, parameter = name.rpartition(".")
            module = model.get_submodule(path)
            mask = module._buffers.pop(f"{parameter}_mask")
            assert mask is not None
            removed.append((module, f"{parameter}_mask", mask))
    try:
        yield
    finally:
        for module, name, mask in removed:
            module._buffers[name] = mask


def copy_masks_(target: nn.Module, source: nn.Module) -> None:
    """Copy the current masks of a model to a copy of it, such as an average of its weights, and zero what they prune.

    Parameters
    ----------
    target
        Model with the architecture of the source, with or without masks.
    source
        Masked model.

    Raises
    ------
    ArgumentError
        If the target lacks a weight that has a mask in the source.
    """
    masks, patterns = masks_of(bare(source)), patterns_of(bare(source))
    weights = {weight.name: weight for weight in prunable(bare(target))}
    missing = [name for name in masks if name not in weights]
    if missing:
        raise ArgumentError(
            f"the target has no weight {missing[0]}, which has a mask in the source; pass a copy of the source model"
        )
    for name, mask in masks.items():
        set_mask_(weights[name], mask.clone(), patterns[name], in_place=True)


AT_FIRST.append(teach_averages)
