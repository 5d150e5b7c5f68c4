"""Reading a checkpoint directory: everything is validated before use, and nothing is executed."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import FormatError, PatternError
from ..patterns import Pattern, parse
from .atomic import complete
from .bits import DAMAGED
from .configuration import check_config
from .container import RawTensor, parse_container
from .sources import Directory, Memory, Source
from .text import parse_object, show
from .weight import SUFFIXES, StoredWeight, decode_weight, guard_of

__all__ = ["Checkpoint", "is_checkpoint", "read_checkpoint", "read_checkpoint_bytes", "read_tensors"]

CONFIG = "config.json"
SINGLE = "model.safetensors"
SHARD_INDEX = "model.safetensors.index.json"
BLOCK = "quantization_config"
METHOD = "tilewright"
VERSION = 2
"""Format version written. Version 1, which has no guard tensors, can still be read."""

_SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.safetensors")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Contents of a checkpoint.

    Parameters
    ----------
    weights
        Packed weights by parameter name, such as ``encoder.layer.0.attention.self.query.weight``.
    dense
        All other tensors by name, as bytes. Those of a directory are memory-mapped and read on access.
    config
        ``config.json`` without its ``quantization_config``.
    recipe
        The resolved recipe that produced the checkpoint, if stored.
    recipe_hash
        Hash of the recipe, if stored.
    source
        The files it was read from; None for an imported checkpoint.
    """

    weights: Mapping[str, StoredWeight]
    dense: Mapping[str, RawTensor]
    config: Mapping[str, Any]
    recipe: Mapping[str, Any] | None = field(default=None)
    recipe_hash: str | None = None
    source: Source | None = field(default=None, repr=False)

    def check_unchanged(self) -> None:
        """Raise `FormatError` if a mapped file was modified in place, so that the tensors are no longer those that were checked."""
        if self.source is not None:
            self.source.check_unchanged(replaced=False)


def is_checkpoint(directory: str | os.PathLike[str]) -> bool:
    """Return True if the directory's ``config.json`` says it was written by this package; no other file is read.

    Raises
    ------
    FormatError
        If ``config.json`` exists but is not valid JSON.
    """
    path = Path(directory)
    complete(path, last=CONFIG)
    if not (path / CONFIG).is_file():
        return False
    source = Directory(path)
    block = parse_object(source.text(CONFIG), source.where(CONFIG)).get(BLOCK)
    return isinstance(block, dict) and block.get("quant_method") == METHOD


def read_checkpoint(directory: str | os.PathLike[str], *, mmap: bool = True) -> Checkpoint:
    """Return the contents of a checkpoint directory.

    Packed weights are decoded and validated immediately; dense tensors are views of the mapped file.

    Parameters
    ----------
    directory
        A directory written by `write_checkpoint`.
    mmap
        Whether to memory-map the files instead of reading them into memory. Mapped files must not be overwritten in place
        while the checkpoint is in use: its tensors would change, or accessing them would end the process (SIGBUS).
        Replacing the files by rename, as `write_checkpoint` does, is safe. Default: True.

    Raises
    ------
    FormatError
        If the files violate the format or change while they are read. The message names the file and the tensor. Whatever
        the files claim, not much more memory is allocated than they take themselves.

    Examples
    --------
    >>> read_checkpoint("no/such/folder")
    Traceback (most recent call last):
    tilewright.errors.FormatError: no/such/folder does not exist; a checkpoint is a directory with config.json and ...
    """
    complete(Path(directory), last=CONFIG)
    return _read(Directory(Path(directory), mmap))


def read_checkpoint_bytes(files: Mapping[str, bytes]) -> Checkpoint:
    """Return the contents of a checkpoint given as a mapping from file names to bytes; as strict as `read_checkpoint`."""
    return _read(Memory(files))


def _read(source: Source) -> Checkpoint:
    try:
        checkpoint = _decoded(source)
    except FormatError:
        source.check_unchanged()  # files replaced meanwhile are not damaged, and the advice differs
        raise
    source.check_unchanged()
    return checkpoint


def _decoded(source: Source) -> Checkpoint:
    where = source.where(CONFIG)
    config = parse_object(source.text(CONFIG), where)
    block = config.pop(BLOCK, None)
    modules = _modules(block, where)
    assert isinstance(block, dict)
    tensors = read_tensors(source)
    check_config(config, len(tensors), where)
    spelling = _spelling(block.get("spelling", {}), where)
    weights = {name: decode_weight(name, entry, tensors, where, spelling) for name, entry in modules.items()}
    consumed = {f"{name}.{suffix}" for name in weights for suffix in SUFFIXES}
    for name, weight in weights.items():
        _check_guard(name, weight, tensors.get(name), block["format_version"], where)
    return Checkpoint(
        source=source,
        weights=weights,
        dense={name: tensor for name, tensor in tensors.items() if name not in consumed and name not in weights},
        config=config,
        recipe=block.get("recipe"),
        recipe_hash=block.get("recipe_hash"),
    )


