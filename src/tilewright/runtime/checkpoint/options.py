"""Further options of `load`, checked before a model is built, so that a mistyped option is an error rather than ignored."""

import inspect
from collections.abc import Collection, Mapping
from typing import Any

import torch

from ...errors import ArgumentError, unknown

__all__ = ["config_options", "dtype_of", "require_known", "sentence_options"]

_OWN = ("tokens", "measure", "dense", "mmap")
"""Named parameters of `load`, to suggest for mistyped options."""

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def require_known(options: Mapping[str, Any], known: Collection[str], model: str) -> None:
    """Raise for the first option that the model's library would ignore.

    Raises
    ------
    ArgumentError
        If an option is unknown; the message suggests the closest name.
    """
    expected = "a parameter of load or of the model"
    for name in options:
        if name not in known:
            raise ArgumentError(unknown(f"option of {model}", name, [*_OWN, *sorted(known)], expected))


def config_options(config_class: Any) -> set[str]:
    """Return all options of a ``transformers`` configuration."""
    config = config_class()
    return {*config.to_dict(), *config.attribute_map, "attn_implementation", "dtype"}


def dtype_of(value: object) -> torch.dtype | None:
    """Return the torch type of a ``dtype`` option; None for ``"auto"`` and None, which keep the type on record.

    Raises
    ------
    ArgumentError
        If the type is not supported.
    """
    if value is None or value == "auto":
        return None
    name = str(value).removeprefix("torch.")
    if name not in _DTYPES:
        raise ArgumentError(unknown("dtype", name, ("auto", *_DTYPES)))
    return _DTYPES[name]


def sentence_options(cls: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a ``SentenceTransformer``; ``dtype`` is passed to the model inside."""
    parameters = inspect.signature(cls).parameters
    taken = {name for name, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    known = (taken | {"dtype"}) - {"model_name_or_path", "modules"}
    require_known(options, known, cls.__name__)
    arguments = {name: value for name, value in options.items() if name != "dtype"}
    dtype = dtype_of(options.get("dtype"))
    if dtype is not None:
        arguments["model_kwargs"] = {**(arguments.get("model_kwargs") or {}), "dtype": dtype}
    return {"device": "cpu", "local_files_only": True, **arguments}
