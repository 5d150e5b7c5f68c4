"""`save`: a pruned model as a checkpoint that holds no zeros."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import ArgumentError, FormatError
from ..formats import RawTensor, StoredWeight, ValueType, pack, write_checkpoint
from ..patterns import Layout, as_matrix
from ..pruning import masks_of, patterns_of, prunable
from .install import sparse_layers
from .tensors import raw_of, value_array

__all__ = ["contents_of", "save"]


def save(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    dtype: ValueType | None = None,
    recipe: Mapping[str, Any] | None = None,
    recipe_hash: str | None = None,
    max_shard_bytes: int = 5_000_000_000,
) -> None:
    """Write a pruned model as a Hugging Face directory with packed weights; as one step, or not at all.

    Parameters
    ----------
    model
        A model pruned by `sparsify_` or loaded by `load`: a ``transformers`` model, a ``SentenceTransformer`` (its other files
        are written too), or any module (which `load_` reads back). Tokenizers of plain ``transformers`` models are saved by their
        own ``save_pretrained``, into the same folder.
    path
        Directory; made if missing, replaced if it is a checkpoint.
    dtype
        Type of the packed values on disk: ``float32``, ``float16`` or ``bfloat16``. As the weights are, unless told.
    recipe, recipe_hash
        Stored with the patterns.
    max_shard_bytes
        Split the tensors over several files beyond this.

    Raises
    ------
    ArgumentError
        If nothing in the model was pruned.
    FormatError
        If a weight no longer obeys its pattern, or the files cannot be written; what stood there before is unchanged.

    Examples
    --------
    >>> import tempfile, tilewright
    >>> model = torch.nn.Sequential(torch.nn.Linear(64, 64))
    >>> report = tilewright.sparsify_(model, "2:4")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tilewright.save(model, folder)
    ...     fresh = tilewright.load_(torch.nn.Sequential(torch.nn.Linear(64, 64)), folder)
    >>> x = torch.randn(2, 64)
    >>> torch.allclose(fresh(x), model(x), atol=1e-5)
    True
    """
    inner, files = _sentence_transformer(model)
    weights, dense = contents_of(inner, dtype)
    if not weights:
        raise ArgumentError(
            f"nothing in this {type(inner).__name__} is pruned, so there is nothing to pack; prune it first with "
            "tilewright.sparsify_(model, '2:4')"
        )
    config, more = _config_files(inner)
    write_checkpoint(
        path,
        weights,
        dense,
        config,
        recipe=recipe,
        recipe_hash=recipe_hash,
        extra_files={**more, **files},
        max_shard_bytes=max_shard_bytes,
    )


def contents_of(
    model: nn.Module, dtype: ValueType | None = None
) -> tuple[dict[str, StoredWeight], dict[str, RawTensor]]:
    """Return the packed weights and all other tensors of a model, by name; tied tensors once."""
    weights = dict(_packed(model, dtype))
    masks = {f"{name}_mask" for name in masks_of(model)}
    inside = tuple(f"{name}." for name in sparse_layers(model))
    dense: dict[str, RawTensor] = {}
    seen: set[tuple[int, torch.Size, torch.dtype]] = set()
    for name, tensor in model.state_dict().items():
        if name in weights or name in masks or (name.startswith(inside) and not name.endswith(".bias")):
            continue
        place = (tensor.data_ptr(), tensor.shape, tensor.dtype)
        if tensor.numel() and place in seen:
            continue
        seen.add(place)
        dense[name] = raw_of(tensor)
    return weights, dense


def _packed(model: nn.Module, dtype: ValueType | None) -> Iterator[tuple[str, StoredWeight]]:
    masks, patterns = masks_of(model), patterns_of(model)
    for weight in prunable(model):
        if weight.name in masks:
            yield (
                weight.name,
                _pack(weight.name, weight.tensor, weight.layout, patterns[weight.name], masks[weight.name], dtype),
            )
    for name, layer in sparse_layers(model).items():
        packed = layer.packed()
        if dtype is not None and dtype != packed.dtype:
            wide = torch.from_numpy(packed.unpack())
            wide = wide.view(torch.int16).view(torch.bfloat16) if packed.dtype == "bfloat16" else wide
            array, kind = value_array(wide.to(getattr(torch, dtype)))
            packed = pack(array, packed.pattern, packed.mask(), dtype=kind)
        shape = packed.shape if layer.layout == "linear" else packed.shape[::-1]
        yield f"{name}.weight", StoredWeight(packed, layer.layout, shape)


def _pack(
    name: str, tensor: torch.Tensor, layout: Layout, pattern: Any, mask: torch.Tensor, dtype: ValueType | None
) -> StoredWeight:
    value = tensor.detach() if dtype is None else tensor.detach().to(getattr(torch, dtype))
    array, kind = value_array(value)
    try:
        packed = pack(as_matrix(array, layout), pattern, as_matrix(mask.cpu().numpy(), layout), dtype=kind)
    except FormatError as error:
        raise FormatError(f"{name} cannot be packed: {error}") from None
    return StoredWeight(packed, layout, tuple(tensor.shape))


def _sentence_transformer(model: nn.Module) -> tuple[nn.Module, dict[str, bytes]]:
    """Return the transformer inside a SentenceTransformer and its other files; any other model as it is."""
    if type(model).__name__ != "SentenceTransformer":
        return model, {}
    first: Any = model[0]  # type: ignore[index]
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder)  # type: ignore[operator]
        files = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(Path(folder).rglob("*"))
            if path.is_file() and path.name != "config.json" and path.suffix != ".safetensors"
        }
        for path in Path(folder).rglob("config.json"):
            if path.parent != Path(folder):
                files[str(path.relative_to(folder))] = path.read_bytes()
    inner: nn.Module = first.auto_model
    return inner, files


def _config_files(model: nn.Module) -> tuple[dict[str, Any], dict[str, bytes]]:
    config = getattr(model, "config", None)
    if not hasattr(config, "to_json_string"):
        return {"architectures": [type(model).__qualname__]}, {}
    assert config is not None
    body: dict[str, Any] = json.loads(config.to_json_string())
    body["architectures"] = [type(model).__name__]
    generation = getattr(model, "generation_config", None)
    files = {"generation_config.json": generation.to_json_string().encode()} if generation is not None else {}
    return body, files
