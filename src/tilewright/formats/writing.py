"""Writing a checkpoint directory atomically."""

import errno
import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import FormatError
from .atomic import staged
from .checkpoint import BLOCK, CONFIG, METHOD, SHARD_INDEX, SINGLE, VERSION, is_checkpoint
from .container import WRITTEN_HERE, RawTensor, metadata_of, raw_tensor, serialize
from .sources import Directory
from .text import show
from .weight import SUFFIXES, StoredWeight, encode_weight, guard_of

__all__ = ["check_replaceable", "json_bytes", "split", "write_checkpoint", "write_files"]

_OURS = re.compile(r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?")
_FOREIGN = re.compile(r"(pytorch_model.*\.bin|tf_model.*\.h5|flax_model.*\.msgpack)(\.index\.json)?")
"""Weights in other formats. Writing a checkpoint would keep them but replace the config.json that describes them."""


def write_checkpoint(
    directory: str | os.PathLike[str],
    weights: Mapping[str, StoredWeight],
    dense: Mapping[str, object],
    config: Mapping[str, Any],
    *,
    recipe: Mapping[str, Any] | None = None,
    recipe_hash: str | None = None,
    extra_files: Mapping[str, bytes | os.PathLike[str]] | None = None,
    max_shard_bytes: int = 5_000_000_000,
) -> None:
    """Write a checkpoint atomically: on any failure the directory keeps its previous contents.

    Only one process at a time may write to a directory; a second one fails. A write that was interrupted by a kill is
    completed by the next `write_checkpoint` or `read_checkpoint`. File systems without locks (``flock``) offer neither;
    make sure there that only one process writes.

    Parameters
    ----------
    directory
        Destination; created if missing. Files that are not part of a checkpoint are kept, and weights that this package did not
        write are never replaced.
    weights
        Packed weights by parameter name.
    dense
        All other tensors by name, as arrays, `RawTensor` or (safetensors type, shape, bytes). Each name is written once;
        handling tied tensors is up to the caller.
    config
        The model's ``config.json``; a ``quantization_config`` in it is replaced.
    recipe, recipe_hash
        The recipe and its hash, stored unchanged. Default: not stored.
    extra_files
        Contents, or paths to copy from, by relative name; for tokenizer files or records. Default: none.
    max_shard_bytes
        Maximum payload of a file in bytes; larger checkpoints are split into several files. A single tensor is never split.

    Raises
    ------
    FormatError
        If names collide, a value cannot be written as JSON, a weight exceeds the limits of the format, the directory holds
        other weights or is being written to, or the files cannot be written.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from tilewright import NM
    >>> from tilewright.formats import StoredWeight, pack, read_checkpoint, write_checkpoint
    >>> weight = StoredWeight(pack(np.array([[0, 1, 2, 0]], dtype=np.float32), NM(2, 4)))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_checkpoint(folder, {"fc.weight": weight}, {"fc.bias": np.zeros(1)}, {"model_type": "mine"})
    ...     read_checkpoint(folder).weights["fc.weight"].packed.unpack()
    array([[0., 1., 2., 0.]], dtype=float32)
    """
    tensors, modules = _encode(weights, dense)
    patterns = [weight.packed.pattern for weight in weights.values()]
    spelling = {pattern.canonical: str(pattern) for pattern in patterns if str(pattern) != pattern.canonical}
    block: dict[str, Any] = {"quant_method": METHOD, "format_version": VERSION, "modules": modules}
    block |= {"spelling": spelling} if spelling else {}
    block |= {"recipe": recipe} if recipe is not None else {}
    block |= {"recipe_hash": recipe_hash} if recipe_hash is not None else {}
    text = json_bytes({**config, BLOCK: block}, CONFIG)
    write_files(directory, split(tensors, max_shard_bytes), text, extra_files or {})


def write_files(
    directory: str | os.PathLike[str],
    shards: list[dict[str, RawTensor]],
    config: bytes,
    extra: Mapping[str, bytes | os.PathLike[str]],
) -> None:
    """Write shards, config and extra files atomically; raises `FormatError` if a name is not allowed or writing fails."""
    path = Path(directory)
    for name in extra:
        _check_extra(name)
    try:
        with staged(
            path,
            last=CONFIG,
            obsolete=lambda name: _OURS.fullmatch(name) is not None,
            check=lambda: check_replaceable(path),
        ) as folder:
            for name, content in extra.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, bytes):
                    (folder / name).write_bytes(content)
                else:
                    shutil.copyfile(content, folder / name)
            _write_shards(folder, shards)
            (folder / CONFIG).write_bytes(config)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise FormatError(
            f"the checkpoint {path} cannot be written: {error.strerror or error}; its previous contents are unchanged. "
            f"{'Free some space or choose' if full else 'Choose'} another folder"
        ) from error