def _spelling(block: object, where: str) -> dict[str, Pattern]:
    """Return patterns as their author wrote them, by their canonical text."""
    pairs = block.items() if isinstance(block, dict) else [("", "")]
    spelling: dict[str, Pattern] = {}
    for text, written in pairs:
        try:
            pattern = parse(written)
        except PatternError:
            pattern = None
        if pattern is None or (pattern.canonical, str(pattern)) != (text, written):
            raise FormatError(
                f"{where}: spelling must map texts of patterns to other texts of the same patterns, got {show(block)}; {DAMAGED}"
            )
        spelling[text] = pattern
    return spelling


def _check_guard(name: str, weight: StoredWeight, tensor: RawTensor | None, version: int, where: str) -> None:
    if tensor is None and version == 1:
        return
    if tensor is not None and version == 1:
        raise FormatError(
            f"{where}: the parameter {show(name)} is stored both packed and dense, but may be stored only once; {DAMAGED}"
        )
    guard = guard_of(weight)
    if tensor is None or (tensor.dtype, tensor.shape) != (guard.dtype, guard.shape):
        what = "is missing" if tensor is None else f"is {tensor.dtype} of shape {show(list(tensor.shape))}"
        raise FormatError(
            f"{where}: the packed parameter {show(name)} needs an empty {guard.dtype} tensor of the same name and shape [0], but it "
            f"{what}; {DAMAGED}"
        )


def _modules(block: object, where: str) -> dict[str, Any]:
    """Return the entries of all packed parameters by full name."""
    if not isinstance(block, dict) or block.get("quant_method") != METHOD:
        raise FormatError(
            f"{where}: {BLOCK} must be an object whose quant_method is {METHOD!r}, got {show(block)}; this is not a tilewright "
            "checkpoint: prune and save the model first"
        )
    version = block.get("format_version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise FormatError(
            f"{where}: format_version is {show(version)}, but this release reads versions 1 to {VERSION}; update the package or "
            "write the checkpoint again"
        )
    recipe, stamp, modules = block.get("recipe"), block.get("recipe_hash"), block.get("modules")
    if not isinstance(recipe, dict | None) or not isinstance(stamp, str | None):
        raise FormatError(f"{where}: recipe must be an object and recipe_hash a string, if present; {DAMAGED}")
    if not isinstance(modules, dict) or not all(isinstance(parameters, dict) for parameters in modules.values()):
        raise FormatError(f"{where}: modules must map module names to parameters, got {show(modules)}; {DAMAGED}")
    found: dict[str, Any] = {}
    for module, parameters in modules.items():
        for parameter, entry in parameters.items():
            if not parameter or "." in parameter:
                raise FormatError(
                    f"{where}: module {show(module)} has a parameter named {show(parameter)}; the name must be non-empty and without dots; {DAMAGED}"
                )
            found[f"{module}.{parameter}" if module else parameter] = entry
    return found


def read_tensors(source: Source) -> dict[str, RawTensor]:
    """Return all tensors of the checkpoint, from one file or from the shards its index lists."""
    if not source.has(SHARD_INDEX):
        return parse_container(source.data(SINGLE), source.where(SINGLE))
    where = source.where(SHARD_INDEX)
    if source.has(SINGLE):
        raise FormatError(
            f"{where}: the folder has both {SINGLE} and an index of shards; remove the one that is not wanted"
        )
    weight_map = parse_object(source.text(SHARD_INDEX), where).get("weight_map")
    if not isinstance(weight_map, dict):
        raise FormatError(f"{where}: weight_map must map tensor names to files, got {show(weight_map)}; {DAMAGED}")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not _SHARD.fullmatch(shard):
            raise FormatError(
                f"{where}: tensor {show(name)} is listed in {show(shard)}; a shard must be a plain file name ending in .safetensors, "
                f"next to the index; {DAMAGED}"
            )
    found: dict[str, RawTensor] = {}
    for shard in sorted(set(weight_map.values())):
        tensors = parse_container(source.data(shard), source.where(shard))
        for name in tensors:
            if weight_map.get(name) != shard:
                raise FormatError(
                    f"{source.where(shard)}: tensor {show(name)} is in this file, but the index places it in "
                    f"{show(weight_map.get(name))}; {DAMAGED}"
                )
        found |= tensors
    missing = weight_map.keys() - found.keys()
    if missing:
        first = min(missing)
        raise FormatError(
            f"{where}: tensor {show(first)} is not in {weight_map[first]}, where the index places it; {DAMAGED}"
        )
    return found
