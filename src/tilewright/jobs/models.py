"""Reading the model a recipe or a command names: a SentenceTransformer, any class of transformers, or a plain module."""

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
"""Tensors that a dense model is taken to have at least, where a configuration's number of layers is judged."""

_WRITTEN = ("config.json", "generation_config.json", "model.safetensors.index.json", "pytorch_model.bin.index.json")


def read_model(name: str) -> Any:
    """Return the dense model on the CPU, in float32 and in evaluation mode.

    Raises
    ------
    ArgumentError
        If there is no such model, or it cannot be read.
    FormatError
        If its files do not make a model, or name code that is not run.
    NotSupportedError
        If its library is not installed, too old, or has no such class.
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
    """Return the transformer inside a SentenceTransformer; any other model as it is."""
    return model[0].auto_model if type(model).__name__ == "SentenceTransformer" else model


def other_files(folder: str) -> dict[str, os.PathLike[str]]:
    """Return the files of a model's folder that hold neither weights nor what `save` writes itself: a tokenizer's, a processor's."""
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
            f"{source.name} is a model of transformers, which is not installed: pip install 'tilewright[hf]'"
        ) from None
    cls = getattr(transformers, source.architecture or "AutoModel", None)
    if not hasattr(cls, "from_pretrained"):
        raise NotSupportedError(
            f"{source.name} was saved from a {source.architecture}, which is no class of transformers; build it in a function of your own and "
            "name that as module:callable"
        )
    assert cls is not None
    check_config(source.config, _MOST_TENSORS, f"{source.folder}/config.json")
    try:
        return cls.from_pretrained(source.folder, local_files_only=True, trust_remote_code=False, dtype="float32")
    except Exception as error:  # whatever a library makes of files that it cannot take
        raise FormatError(f"{source.folder} does not open as a {cls.__name__}: {brief(error)}") from error


def _built(name: str) -> nn.Module:
    """Return what a callable builds; the current folder is looked at as well, as `python` does."""
    home, _, path = name.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(home)
        for part in path.split("."):
            found = getattr(found, part)
    except ModuleNotFoundError as error:
        raise ArgumentError(f"{name} cannot be imported: {error}") from None
    except AttributeError:
        raise ArgumentError(
            f"the Python module {home} has nothing named {path}; check the part after the colon"
        ) from None
    model = found if isinstance(found, nn.Module) else found() if callable(found) else found
    if not isinstance(model, nn.Module):
        raise ArgumentError(
            f"{name} gives a {type(model).__name__}, and a torch.nn.Module is expected: name a callable without arguments that returns one"
        )
    return model.float().eval()