def check_replaceable(directory: str | os.PathLike[str]) -> None:
    """Reject a folder with weights that this package did not write: they may be the only copy of a model.

    Raises
    ------
    FormatError
        If there is such a file; the message names it.
    """
    path = Path(directory)
    if not path.is_dir():
        return
    with suppress(FormatError):  # a config.json that cannot be read says nothing about the weights
        if is_checkpoint(path):
            return
    for name in sorted(os.listdir(path)):
        foreign = (path / CONFIG).exists() and _FOREIGN.fullmatch(name)
        if foreign or (_OURS.fullmatch(name) and not name.endswith(".json") and not _written_here(path, name)):
            raise FormatError(
                f"{path} holds weights that tilewright did not write ({name}), which writing a checkpoint would replace; choose another "
                "folder"
            )


def _written_here(path: Path, name: str) -> bool:
    """Return True if a file of tensors was written by this package, according to its metadata."""
    try:
        return metadata_of(Directory(path).data(name), name) == WRITTEN_HERE
    except FormatError:
        return False


def _encode(
    weights: Mapping[str, StoredWeight], dense: Mapping[str, object]
) -> tuple[dict[str, RawTensor], dict[str, dict[str, Any]]]:
    tensors: dict[str, RawTensor] = {}
    modules: dict[str, dict[str, Any]] = {}
    for name, weight in weights.items():
        module, _, parameter = name.rpartition(".")
        if not parameter or module.endswith(".") or name.startswith("."):
            raise FormatError(
                f"{show(name)} is not a parameter name; expected a name like encoder.layer.0.query.weight"
            )
        entry, parts = encode_weight(name, weight)
        modules.setdefault(module, {})[parameter] = entry
        tensors |= {name: guard_of(weight), **parts}
    taken = {f"{name}.{suffix}" for name in weights for suffix in SUFFIXES} | set(weights)
    for name, value in dense.items():
        if name in taken or name == "__metadata__" or not isinstance(name, str):
            raise FormatError(
                f"a dense tensor is named {show(name)}, which the format uses for a packed weight or for itself; rename or drop it"
            )
        tensors[name] = raw_tensor(value, name)
    return tensors, modules


def split(tensors: Mapping[str, RawTensor], most: int) -> list[dict[str, RawTensor]]:
    """Split tensors, in order, into files of at most `most` bytes of payload."""
    if most < 1:
        raise FormatError(f"max_shard_bytes is {most}; it must be at least 1")
    shards: list[dict[str, RawTensor]] = [{}]
    room = most
    for name, tensor in tensors.items():
        if shards[-1] and len(tensor.data) > room:
            shards.append({})
            room = most
        shards[-1][name] = tensor
        room -= len(tensor.data)
    return shards


def _write_shards(folder: Path, shards: list[dict[str, RawTensor]]) -> None:
    if len(shards) == 1:
        _write_file(folder / SINGLE, shards[0])
        return
    weight_map: dict[str, str] = {}
    for number, tensors in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        _write_file(folder / file, tensors)
        weight_map |= dict.fromkeys(tensors, file)
    total = sum(len(tensor.data) for tensors in shards for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / SHARD_INDEX).write_bytes(json_bytes(index, SHARD_INDEX))


def _write_file(path: Path, tensors: Mapping[str, RawTensor]) -> None:
    with path.open("wb") as file:
        for part in serialize(tensors):
            file.write(part)


def json_bytes(value: Mapping[str, Any], name: str) -> bytes:
    """Return a JSON file's bytes; raises `FormatError` naming the file if the value is not JSON."""
    try:
        return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError(
            f"{name} cannot be written as JSON: {error}; pass numbers, strings, lists and mappings"
        ) from None


def _check_extra(name: str) -> None:
    path = PurePosixPath(name)
    reserved = len(path.parts) == 1 and (name == CONFIG or _OURS.fullmatch(name))
    if not path.parts or path.is_absolute() or ".." in path.parts or str(path) != name or "\0" in name or reserved:
        raise FormatError(
            f"an extra file is named {show(name)}; it must be a relative name that the checkpoint itself does not use"
        )
