"""`export_dense`: write a packed model as an ordinary checkpoint for programs that do not know this package."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ...errors import ArgumentError
from ...formats import export_dense as write_dense
from ...formats import read_checkpoint
from .saving import contents_of, files_around

__all__ = ["export_dense"]


def export_dense(
    model_or_checkpoint: nn.Module | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    files: Mapping[str, bytes | os.PathLike[str]] | None = None,
    max_shard_bytes: int = 5_000_000_000,
) -> None:
    """Write a model as dense tensors with zeros, under their original names, atomically.

    The result can be opened without this package: by ``from_pretrained`` of transformers, ``SentenceTransformer(folder)``
    or, for a plain module, ``safetensors.torch.load_model``. Its outputs are those of the packed model, and its size is
    that of the model before pruning.

    Parameters
    ----------
    model_or_checkpoint
        A model pruned by `sparsify_` or loaded by `load` or `load_`, or the directory of a checkpoint written by `save`, whose
        tokenizer and other files are copied.
    folder
        Destination; created if missing, replaced if it is a checkpoint. It must not be the checkpoint being exported.
    files
        Further files to write, as contents or paths by relative name, such as the tokenizer of a plain ``transformers``
        model in memory. A SentenceTransformer brings its own. Default: none.
    max_shard_bytes
        Maximum payload of a file in bytes; larger models are split into several files.

    Raises
    ------
    ArgumentError
        If `folder` is the checkpoint itself.
    FormatError
        If the checkpoint is damaged, or the files cannot be written.

    Examples
    --------
    >>> import tempfile, tilewright, torch
    >>> from safetensors.torch import load_file
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8))
    >>> report = tilewright.sparsify_(model, "2:4")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_dense(model, folder)
    ...     tensors = load_file(f"{folder}/model.safetensors")
    >>> sorted(tensors), int((tensors["0.weight"] == 0).sum())
    (['0.bias', '0.weight'], 32)
    """
    extra: dict[str, bytes | os.PathLike[str]]
    if isinstance(model_or_checkpoint, nn.Module):
        inner, config, around = files_around(model_or_checkpoint)
        weights, dense = contents_of(inner)
        extra = dict(around)
    else:
        source = Path(model_or_checkpoint)
        if source.resolve() == Path(folder).resolve():
            raise ArgumentError(f"{folder} is the checkpoint itself; export it to another folder")
        checkpoint = read_checkpoint(source)
        weights, dense, config = dict(checkpoint.weights), dict(checkpoint.dense), dict(checkpoint.config)
        extra = dict(_others(source))
    write_dense(folder, weights, dense, config, extra_files={**extra, **(files or {})}, max_shard_bytes=max_shard_bytes)


def _others(source: Path) -> dict[str, Any]:
    """Return the files of a checkpoint that neither contain weights nor describe how they are packed."""
    files = (path for path in sorted(source.rglob("*")) if path.is_file())
    names = {str(path.relative_to(source)): path for path in files}
    return {name: path for name, path in names.items() if not _own(name)}


def _own(name: str) -> bool:
    return name in ("config.json", "README.md") or (
        "/" not in name and name.endswith((".safetensors", ".safetensors.index.json"))
    )
