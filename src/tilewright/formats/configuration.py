"""Checks of a model's configuration: it must not run other people's code or ask for an endless model."""

from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import FormatError
from .bits import DAMAGED
from .text import show

__all__ = ["check_config"]

_LAYERS = 8
"""Layers allowed for each stored tensor; more than 1 because layers that share their weights are stored once."""

_FEW = 512
"""Layers always allowed."""


def check_config(config: Mapping[str, Any], tensors: int, where: str) -> None:
    """Reject a configuration that libraries would follow to nobody's benefit; everything else is theirs to check.

    Parameters
    ----------
    config
        Content of ``config.json``.
    tensors
        Number of tensors in the files.
    where
        Name of the file in messages.

    Raises
    ------
    FormatError
        If an attention implementation is a repository, whose code would be downloaded and run, or if there are far more
        layers than tensors.
    """
    for key, value in _entries(config):
        if "attn_implementation" in key and not isinstance(value, dict) and "/" in str(value):
            raise FormatError(
                f"{where}: {show(key)} is {show(value)}, a repository whose code would be downloaded and run; remove the key, and pass "
                "attn_implementation to load if you trust it"
            )
        if "layer" in key and type(value) is int and value > max(_FEW, _LAYERS * tensors):
            raise FormatError(
                f"{where}: {show(key)} is {show(value)}, but the files hold {tensors} tensors, too few for that many layers; {DAMAGED}"
            )


def _entries(value: object) -> Iterator[tuple[str, object]]:
    """Yield every key with its value, including those of nested objects."""
    waiting = [value]
    while waiting:
        body = waiting.pop()
        if isinstance(body, dict):
            yield from body.items()
            waiting += body.values()
        elif isinstance(body, list):
            waiting += body
