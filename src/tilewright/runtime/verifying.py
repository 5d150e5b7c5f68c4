"""`verify`: whether the masks of a model or a checkpoint fit their patterns, and where they first fail."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..errors import ArgumentError, FormatError
from ..formats import Packed, is_checkpoint, read_checkpoint
from ..patterns import Pattern, as_matrix, parse, verify_mask
from ..pruning import Targets, masks_of, patterns_of, prunable
from ..records import Report
from .install import note_of, sparse_layers
from .selection import Selection
from .tensors import value_array

__all__ = ["verify"]

_SMALL = 1 << 24
_FOR_EACH = 1 << 14
"""Elements of a mask that a file may claim: so many, and so many more for each that it stores."""


def verify(
    model_or_path: nn.Module | str | os.PathLike[str],
    pattern: Pattern | str | None = None,
    *,
    exact: bool = False,
    targets: Targets | None = None,
    ignore: Sequence[str] = (),
) -> Report:
    """Say for every pruned weight whether its pattern holds, and where it first fails.

    Parameters
    ----------
    model_or_path
        A model pruned by `sparsify_` or loaded by `load`; a checkpoint written by `save`; or any folder of safetensors with zeros
        in dense tensors, such as another tool left, which needs `pattern`.
    pattern
        What every weight with two or more dimensions (embeddings aside) is held against, instead of the patterns on record.
    exact
        Ask that each group keeps exactly what the pattern allows, not at most.
    targets, ignore
        Expressions for the weights to look at and to leave out, as for `sparsify_`; ``ignore=["lm_head"]`` leaves out a head that
        stayed dense. A mapping holds each target against a pattern of its own. Class names need a model: files have none.

    Returns
    -------
    Report
        A row a weight: pattern, shape, density, sparsity, holds, and a finding. ``ok`` is False if any fails. A weight that lost
        every element fails under n:m; under patterns whose sparsity is shared out over layers it is a finding, and counted.

    Raises
    ------
    ArgumentError
        If there is nothing to verify: no pattern on record and none given.
    FormatError
        If the path is no readable checkpoint.
    TargetError
        If an expression matches nothing.

    Examples
    --------
    >>> import torch, tilewright
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 4))
    >>> _ = tilewright.sparsify_(model, "2:4")
    >>> verify(model).ok
    True
    """
    wanted = parse(pattern) if isinstance(pattern, str) else pattern
    selection = Selection(wanted, targets, ignore)
    if isinstance(model_or_path, nn.Module):
        found = list(_model_masks(model_or_path, selection))
    else:
        found = list(_path_masks(Path(model_or_path), selection))
    selection.require_all_used()
    rows = []
    kept = total = 0
    for name, rule, mask in found:
        verdict = verify_mask(rule, mask, exact=exact, check_density=False)
        kept, total = kept + int(np.count_nonzero(mask)), total + mask.size
        density = float(np.count_nonzero(mask)) / mask.size
        shape = "x".join(map(str, mask.shape))
        finding = verdict.message if not verdict else "every element pruned" if not density else ""
        # A ranking over all layers may empty one, which is worth saying; n:m leaves something in every group, so there it is a fault.
        lost = not density and rule.fixed
        rows.append(
            {"layer": name, "pattern": str(rule), "shape": shape, "density": density, "sparsity": 1 - density}
            | {"holds": bool(verdict) and not lost, "finding": finding}
        )
    if not rows:
        raise ArgumentError(
            "there is nothing to verify: no weight that was asked about has a pattern on record; prune it first, or say which pattern "
            "to look for (pattern='2:4', or --pattern on the command line)"
        )
    bad = sum(not row["holds"] for row in rows)
    summary = {"weights": len(rows), "density": kept / total, "sparsity": 1 - kept / total, "violations": bad}
    emptied = sum(not row["density"] for row in rows)
    if emptied:
        summary["weights pruned entirely"] = emptied
    return Report("verify", tuple(rows), summary, ok=bad == 0)


_Found = Iterator[tuple[str, Pattern, NDArray[np.bool_]]]


def _model_masks(model: nn.Module, selection: Selection) -> _Found:
    for name, module in model.named_modules():
        selection.see(name, module)
    masks, patterns = masks_of(model), patterns_of(model)
    for weight in prunable(model):
        note = note_of(weight.module, weight.parameter_name)
        record = patterns.get(weight.name) or (parse(note.pattern) if note else None)
        rule = selection.rule(weight.name, record, weight.module)
        if rule is None:
            continue
        nonzero = as_matrix((weight.tensor.detach() != 0).cpu().numpy(), weight.layout)
        mask = masks.get(weight.name)
        # The stored mask, and anything outside it that came back to life.
        yield weight.name, rule, nonzero if mask is None else nonzero | as_matrix(mask.cpu().numpy(), weight.layout)
    for name, layer in sparse_layers(model).items():
        packed = layer.packed()
        full = f"{name}.weight" if name else "weight"
        rule = selection.rule(full, packed.pattern, layer)
        if rule is not None:
            yield full, rule, packed.mask()


def _path_masks(path: Path, selection: Selection) -> _Found:
    if is_checkpoint(path):
        checkpoint = read_checkpoint(path)
        for name in checkpoint.dense:
            selection.see(name.rpartition(".")[0])
        for name, weight in checkpoint.weights.items():
            rule = selection.rule(name, weight.packed.pattern)
            if rule is not None:
                yield name, rule, _mask_of(weight.packed, f"{path}: parameter {name}")
    elif selection.pattern is not None or selection.patterns:
        yield from _dense_masks(path, selection)
    elif not path.is_dir():
        raise FormatError(f"{path} does not exist or is no folder; name the folder of a model")


def _mask_of(packed: Packed, where: str) -> NDArray[np.bool_]:
    """Return the mask of a weight whose size only a file claims: a byte an element, so the bytes stored must bear it out."""
    elements = packed.shape[0] * packed.shape[1]
    if elements > _SMALL + _FOR_EACH * packed.kept:
        raise FormatError(
            f"{where}: {packed.shape[0]:,} x {packed.shape[1]:,} elements are claimed and {packed.kept:,} stored; such a mask is not expanded. The "
            "file is damaged or was made to exhaust memory"
        )
    return packed.mask()


def _dense_masks(path: Path, selection: Selection) -> _Found:
    """Masks of the weights of an ordinary safetensors folder: what is not zero; embeddings are no products and left out."""
    from safetensors import SafetensorError, safe_open

    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise FormatError(f"{path} holds no safetensors file; name the folder of a model")
    for file in files:
        try:
            with safe_open(str(file), framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                    selection.see(name.rpartition(".")[0])
                    slices = tensors.get_slice(name)
                    shape = slices.get_shape()
                    if len(shape) < 2 or 0 in shape or "embed" in name.lower():
                        continue
                    rule = selection.rule(name, None)
                    if rule is None:
                        continue
                    tensor: Any = tensors.get_tensor(name)
                    if tensor.is_floating_point():
                        dense = value_array(tensor.float())[0] != 0
                        yield name, rule, as_matrix(dense, "linear" if tensor.ndim == 2 else "conv")
        except SafetensorError as error:
            raise FormatError(f"{file} is no readable safetensors file: {error}; fetch or write it again") from None
