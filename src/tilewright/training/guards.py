"""Guards: what must hold of a pruned model at every checkpoint, and after anything that rewrites its weights."""

from collections.abc import Mapping

from torch import Tensor, nn

from ..errors import CheckFailed
from ..patterns import Layout, Pattern, as_matrix, verify_mask
from ..pruning import masks_of, patterns_of, prunable, whole

__all__ = ["check_masks", "check_patterns"]


def check_masks(model: nn.Module) -> None:
    """Stop if the masks of a model no longer do what they are for.

    Parameters
    ----------
    model
        With masks, or without any, which passes.

    Raises
    ------
    CheckFailed
        If a mask keeps everything though its pattern does not allow it, a mask breaks its pattern, or a pruned element is not
        zero. The message names the weight.

    Examples
    --------
    >>> import torch
    >>> from tilewright.pruning import sparsify_
    >>> model = nn.Linear(8, 4)
    >>> report = sparsify_(model, "2:4")
    >>> check_masks(model)
    >>> with torch.no_grad():
    ...     _ = model.weight.fill_(1.0)
    >>> check_masks(model)
    Traceback (most recent call last):
    tilewright.errors.CheckFailed: weight has 16 pruned elements that are not zero; something else writes to it
    """
    masks, patterns = masks_of(model), patterns_of(model)
    weights = {weight.name: weight for weight in prunable(model)}
    for name, mask in masks.items():
        values, pattern = whole(weights[name].tensor.detach()), patterns[name]
        stray = int((values.ne(0) & ~mask).sum())
        if stray:
            raise CheckFailed(f"{name} has {stray} pruned elements that are not zero; something else writes to it")
        _check_one(name, mask, pattern, weights[name].layout, "its mask")
    _check_together(masks, patterns)


def check_patterns(model: nn.Module | Mapping[str, Tensor], patterns: Mapping[str, Pattern], *, after: str) -> None:
    """Stop if weights no longer have the pattern that they had, whether they still carry masks or not.

    Made for the moments at which a mask is left behind: after a merge, a cast, a conversion or an export. What counts is which elements
    are not zero.

    Parameters
    ----------
    model
        A model, or tensors by name, as they are now.
    patterns
        By weight name, as `patterns_of` gave them before.
    after
        What was done, for the message: ``"merging"``, ``"export to ONNX"``.

    Raises
    ------
    CheckFailed
        If a weight is gone, or its elements that are not zero break the pattern.

    Examples
    --------
    >>> import torch
    >>> from tilewright import parse
    >>> check_patterns({"w": torch.eye(4)}, {"w": parse("1:4")}, after="the cast")
    >>> check_patterns({"w": torch.ones(4, 4)}, {"w": parse("1:4")}, after="the cast")
    Traceback (most recent call last):
    tilewright.errors.CheckFailed: after the cast w no longer has the pattern 1:4: output 0 keeps 4 of the inputs 0 to 3, and 1:4 allows 1
    """
    layouts: dict[str, Layout] = {}
    if isinstance(model, nn.Module):
        layouts = {weight.name: weight.layout for weight in prunable(model)}
        tensors: Mapping[str, Tensor] = dict(model.named_parameters())
    else:
        tensors = model
    for name, pattern in patterns.items():
        if name not in tensors:
            raise CheckFailed(f"after {after} there is no weight {name}, which had the pattern {pattern}")
        values = whole(tensors[name].detach())
        layout = layouts.get(name, "linear" if values.ndim == 2 else "conv")
        _check_one(name, values != 0, pattern, layout, "it", after)


def _check_one(name: str, mask: Tensor, pattern: Pattern, layout: Layout, what: str, after: str = "") -> None:
    matrix = as_matrix(mask.cpu().numpy(), layout)
    if pattern.fixed and pattern.density < 1 and bool(matrix.all()) and not after:
        raise CheckFailed(f"{name} keeps everything: {what} prunes nothing, and its pattern is {pattern}")
    verdict = verify_mask(pattern, matrix, check_density=False)
    if not verdict:
        when = f"after {after} {name} no longer has" if after else f"{what} of {name} does not obey"
        raise CheckFailed(f"{when} the pattern {pattern}: {verdict.message}")


def _check_together(masks: Mapping[str, Tensor], patterns: Mapping[str, Pattern]) -> None:
    """Of weights that share a budget one may keep everything, but not all of them."""
    groups: dict[Pattern, list[str]] = {}
    for name, pattern in patterns.items():
        if not pattern.fixed and pattern.density < 1:
            groups.setdefault(pattern, []).append(name)
    for pattern, names in groups.items():
        if all(bool(masks[name].all()) for name in names) and _would_prune(pattern, [masks[name] for name in names]):
            raise CheckFailed(f"{names[0]} keeps everything, as does every weight with the pattern {pattern}")


def _would_prune(pattern: Pattern, masks: list[Tensor]) -> bool:
    return round(pattern.density * sum(mask.numel() for mask in masks)) < sum(mask.numel() for mask in masks)
