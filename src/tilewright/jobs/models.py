"""Finding the model a recipe or a command names, and reading it as a SentenceTransformer."""

import importlib.util
from pathlib import Path
from typing import Any

from ..errors import ArgumentError

__all__ = ["inner_model", "model_folder", "read_model"]


def model_folder(name: str) -> str:
    """Return the folder (or the hub's name) behind a model's name.

    ``package:NAME`` is the folder ``model`` inside an installed Python package; anything with a slash or a dot at its start is a
    path; what exists as a folder is taken as one; the rest is left to the hub.

    Raises
    ------
    ArgumentError
        If the package or the folder does not exist.
    """
    if name.startswith("package:"):
        package = name.removeprefix("package:")
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
        folder = Path(spec.origin).parent / "model" if spec and spec.origin else None
        if folder is None or not folder.is_dir():
            raise ArgumentError(
                f"{name} names no installed package with a model folder; for the demo install tilewright[demo]"
            )
        return str(folder)
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_absolute() or name.startswith(".") or name.count("/") != 1:
        raise ArgumentError(
            f"{name} does not exist or is no folder; name the folder of a model, or one on the hub as owner/model"
        )
    return name


def read_model(name: str) -> Any:
    """Return the dense model as a SentenceTransformer on the CPU, in float32.

    Raises
    ------
    ArgumentError
        If there is no such model, or it is of another kind.
    FormatError
        If its files do not make a model, or name code that is not run.
    NotSupportedError
        If sentence-transformers is not installed, or too old.
    """
    folder = model_folder(name)
    local = Path(folder).is_dir()
    if local and not (Path(folder) / "modules.json").is_file():
        raise ArgumentError(
            f"{folder} holds no modules.json, so it is no SentenceTransformer; whole jobs run on those so far"
        )
    from ..runtime import open_sentence_transformer

    model = open_sentence_transformer(folder, device="cpu", local_files_only=local)
    return model.float().eval()


def inner_model(model: Any) -> Any:
    """Return the transformer inside a SentenceTransformer."""
    return model[0].auto_model
