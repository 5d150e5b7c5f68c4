"""Dense checkpoints with zeros: readable by any tool, and as large as before pruning."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...errors import FormatError
from ...patterns import from_matrix
from ..container import RawTensor, raw_tensor
from ..text import show
from ..weight import StoredWeight
from ..writing import json_bytes, split, write_files

__all__ = ["export_dense"]

_TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def export_dense(
    directory: str | os.PathLike[str],
    weights: Mapping[str, StoredWeight],
    dense: Mapping[str, object],
    config: Mapping[str, Any],
    *,
    extra_files: Mapping[str, bytes | os.PathLike[str]] | None = None,
    max_shard_bytes: int = 5_000_000_000,
) -> None:
    """Write an ordinary checkpoint in which packed weights are dense tensors with zeros where they were pruned.

    The parameters are those of `write_checkpoint`, and so is the way an existing checkpoint is replaced atomically.

    Raises
    ------
    FormatError
        If a name is used twice, or the files cannot be written.
    """
    tensors: dict[str, RawTensor] = {}
    for name, weight in weights.items():
        plain = np.ascontiguousarray(from_matrix(weight.packed.unpack(), weight.layout, weight.original_shape))
        tensors[name] = RawTensor(_TYPES[weight.packed.dtype], plain.shape, plain.reshape(-1).view(np.uint8))
    for name, value in dense.items():
        if name in tensors:
            raise FormatError(f"{show(name)} is both a packed and a dense tensor; drop one of them")
        tensors[name] = raw_tensor(value, name)
    plain_config = {key: value for key, value in config.items() if key != "quantization_config"}
    text = json_bytes(plain_config, "config.json")
    write_files(directory, split(tensors, max_shard_bytes), text, extra_files or {})
