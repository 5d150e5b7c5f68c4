"""What a model's name stands for, found out without torch: a folder, its kind, and what its configuration says."""

import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..errors import ArgumentError

__all__ = ["Source", "model_folder", "require_model", "source_of"]

_CALLABLE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True)
class Source:
    """Where a model comes from.

    Parameters
    ----------
    name
        As it was written.
    kind
        ``sentences``: a SentenceTransformer; ``transformers``: a folder with a configuration; ``module``: a callable that builds a plain
        torch module; ``hub``: a name that only the hub knows.
    folder
        The folder, or the name on the hub; empty for a callable.
    architecture
        The class that the configuration names, empty where there is none.
    config
        The configuration itself.
    """

    name: str
    kind: Literal["sentences", "transformers", "module", "hub"]
    folder: str = ""
    architecture: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)


def source_of(name: str) -> Source:
    """Return what a model's name stands for.

    Parameters
    ----------
    name
        ``package:NAME``, the folder ``model`` inside an installed Python package; ``module:callable``, a Python callable without
        arguments that returns a module; a folder; or a name on the hub, ``owner/model``.

    Raises
    ------
    ArgumentError
        If the package, module or folder does not exist, or is no model.
    """
    if not name.startswith("package:") and _CALLABLE.fullmatch(name) and not Path(name).exists():
        top = name.partition(":")[0].partition(".")[0]
        if importlib.util.find_spec(top) is None and not any(Path(f"{top}{end}").exists() for end in ("", ".py")):
            raise ArgumentError(
                f"{name} names a callable in the Python module {top}, which is neither installed nor in this folder"
            )
        return Source(name, "module")
    folder = model_folder(name)
    path = Path(folder)
    if not path.is_dir():
        return Source(name, "hub", folder)
    if (path / "modules.json").is_file():
        return Source(name, "sentences", folder)
    config = _config(path)
    names = config.get("architectures")
    architecture = str(names[0]) if isinstance(names, list) and names else ""
    block = config.get("quantization_config")
    if isinstance(block, dict) and block.get("quant_method") == "tilewright":
        raise ArgumentError(f"{name} is packed already; prune the dense model that it was made from")
    return Source(name, "transformers", folder, architecture, config)


def require_model(name: str) -> None:
    """Refuse a model that is not there, before anything heavy is imported; see `source_of`."""
    source_of(name)


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
            f"{name} does not exist or is no folder; name the folder of a model, one on the hub as owner/model, or a callable that builds "
            "a module as module:callable"
        )
    return name


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.is_file():
        raise ArgumentError(
            f"{folder} holds neither modules.json nor config.json, so it is no model of sentence-transformers or transformers; a plain "
            "module is named as module:callable"
        )
    try:
        config = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ArgumentError(f"{file} is not readable JSON: {error}") from None
    if not isinstance(config, dict):
        raise ArgumentError(f"{file} must hold an object; name the folder of a model")
    return config
