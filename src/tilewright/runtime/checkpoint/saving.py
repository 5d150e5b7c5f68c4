"""`save`: write a pruned model as a checkpoint without its zeros."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...errors import ArgumentError, FormatError, PatternError
from ...formats import RawTensor, StoredWeight, ValueType, pack, storage_dtype, write_checkpoint
from ...patterns import Layout, Pattern, as_matrix, parse
from ...pruning import bare, is_quantized, masks_of, patterns_of, prunable
from ..install import note_of, sparse_layers
from ..tensors import raw_of, value_array
from .card import is_own_card, model_card

__all__ = ["contents_of", "files_around", "save"]


def save(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    dtype: ValueType | None = None,
    recipe: Mapping[str, Any] | None = None,
    recipe_hash: str | None = None,
    max_shard_bytes: int = 5_000_000_000,
    files: Mapping[str, bytes | os.PathLike[str]] | None = None,
) -> None:
    """Write a pruned model as a Hugging Face directory with packed weights, atomically.

    Parameters
    ----------
    model
        A model pruned by `sparsify_` or loaded by `load`: a ``transformers`` model, a ``SentenceTransformer`` (whose other
        files are written too), or any module (which `load_` reads back). It may be wrapped by `torch.compile`, data
        parallelism or weight averaging. Save the tokenizer of a plain ``transformers`` model with its own
        ``save_pretrained``, into the same folder.
    path
        Directory; created if missing, replaced if it is a checkpoint. Weights that this package did not write, and a
        README.md of your own, are never replaced.
    dtype
        Type of the packed values on disk: ``float32``, ``float16`` or ``bfloat16``. Default: the type of the weights.
    recipe, recipe_hash
        The recipe that produced the model and its hash, stored with the patterns. Default: not stored.
    max_shard_bytes
        Maximum payload of a file in bytes; larger models are split into several files.
    files
        Further files to write in the same step, as contents or paths by relative name, such as the tokenizer's. Default: none.

    Raises
    ------
    ArgumentError
        If nothing in the model was pruned, or it could not be loaded again because an adapter is not merged or a weight is
        quantized or offloaded.
    FormatError
        If a weight no longer obeys its pattern, the directory holds weights of other software, another process is writing
        to it, or the files cannot be written; the previous contents are then unchanged.

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
    if dtype is not None:
        storage_dtype(dtype)  # raises for unknown names
    inner, others = _sentence_transformer(bare(model))
    _refuse_unsaveable(inner)
    weights, dense = contents_of(inner, dtype)
    if not weights:
        raise ArgumentError(
            f"no weight of this {type(inner).__name__} is pruned, so there is nothing to pack; prune it first with "
            "tilewright.sparsify_(model, '2:4')"
        )
    adapted = [name for name, module in inner.named_modules() if "lora_A" in module._parameters]
    if adapted:
        raise ArgumentError(
            f"{adapted[0] or type(inner).__name__} has an adapter next to its weight, and a model without one could not load the checkpoint; call "
            "tilewright.training.merge_lora_(model) first"
        )
    config, more = _config_files(inner)
    extra = {**others, **(files or {})}
    existing, card = _text(extra.pop("README.md", b"")), Path(path) / "README.md"
    if not card.is_file() or is_own_card(
        card.read_text(encoding="utf-8", errors="replace")
    ):  # never replace the user's own
        more["README.md"] = model_card(weights, _opener(inner), existing).encode()
    write_checkpoint(
        path,
        weights,
        dense,
        config,
        recipe=recipe,
        recipe_hash=recipe_hash,
        extra_files={**more, **extra},
        max_shard_bytes=max_shard_bytes,
    )


def _text(content: bytes | os.PathLike[str]) -> str:
    return content.decode() if isinstance(content, bytes) else Path(content).read_text("utf-8")


def _refuse_unsaveable(model: nn.Module) -> None:
    """Reject models whose checkpoint could not be loaded."""
    if isinstance(model, torch.jit.ScriptModule):
        raise ArgumentError("a TorchScript program has no class to load it into; save the model it was made from")
    for name, module in model.named_modules():
        if type(module).__name__ == "FullyShardedDataParallel":
            raise ArgumentError(
                f"{name or 'the model'} is wrapped in FullyShardedDataParallel, which flattens parameters; save the model inside, with its full state "
                "loaded"
            )
        if hasattr(module, "base_layer") and hasattr(module, "merged_adapters"):
            raise ArgumentError(
                f"{name} is a peft adapter around a layer, and a model without it could not load the checkpoint; call "
                "model.merge_and_unload() first"
            )
    for name, tensor in model.state_dict(keep_vars=True).items():
        if is_quantized(tensor):
            raise ArgumentError(
                f"{name} is quantized ({type(tensor).__name__}), but packed weights must be float32, float16 or bfloat16; save the model before "
                "quantizing it"
            )
        if tensor.is_meta:
            raise ArgumentError(
                f"{name} is on the meta device and has no values, like weights offloaded to disk; load the model without offloading and "
                "save that"
            )


def contents_of(
    model: nn.Module, dtype: ValueType | None = None
) -> tuple[dict[str, StoredWeight], dict[str, RawTensor]]:
    """Return the packed weights and all other tensors of a model by name; tied tensors are included once."""
    weights = dict(_packed(model, dtype))
    state = model.state_dict(keep_vars=True)  # the tensors themselves: tied ones are one object
    skipped = {id(mask) for mask in masks_of(model).values()}
    skipped |= {id(state[name]) for name in weights if name in state}
    for layer in sparse_layers(model).values():
        skipped |= {id(buffer) for buffer in layer.buffers()}
    dense: dict[str, RawTensor] = {}
    for name, tensor in state.items():
        if id(tensor) not in skipped:
            skipped.add(id(tensor))
            dense[name] = raw_of(tensor)
    return weights, dense


