"""Guards: checks that a pruned model must pass at every checkpoint, and after anything that rewrites its weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from ..errors import ArgumentError, CheckFailed
from ..patterns import Block, Layout, Pattern, TileWise, Unstructured, as_matrix, verify_mask
from ..pruning import is_quantized, masks_of, patterns_of, prunable, whole

__all__ = ["check_masks", "check_patterns", "keeping_patterns"]


def check_masks(model: nn.Module) -> None:
    """Raise `CheckFailed` unless every mask of a model obeys its pattern and every pruned element is zero.

    Parameters
    ----------
    model
        The model to check. A model without masks passes.

    Raises
    ------
    CheckFailed
        If a mask breaks its pattern, keeps everything although its pattern prunes, or a pruned element is not zero. The message
        names the weight.

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
        if pattern.fixed and pattern.density < 1 and bool(mask.all()):
            raise CheckFailed(f"{name} keeps everything: its mask prunes nothing, although its pattern is {pattern}")
        _check_one(f"the mask of {name}", mask, pattern, weights[name].layout)
    _check_together(masks, patterns)


def check_patterns(
    model: nn.Module | Mapping[str, Tensor],
    patterns: Mapping[str, Pattern],
    *,
    after: str,
    masks: Mapping[str, Tensor] | None = None,
) -> None:
    """Raise `CheckFailed` if weights no longer have their patterns, whether or not they still have masks.

    Meant for steps that drop masks, such as a merge, a cast, a conversion or an export. Only the positions of non-zero elements are
    checked. Tensors of a quantizing subclass, such as torchao's, are dequantized first.

    Parameters
    ----------
    model
        The model after the step, or its tensors by name.
    patterns
        Patterns by weight name, as returned by `patterns_of` before the step.
    after
        The step, for the message: ``"merging"``, ``"the export to ONNX"``.
    masks
        Masks by weight name, as returned by `masks_of` before the step; elements outside them must be zero. Required for tile-wise,
        block and unstructured patterns, which the weights alone do not determine. Default: check n:m from the weights alone.

    Raises
    ------
    CheckFailed
        If a weight is missing or has a different shape, or its non-zero elements break the pattern or lie outside the mask.
    ArgumentError
        If a pattern requires a mask and `masks` is None.

    Examples
    --------
    >>> import torch
    >>> from tilewright import parse
    >>> check_patterns({"w": torch.eye(4)}, {"w": parse("1:4")}, after="the cast")
    >>> check_patterns({"w": torch.ones(4, 4)}, {"w": parse("1:4")}, after="the cast")
    Traceback (most recent call last):
    tilewright.errors.CheckFailed: after the cast, w does not obey the pattern 1:4: output 0 keeps 4 of the inputs 0 to 3, but 1:4 allows 1
    """
    layouts: dict[str, Layout] = {}
    if isinstance(model, nn.Module):
        layouts = {weight.name: weight.layout for weight in prunable(model)}
        tensors: Mapping[str, Tensor] = dict(model.named_parameters())
    else:
        tensors = model
    for name, pattern in patterns.items():
        if name not in tensors:
            raise CheckFailed(f"after {after}, the weight {name} with pattern {pattern} is missing")
        values = _plain(tensors[name])
        if masks is None and isinstance(pattern, TileWise | Block | Unstructured):
            raise ArgumentError(
                f"cannot check the pattern {pattern} of {name} without its mask; pass masks=masks_of(model), computed before {after}"
            )
        if masks is not None and name in masks:
            _check_inside(name, values, masks[name], after)
        layout = layouts.get(name, "linear" if values.ndim == 2 else "conv")
        _check_one(f"after {after}, {name}", values != 0, pattern, layout)


@contextmanager
def keeping_patterns(model: nn.Module, *, after: str) -> Iterator[None]:
    """Raise `CheckFailed` if a ``with`` block breaks a model's patterns, for in-place merges, casts or quantization by any library.

    Parameters
    ----------
    model
        A model with masks. They are copied on entry, so the block may drop them.
    after
        What the block does, for the message, such as ``"the cast to bfloat16"``.

    Raises
    ------
    CheckFailed
        On leaving the block, as in `check_patterns`. The message names the weight.

    Examples
    --------
    >>> import torch
    >>> from tilewright.pruning import sparsify_
    >>> model = nn.Sequential(nn.Linear(8, 4))
    >>> report = sparsify_(model, "2:4")
    >>> with keeping_patterns(model, after="the cast to bfloat16"):
    ...     _ = model.bfloat16()
    >>> with keeping_patterns(model, after="merging"), torch.no_grad():
    ...     _ = model[0].weight.add_(1)
    Traceback (most recent call last):
    tilewright.errors.CheckFailed: after merging, 0.weight has 16 pruned elements that are not zero
    """
    patterns = patterns_of(model)
    masks = {name: mask.detach().clone() for name, mask in masks_of(model).items()}
    yield
    check_patterns(model, patterns, after=after, masks=masks)


def _plain(tensor: Tensor) -> Tensor:
    values = whole(tensor.detach())
    return values.dequantize() if is_quantized(values) else values


def _check_inside(name: str, values: Tensor, mask: Tensor, after: str) -> None:
    if values.shape != mask.shape:
        raise CheckFailed(
            f"after {after}, {name} has shape {list(values.shape)}, but its mask has shape {list(mask.shape)}"
        )
    stray = int((values.ne(0).cpu() & ~mask.cpu()).sum())
    if stray:
        raise CheckFailed(f"after {after}, {name} has {stray} pruned elements that are not zero")


def _check_one(what: str, mask: Tensor, pattern: Pattern, layout: Layout) -> None:
    verdict = verify_mask(pattern, as_matrix(mask.cpu().numpy(), layout), check_density=False)
    if not verdict:
        raise CheckFailed(f"{what} does not obey the pattern {pattern}: {verdict.message}")


def _check_together(masks: Mapping[str, Tensor], patterns: Mapping[str, Pattern]) -> None:
    """Raise if all weights that share a budget keep everything; some of them may."""
    groups: dict[Pattern, list[str]] = {}
    for name, pattern in patterns.items():
        if not pattern.fixed and pattern.density < 1:
            groups.setdefault(pattern, []).append(name)
    for pattern, names in groups.items():
        if all(bool(masks[name].all()) for name in names) and _would_prune(pattern, [masks[name] for name in names]):
            raise CheckFailed(f"{names[0]} keeps everything, as does every weight with the pattern {pattern}")


def _would_prune(pattern: Pattern, masks: list[Tensor]) -> bool:
    return round(pattern.density * sum(mask.numel() for mask in masks)) < sum(mask.numel() for mask in masks)
