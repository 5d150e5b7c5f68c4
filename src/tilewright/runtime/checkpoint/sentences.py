"""Opening a SentenceTransformer from an untrusted source: only the modules listed below are run."""

import json
import re
from pathlib import Path
from typing import Any

from ...errors import FormatError, NotSupportedError, TilewrightError, brief, quoted

__all__ = ["open_sentence_transformer", "sentence_class"]

_OLDEST = 6
"""Earlier releases import, and thus run, any module of a local folder that ``modules.json`` names."""

_MODULES = [
    "Transformer",
    "Pooling",
    "Normalize",
    "Dense",
    "Dropout",
    "LayerNorm",
    "WeightedLayerPooling",
    "CNN",
    "LSTM",
]
_TYPE = re.compile(rf"sentence_transformers\.([a-z_]+\.)*({'|'.join(_MODULES)})")
_FOLDER = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)?")
_MOST_MODULES = 64


def sentence_class() -> Any:
    """Return the class `SentenceTransformer`.

    Raises
    ------
    NotSupportedError
        If the package is missing, or older than version 6.
    """
    try:
        import sentence_transformers
    except ImportError:
        raise NotSupportedError(
            "this model embeds sentences and needs the package sentence-transformers; pip install 'tilewright[demo]'"
        ) from None
    release = str(sentence_transformers.__version__)
    if int(release.partition(".")[0]) < _OLDEST:
        raise NotSupportedError(
            f"sentence-transformers {release} runs code that a model's folder names; version {_OLDEST} or later is needed; "
            "pip install 'tilewright[demo]'"
        )
    return sentence_transformers.SentenceTransformer


def open_sentence_transformer(folder: str, **arguments: Any) -> Any:
    """Return the model in a folder, or on the hub by ``owner/name``.

    Parameters
    ----------
    folder
        The folder, or the name of the model on the hub.
    arguments
        Arguments of the class ``SentenceTransformer``.

    Raises
    ------
    FormatError
        If ``modules.json`` names anything but the usual modules (in which case nothing is imported), or the files are not a
        valid model.
    NotSupportedError
        As for `sentence_class`.
    """
    cls = sentence_class()
    if (Path(folder) / "modules.json").exists():
        _check_modules(Path(folder))
    try:
        return cls(folder, **arguments)
    except TilewrightError:
        raise
    except Exception as error:  # the library may raise anything for invalid files
        raise FormatError(f"{folder} cannot be opened as a SentenceTransformer: {brief(error)}") from error


def _check_modules(folder: Path) -> None:
    where = folder / "modules.json"
    try:
        modules = json.loads(where.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(f"{where} is not readable JSON: {brief(error)}; download or save the model again") from None
    if not isinstance(modules, list) or not 0 < len(modules) <= _MOST_MODULES:
        raise FormatError(f"{where} must list 1 to {_MOST_MODULES} modules; download or save the model again")
    for number, module in enumerate(modules):
        kind, place = (module.get("type"), module.get("path")) if isinstance(module, dict) else (None, None)
        if not isinstance(kind, str) or not _TYPE.fullmatch(kind):
            raise FormatError(
                f"{where}: module {number} has the type {quoted(kind)}, whose code is not run; expected one of {', '.join(_MODULES)}. If you trust "
                "it, build the model yourself and call tilewright.load_ on the transformer inside"
            )
        if not isinstance(place, str) or not _FOLDER.fullmatch(place):
            raise FormatError(f"{where}: module {number} is in {quoted(place)}, which is not a folder inside {folder}")