def _packed(model: nn.Module, dtype: ValueType | None) -> Iterator[tuple[str, StoredWeight]]:
    masks, patterns = masks_of(model), patterns_of(model)
    for weight in prunable(model):
        note = note_of(weight.module, weight.parameter_name)
        if weight.name in masks:
            mask, rule = masks[weight.name], patterns[weight.name]
            yield weight.name, _pack(weight.name, weight.tensor, weight.layout, rule, mask, dtype)
        elif note is not None:  # was loaded packed but runs dense
            rule, kind = parse(note.pattern), dtype or note.dtype
            yield weight.name, _pack(weight.name, weight.tensor, weight.layout, rule, None, kind)
    for name, layer in sparse_layers(model).items():
        packed = layer.packed()
        full = f"{name}.weight" if name else "weight"
        if dtype is not None and dtype != packed.dtype:
            wide = torch.from_numpy(packed.unpack())
            wide = wide.view(torch.int16).view(torch.bfloat16) if packed.dtype == "bfloat16" else wide
            array, stored = value_array(_narrowed(full, wide, dtype))
            packed = pack(array, packed.pattern, packed.mask(), dtype=stored)
        shape = packed.shape if layer.layout == "linear" else packed.shape[::-1]
        yield full, StoredWeight(packed, layer.layout, shape)


def _pack(
    name: str,
    tensor: torch.Tensor,
    layout: Layout,
    pattern: Pattern,
    mask: torch.Tensor | None,
    dtype: ValueType | None,
) -> StoredWeight:
    array, kind = value_array(tensor if dtype is None else _narrowed(name, tensor, dtype))
    kept = None if mask is None else as_matrix(mask.cpu().numpy(), layout)
    try:
        packed = pack(as_matrix(array, layout), pattern, kept, dtype=kind)
    except (FormatError, PatternError) as error:
        raise FormatError(f"{name} cannot be packed: {error}") from None
    return StoredWeight(packed, layout, tuple(tensor.shape))


def _narrowed(name: str, tensor: torch.Tensor, dtype: ValueType) -> torch.Tensor:
    """Return a weight in another type; raise if a finite value would overflow."""
    value = tensor.detach().to(getattr(torch, dtype))
    if bool((torch.isfinite(tensor) & ~torch.isfinite(value)).any()):
        raise FormatError(f"{name} has values beyond the range of {dtype}; store it as bfloat16 or float32")
    return value


def files_around(model: nn.Module) -> tuple[nn.Module, dict[str, Any], dict[str, bytes]]:
    """Return the model whose weights are stored, its configuration, and its other files."""
    inner, others = _sentence_transformer(bare(model))
    _refuse_unsaveable(inner)
    config, more = _config_files(inner)
    return inner, config, {**more, **{name: body for name, body in others.items() if name != "README.md"}}


def _sentence_transformer(model: nn.Module) -> tuple[nn.Module, dict[str, bytes]]:
    """Return the transformer inside a SentenceTransformer, and its other files; return any other model unchanged."""
    if type(model).__name__ != "SentenceTransformer":
        return model, {}
    first: Any = model[0]  # type: ignore[index]
    inner: nn.Module = first.auto_model
    inside = {id(module) for module in inner.modules()}
    outside = [w.name for w in prunable(model) if id(w.module) not in inside and w.name in masks_of(model)]
    if outside:
        raise ArgumentError(
            f"{outside[0]} is pruned but not part of the transformer, which alone is stored packed; prune model[0].auto_model"
        )
    with tempfile.TemporaryDirectory() as folder, _silenced(inner):
        model.save(folder)  # type: ignore[operator]
        root = Path(folder)
        files = {
            str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob("*"))
            if path.is_file()
            and not (path.parent == root and (path.name == "config.json" or path.suffix == ".safetensors"))
        }
    return inner, files


@contextmanager
def _silenced(model: nn.Module) -> Iterator[None]:
    """Keep a transformer from writing its weights while its SentenceTransformer writes the other files."""
    before = model.__dict__.get("save_pretrained")
    model.__dict__["save_pretrained"] = lambda *_, **__: None
    try:
        yield
    finally:
        if before is None:
            del model.__dict__["save_pretrained"]
        else:
            model.__dict__["save_pretrained"] = before


def _opener(model: nn.Module) -> str:
    """Return the line of Python that opens the checkpoint of a model."""
    if hasattr(getattr(model, "config", None), "to_json_string"):
        return 'model = tilewright.load("FOLDER")'
    return f'model = tilewright.load_({type(model).__name__}(...), "FOLDER")  # build the module as before saving'


def _config_files(model: nn.Module) -> tuple[dict[str, Any], dict[str, bytes]]:
    config = getattr(model, "config", None)
    if not hasattr(config, "to_json_string"):
        return {"architectures": [type(model).__qualname__]}, {}
    assert config is not None
    body: dict[str, Any] = json.loads(config.to_json_string())
    body["architectures"] = [type(model).__name__]
    body["dtype"] = str(model.dtype).removeprefix("torch.")
    generation = getattr(model, "generation_config", None)
    files = {"generation_config.json": generation.to_json_string().encode()} if generation is not None else {}
    return body, files
