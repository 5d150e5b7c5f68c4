"""The 2:4 layout ``sparse-24-bitmask`` of compressed-tensors.

A module's weight ``[N, K]`` is stored as three tensors: ``compressed`` ``[N, K / 2]`` with the kept values of each row in
order, ``bitmask`` ``uint8[N, ceil(K / 8)]`` with bit i of a row set if input i is kept (least significant bit first), and
``shape`` ``int64[2, 1]``. Exactly two of every four elements are kept.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import FormatError
from ...patterns import NM
from ..bits import DAMAGED
from ..checkpoint import CONFIG, Checkpoint, read_tensors
from ..container import RawTensor, raw_tensor
from ..packed import Packed, ValueType, index_dtype
from ..sources import Directory
from ..text import parse_object, show
from ..weight import LARGEST_SIDE, StoredWeight
from ..writing import json_bytes, split, write_files

__all__ = ["export_sparse24", "import_sparse24"]

FORMAT = "sparse-24-bitmask"
METHOD = "compressed-tensors"
PATTERN = NM(2, 4)

_TYPES: dict[str, ValueType] = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}


def import_sparse24(directory: str | os.PathLike[str]) -> Checkpoint:
    """Return the contents of a ``sparse-24-bitmask`` checkpoint, with its weights as packed 2:4.

    Parameters
    ----------
    directory
        Folder with ``config.json`` and ``model.safetensors`` or shards.

    Returns
    -------
    Checkpoint
        Contents to pass to `write_checkpoint`; the other tool's ``quantization_config`` is removed from the config.

    Raises
    ------
    FormatError
        If the config names another layout, the model is quantized as well, or tensors do not match each other.
    """
    source = Directory(Path(directory))
    where = source.where(CONFIG)
    config = parse_object(source.text(CONFIG), where)
    _check_config(config.pop("quantization_config", None), where)
    tensors = read_tensors(source)
    weights: dict[str, StoredWeight] = {}
    for name in [name for name in tensors if name.endswith(".compressed")]:
        module = name.removesuffix(".compressed")
        weight = f"{module}.weight"
        if weight in tensors:
            raise FormatError(f"{where}: the weight of {show(module)} is stored both compressed and dense; {DAMAGED}")
        parts = [tensors.pop(f"{module}.{part}", None) for part in ("compressed", "bitmask", "shape")]
        weights[weight] = StoredWeight(_packed(parts, f"{directory}: module {show(module)}"))
    lonely = next((name for name in tensors if name.endswith(".bitmask")), None)
    if lonely is not None:
        raise FormatError(f"{where}: tensor {show(lonely)} has no matching .compressed tensor; {DAMAGED}")
    return Checkpoint(weights=weights, dense=tensors, config=config)


def export_sparse24(
    directory: str | os.PathLike[str],
    weights: Mapping[str, StoredWeight],
    dense: Mapping[str, object],
    config: Mapping[str, Any],
    *,
    extra_files: Mapping[str, bytes | os.PathLike[str]] | None = None,
    max_shard_bytes: int = 5_000_000_000,
) -> None:
    """Write a ``sparse-24-bitmask`` checkpoint; parameters and atomicity are those of `write_checkpoint`.

    No current program reads this layout: compressed-tensors dropped it after 0.13, and transformers opens such a folder
    with newly initialised weights. `tilewright.export_dense` writes checkpoints that any program can read.

    Raises
    ------
    FormatError
        If a weight is not 2:4 along K, K is not a multiple of 4, a weight is not a plain ``...weight`` matrix, or names
        collide.
    """
    tensors: dict[str, RawTensor] = {}
    for name, weight in weights.items():
        module = _module(name, weight)
        tensors |= {f"{module}.{part}": tensor for part, tensor in _parts(weight.packed).items()}
    for name, value in dense.items():
        if name in tensors or name in weights:
            raise FormatError(
                f"a dense tensor is named {show(name)}, which a compressed weight uses; rename or drop it"
            )
        tensors[name] = raw_tensor(value, name)
    kept = sum(weight.packed.kept for weight in weights.values())
    size = sum(weight.packed.shape[0] * weight.packed.shape[1] for weight in weights.values())
    sparsity = {
        "format": FORMAT,
        "targets": [name.removesuffix(".weight") for name in weights],
        "ignore": [],
        "global_sparsity": 1 - kept / size if size else 0.0,
        "sparsity_structure": "2:4",
    }
    block = {"quant_method": METHOD, "sparsity_config": sparsity}
    text = json_bytes({**config, "quantization_config": block}, CONFIG)
    write_files(directory, split(tensors, max_shard_bytes), text, extra_files or {})


def _check_config(block: object, where: str) -> None:
    sparsity = block.get("sparsity_config") if isinstance(block, dict) else None
    found = sparsity.get("format") if isinstance(sparsity, dict) else None
    if not isinstance(block, dict) or block.get("quant_method") != METHOD or found != FORMAT:
        raise FormatError(
            f"{where}: quantization_config must name the method {METHOD} and its sparsity_config the format {FORMAT}, got "
            f"{show(block)}; only that layout can be imported"
        )
    if block.get("config_groups"):
        raise FormatError(
            f"{where}: the model is quantized as well as sparse; only unquantized 2:4 weights can be imported"
        )


def _packed(parts: list[RawTensor | None], where: str) -> Packed:
    compressed, bitmask, shape = parts
    if compressed is None or bitmask is None or shape is None:
        raise FormatError(f"{where}: compressed, bitmask and shape belong together, but one is missing; {DAMAGED}")
    if compressed.dtype not in _TYPES:
        raise FormatError(f"{where}: values are {compressed.dtype}, but only {', '.join(_TYPES)} can be imported")
    if shape.dtype != "I64" or shape.shape not in ((2,), (2, 1)):
        raise FormatError(
            f"{where}: shape must be I64 of [2, 1], got {shape.dtype} of {show(list(shape.shape))}; {DAMAGED}"
        )
    outputs, inputs = (int(side) for side in shape.array().ravel())
    if not 1 <= outputs <= LARGEST_SIDE or not 1 <= inputs <= LARGEST_SIDE or inputs % 4:
        raise FormatError(
            f"{where}: the weight is {outputs} x {inputs}; sides must be at least 1 and inputs a multiple of 4"
        )
    for part, tensor, expected in (
        ("compressed", compressed, (outputs, inputs // 2)),
        ("bitmask", bitmask, (outputs, -(-inputs // 8))),
    ):
        if tensor.shape != expected or (part == "bitmask" and tensor.dtype != "U8"):
            raise FormatError(
                f"{where}: {part} is {tensor.dtype} of {show(list(tensor.shape))}, but for {outputs} x {inputs} it must be "
                f"{'U8' if part == 'bitmask' else tensor.dtype} of {list(expected)}; {DAMAGED}"
            )
    return Packed(
        pattern=PATTERN,
        shape=(outputs, inputs),
        dtype=_TYPES[compressed.dtype],
        tile=1,
        values=compressed.array().reshape(-1),
        columns=_columns(bitmask.array(), inputs, where),
        pointers=np.arange(outputs + 1, dtype=np.int64) * (inputs // 2),
    )


def _columns(bitmask: NDArray[Any], inputs: int, where: str) -> NDArray[Any]:
    bits = np.unpackbits(bitmask, axis=1, bitorder="little")
    kept = bits[:, :inputs].reshape(len(bits), -1, 4).sum(axis=2)
    if (kept != 2).any() or bits[:, inputs:].any():
        wrong = np.argwhere(kept != 2)
        place = (
            f"output {wrong[0][0]}, group {wrong[0][1]} keeps {kept[tuple(wrong[0])]} of 4"
            if len(wrong)
            else "a bit after the last input is set"
        )
        raise FormatError(f"{where}: bitmask is not 2:4: {place}; {DAMAGED}")
    return np.nonzero(bits[:, :inputs])[1].astype(index_dtype(inputs))


def _module(name: str, weight: StoredWeight) -> str:
    packed = weight.packed
    if not name.endswith(".weight") or weight.layout != "linear":
        raise FormatError(
            f"{show(name)} ({weight.layout}) cannot be exported: {FORMAT} holds linear weights named ....weight"
        )
    pattern = packed.pattern
    if not isinstance(pattern, NM) or (pattern.n, pattern.m) != (2, 4) or packed.shape[1] % 4:
        raise FormatError(
            f"{show(name)} is {pattern} of {list(packed.shape)} and cannot be exported: {FORMAT} holds 2:4 with inputs a multiple "
            "of 4; use export_dense for the rest"
        )
    return name.removesuffix(".weight")


def _parts(packed: Packed) -> dict[str, RawTensor]:
    outputs, inputs = packed.shape
    mask = packed.mask()
    values = np.ascontiguousarray(packed.unpack()[mask])
    bits = np.packbits(mask, axis=1, bitorder="little")
    sides = np.array([[outputs], [inputs]], dtype="<i8")
    return {
        "compressed": RawTensor(_NAMES[packed.dtype], (outputs, inputs // 2), values.view(np.uint8)),
        "bitmask": RawTensor("U8", bits.shape, bits.reshape(-1)),
        "shape": RawTensor("I64", (2, 1), sides.reshape(-1).view(np.uint8)),
    }
