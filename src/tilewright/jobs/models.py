"""Read the model that a recipe or a command names: a SentenceTransformer, a transformers model, or a plain module."""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import ArgumentError, FormatError, NotSupportedError, brief
from ..formats import check_config
from .sources import Source, model_folder, source_of

__all__ = ["inner_model", "model_folder", "other_files", "read_model"]

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf")
_MOST_TENSORS = 512
"""Lower bound on the number of tensors of a dense model, for checking the number of layers in its configuration."""

_WRITTEN = ("config.json", "generation_config.json", "model.safetensors.index.json", "pytorch_model.bin.index.json")


def read_model(name: str) -> Any:
    """Return the dense model on the CPU, in float32 and in evaluation mode.

    Raises
    ------
    ArgumentError
        If the model does not exist or cannot be read.
    FormatError
        If its files do not form a model, or require remote code, which is never run.
    NotSupportedError
        If its library is not installed, is too old, or lacks the model's class.
    """
    source = source_of(name)
    if source.kind == "module":
        return _built(source.name)
    if source.kind == "transformers":
        return _transformer(source).float().eval()
    from ..runtime import open_sentence_transformer

    local = source.kind == "sentences"
    model = open_sentence_transformer(source.folder, device="cpu", local_files_only=local)
    return model.float().eval()


def inner_model(model: Any) -> Any:
    """Return the transformer inside a SentenceTransformer; return any other model unchanged."""
    return model[0].auto_model if type(model).__name__ == "SentenceTransformer" else model


def other_files(folder: str) -> dict[str, os.PathLike[str]]:
    """Return a model's additional files, such as its tokenizer's: neither weights nor anything that `save` writes itself."""
    root = Path(folder)
    return {
        path.name: path
        for path in sorted(root.iterdir() if root.is_dir() else ())
        if path.is_file()
        and path.suffix not in _WEIGHTS
        and path.name not in _WRITTEN
        and not path.name.startswith(".")
    }


def _transformer(source: Source) -> Any:
    try:
        import transformers
    except ImportError:
        raise NotSupportedError(
            f"{source.name} is a transformers model, and transformers is not installed: pip install 'tilewright[hf]'"
        ) from None
    cls = getattr(transformers, source.architecture or "AutoModel", None)
    if not hasattr(cls, "from_pretrained"):
        raise NotSupportedError(
            f"{source.name} was saved from a {source.architecture}, which the installed transformers does not have; write a function that "
            "builds the model, and name it as module:callable"
        )
    assert cls is not None
    check_config(source.config, _MOST_TENSORS, f"{source.folder}/config.json")
    try:
        return cls.from_pretrained(source.folder, local_files_only=True, trust_remote_code=False, dtype="float32")
    except Exception as error:  # transformers raises many kinds of exceptions for broken files
        raise FormatError(f"cannot load {source.folder} as a {cls.__name__}: {brief(error)}") from error


def _built(name: str) -> nn.Module:
    """Return the module that a callable builds. Like `python`, also search the current folder."""
    home, _, path = name.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        target: Any = importlib.import_module(home)
        for part in path.split("."):
            target = getattr(target, part)
    except ModuleNotFoundError as error:
        raise ArgumentError(f"cannot import {name}: {error}") from None
    except AttributeError:
        raise ArgumentError(
            f"the Python module {home} has no attribute {path}; check the part after the colon"
        ) from None
    model = target if isinstance(target, nn.Module) else target() if callable(target) else target
    if not isinstance(model, nn.Module):
        raise ArgumentError(
            f"{name} returned a {type(model).__name__}, expected a torch.nn.Module; name a callable without arguments that returns one"
        )
    return model.float().eval()
