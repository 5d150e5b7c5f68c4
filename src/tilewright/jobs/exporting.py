"""`export`: write a packed model for programs without Tilewright, as dense tensors with zeros or as ONNX."""

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
"""Maximum difference from torch, relative to the largest output; the same as for timing engines."""


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
    """Write a packed checkpoint as dense tensors with zeros, or as ONNX.

    Parameters
    ----------
    path
        Checkpoint written by `save`.
    output
        Folder to write to. An ONNX export holds ``model.onnx`` and the tokenizer's files.
    to
        ``dense`` writes a checkpoint that transformers and sentence-transformers open without Tilewright. ``onnx`` writes a model that
        accepts any batch size and any text length; of a SentenceTransformer, only the transformer is exported, without pooling.
    model
        ``module:callable`` that builds the module, for a checkpoint of a plain torch module. Only used for ONNX.
    inputs, shape
        Inputs that an ONNX export is traced on, as for `bench`.
    progress
        Receives every stage. Default: none.

    Returns
    -------
    Report
        One row per file written: its name and size in bytes.

    Raises
    ------
    ArgumentError
        If `output` is the checkpoint itself, or the model's inputs cannot be determined.
    CheckFailed
        If ONNX Runtime is installed and its outputs differ from torch's; nothing is written then.
    NotSupportedError
        If a package is missing, or torch's exporter cannot convert the model.
    """
    progress, folder = progress or SilentProgress(), Path(output)
    progress.stage(f"export to {to}")
    if to == "dense":
        export_dense(path, folder)
    else:
        _export_onnx(path, folder, model, inputs, shape)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    rows = tuple({"file": str(file.relative_to(folder)), "bytes": file.stat().st_size} for file in files)
    return Report("export", rows, {"to": to, "folder": str(folder)})


def _export_onnx(path: str, folder: Path, model: str | None, inputs: str | None, shape: Sequence[int] | None) -> None:
    if folder.resolve() == Path(path).resolve():
        raise ArgumentError(f"output {folder} is the checkpoint itself; choose another folder")
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
            file.replace(folder / file.name)  # external weights, if any, go before the model that refers to them
    for name, place in other_files(path).items():
        if name not in ("README.md", "modules.json"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_whole(folder / name, Path(place).read_bytes())
    flush(folder)


def _check(file: Path, dense: Engine, example: Mapping[str, Tensor]) -> None:
    """Compare the ONNX model with torch, if ONNX Runtime is installed."""
    if importlib.util.find_spec("onnxruntime") is None:
        return
    arrays = {name: tensor.numpy() for name, tensor in example.items()}
    ours, theirs = onnx_engine(file, 1)(arrays), dense(arrays)
    difference, scale = float(np.abs(ours - theirs).max()), float(np.abs(theirs).max())
    if not difference <= _TOLERANCE * scale:
        raise CheckFailed(
            f"the outputs of ONNX Runtime and torch differ by up to {difference:.3g}, where the largest output is {scale:.3g}; nothing was "
            "written. Please report this model to the Tilewright project"
        )
