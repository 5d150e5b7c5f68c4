"""`explain`: which layers run sparse, which run dense, and why."""

import os
from collections.abc import Iterator

from torch import nn

from ..pruning import patterns_of, prunable
from ..records import Report
from .install import Note, has_kernel, note_of
from .layer import SparseLinear
from .measured.choice import check_tokens, choose, kernel_in_use

__all__ = ["explain"]


def explain(model_or_path: nn.Module | str | os.PathLike[str], *, tokens: int | None = None) -> Report:
    """Report for every prunable layer whether it runs sparse or dense on this machine, with which kernel, and why.

    Parameters
    ----------
    model_or_path
        A model from `load`, or a checkpoint, which is then loaded.
    tokens
        As for `load`; used only for a checkpoint, or for layers that have not been measured yet.

    Returns
    -------
    Report
        One row per layer: pattern, shape, density, how it runs, kernel, dense time over sparse time, and the reason.

    Examples
    --------
    >>> import tempfile, tilewright
    >>> model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 8))
    >>> pruned = tilewright.sparsify_(model, "2:4", ignore=["1"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tilewright.save(model, folder)
    ...     loaded = tilewright.load_(nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 8)), folder, measure=False)
    >>> [(row["layer"], row["runs"]) for row in tilewright.explain(loaded).rows]
    [('0', 'sparse'), ('1', 'dense')]
    """
    from .checkpoint.loading import load

    check_tokens(tokens)
    model = model_or_path if isinstance(model_or_path, nn.Module) else load(model_or_path, tokens=tokens)
    rows = []
    for name, module in model.named_modules():
        if isinstance(module, SparseLinear):
            packed = module.packed()
            note = note_of(module) or _unmeasured(module, tokens)
            rows.append(_row(name, packed.shape, packed.density, "sparse", kernel_in_use(), note))
        else:
            rows += _dense_rows(name, module)
    sparse = sum(row["runs"] == "sparse" for row in rows)
    return Report("explain", tuple(rows), {"layers": len(rows), "sparse": sparse, "dense": len(rows) - sparse})


def _unmeasured(layer: SparseLinear, tokens: int | None) -> Note:
    """Measure a layer that was loaded without measuring: it stays sparse, and the note says what would have been chosen."""
    choice = choose(layer, (tokens,)) if tokens else choose(layer)
    return Note(layer.pattern, layer.stored_dtype, f"sparse as asked; {choice.reason}", min(choice.ratios.values()))


def _row(name: str, shape: tuple[int, ...], density: float, runs: str, kernel: str, note: Note) -> dict[str, object]:
    return {
        "layer": name,
        "pattern": note.pattern,
        "shape": "x".join(map(str, shape)),
        "density": density,
        "runs": runs,
        "kernel": kernel,
        "ratio": note.ratio,
        "reason": note.reason,
    }


def _dense_rows(name: str, module: nn.Module) -> Iterator[dict[str, object]]:
    """Yield rows for the dense prunable weights of a module itself."""
    patterns = patterns_of(module)
    for weight in prunable(module):
        if "." in weight.name:
            continue
        density = float((weight.tensor != 0).float().mean())
        note = note_of(module, weight.name)
        if note is None and weight.name in patterns:
            note = Note(str(patterns[weight.name]), "float32", "masked for training; save and load it to run sparse")
        elif note is None and has_kernel(module, "weight", weight.layout):
            note = Note("", "float32", "not pruned")
        elif note is None:
            note = Note("", "float32", f"not pruned; {type(module).__name__} has no sparse kernel")
        yield _row(name or weight.name, tuple(weight.tensor.shape), density, "dense", "torch", note)
