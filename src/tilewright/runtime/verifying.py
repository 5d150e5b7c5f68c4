"""`verify`: whether the masks of a model or checkpoint obey their patterns, and where they first fail."""

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
"""Elements of a mask that a file may always claim."""

_FOR_EACH = 1 << 14
"""Further elements that a file may claim for each element it stores."""


def verify(
    model_or_path: nn.Module | str | os.PathLike[str],
    pattern: Pattern | str | None = None,
    *,
    exact: bool = False,
    targets: Targets | None = None,
    ignore: Sequence[str] = (),
) -> Report:
    """Report for every pruned weight whether it obeys its pattern, and where it first fails.

    Parameters
    ----------
    model_or_path
        A model pruned by `sparsify_` or loaded by `load`, a checkpoint written by `save`, or any folder of safetensors with
        zeros in dense tensors, such as those of other tools; for the last, `pattern` is required.
    pattern
        Pattern to check all weights against that have two or more dimensions and are not embeddings. Default: the patterns on
        record.
    exact
        Require that each group keeps exactly as many elements as the pattern allows, rather than at most. Default: False.
    targets, ignore
        Expressions for the weights to check and to leave out, as for `sparsify_`; ``ignore=["lm_head"]`` leaves out a dense
        head. A mapping as `targets` gives each expression its own pattern. Class names only match in models, since files
        have none.

    Returns
    -------
    Report
        One row per weight: pattern, shape, density, sparsity, whether the pattern holds, and a finding. ``ok`` is False if
        any weight fails. A weight with no kept element fails under n:m; under patterns with a global budget it is only
        noted and counted.

    Raises
    ------
    ArgumentError
        If there is nothing to verify: no pattern is on record and none is given.
    FormatError
        If the path is not a readable checkpoint.
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
        # A global ranking may empty a layer, which is worth noting; n:m keeps something in every group, so there it is a fault.
        lost = not density and rule.fixed
        rows.append(
            {"layer": name, "pattern": str(rule), "shape": shape, "density": density, "sparsity": 1 - density}
            | {"holds": bool(verdict) and not lost, "finding": finding}
        )
    if not rows:
        raise ArgumentError(
            "there is nothing to verify: none of the selected weights has a pattern on record; prune the model first, or pass the "
            "pattern to check (pattern='2:4', or --pattern on the command line)"
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
        # The stored mask, plus any elements outside it that are no longer zero.
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
        raise FormatError(f"{path} does not exist or is not a folder; pass the folder of a model")


def _mask_of(packed: Packed, where: str) -> NDArray[np.bool_]:
    """Return the mask of a weight from a file; it takes a byte per element, so its claimed size must be plausible."""
    elements = packed.shape[0] * packed.shape[1]
    if elements > _SMALL + _FOR_EACH * packed.kept:
        raise FormatError(
            f"{where}: the file claims {packed.shape[0]:,} x {packed.shape[1]:,} elements but stores {packed.kept:,}; its mask is not expanded. "
            "The file is damaged or was made to exhaust memory"
        )
    return packed.mask()


def _dense_masks(path: Path, selection: Selection) -> _Found:
    """Yield the masks of non-zero elements of the weights in a safetensors folder, leaving out embeddings."""
    from safetensors import SafetensorError, safe_open

    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise FormatError(f"{path} contains no safetensors file; pass the folder of a model")
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
            raise FormatError(
                f"{file} is not a readable safetensors file: {error}; download or write it again"
            ) from None
