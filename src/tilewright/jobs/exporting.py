"""`export`: a packed model for programs that do not know this package: dense with zeros, or ONNX."""

import importlib.util
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from ..errors import ArgumentError, CheckFailed
from ..records import Progress, Report, SilentProgress, flush, write_whole
from ..runtime import densified, export_dense, load
from .models import inner_model, other_files
from .packing import load_packed
from .speed.benching import example_for
from .speed.onnx import require_packages, write_onnx
from .speed.peers import Engine, onnx_engine, torch_engine

__all__ = ["export"]

_TOLERANCE = 2e-3
"""Largest difference from torch over the largest output, as where engines are timed."""


def export(
    path: str,
    output: str | os.PathLike[str],
    to: Literal["dense", "onnx"],
    *,
    model: str | None = None,
    inputs: str | None = None,
    shape: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Write a packed checkpoint as an ordinary one with zeros in dense tensors, or as ONNX.

    Parameters
    ----------
    path
        Checkpoint written by `save`.
    output
        Folder to write to; of an ONNX export it holds ``model.onnx`` and the tokenizer's files.
    to
        ``dense``: what transformers and sentence-transformers open without this package; ``onnx``: any batch, any length of text. Of a
        SentenceTransformer the transformer is written: pooling is the reader's.
    model
        ``module:callable`` that builds the module, if the checkpoint is of a plain one; only ONNX needs it.
    inputs, shape
        As for `bench`: what the model is traced on.
    progress
        Told about every stage.

    Returns
    -------
    Report
        A row for each file written: its name and size.

    Raises
    ------
    ArgumentError
        If `output` is the checkpoint itself, or what the model takes is not known.
    CheckFailed
        If ONNX Runtime, where it is installed, disagrees with torch; nothing is written then.
    NotSupportedError
        If a package is missing, or torch's exporter cannot convert the model.
    """
    told, folder = progress or SilentProgress(), Path(output)
    told.stage(f"export to {to}")
    if to == "dense":
        export_dense(path, folder)
    else:
        _export_onnx(path, folder, model, inputs, shape)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    rows = tuple({"file": str(file.relative_to(folder)), "bytes": file.stat().st_size} for file in files)
    return Report("export", rows, {"to": to, "folder": str(folder)})


def _export_onnx(path: str, folder: Path, model: str | None, inputs: str | None, shape: Sequence[int] | None) -> None:
    if folder.resolve() == Path(path).resolve():
        raise ArgumentError(f"{folder} is the checkpoint itself; export it to another folder")
    require_packages("onnx", "onnxscript")
    packed = load(path, measure=False) if model is None else load_packed(model, path, measure=False)
    dense = densified(inner_model(packed))
    example = example_for(path, packed, model is not None, inputs, shape, 2)(2)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        write_onnx(dense, example, Path(scratch) / "model.onnx")
        _check(Path(scratch) / "model.onnx", torch_engine(dense), example)
        for file in sorted(Path(scratch).iterdir(), key=lambda file: file.suffix == ".onnx"):
            flush(file)
            file.replace(folder / file.name)  # weights beside the model, where there are some, come first
    for name, place in other_files(path).items():
        if name not in ("README.md", "modules.json"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_whole(folder / name, Path(place).read_bytes())
    flush(folder)


def _check(file: Path, dense: Engine, example: Mapping[str, Tensor]) -> None:
    """Compare with torch where ONNX Runtime is installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return
    arrays = {name: tensor.numpy() for name, tensor in example.items()}
    ours, theirs = onnx_engine(file, 1)(arrays), dense(arrays)
    far, scale = float(np.abs(ours - theirs).max()), float(np.abs(theirs).max())
    if not far <= _TOLERANCE * scale:
        raise CheckFailed(
            f"ONNX Runtime and torch disagree by {far:.3g} where outputs reach {scale:.3g}; nothing was written. Report the model to this project"
        )
