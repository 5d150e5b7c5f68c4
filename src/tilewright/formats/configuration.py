"""What a model's configuration must not ask for, whoever reads it: other people's code, or a model without end."""

from collections.abc import Iterator, Mapping
from typing import Any

from ..errors import FormatError
from .bits import DAMAGED
from .text import show

__all__ = ["check_config"]

_LAYERS = 8
_FEW = 512
"""A model may have this many layers, or so many for each stored tensor: layers that share their weights are stored once."""


def check_config(config: Mapping[str, Any], tensors: int, where: str) -> None:
    """Refuse a configuration that libraries would obey and nobody could want; everything else is theirs to judge.

    Parameters
    ----------
    config
        Content of ``config.json``.
    tensors
        How many tensors the files hold.
    where
        What messages call the file.

    Raises
    ------
    FormatError
        If an attention implementation is a repository, whose code would be fetched and run, or there are far more layers than tensors.
    """
    for key, value in _entries(config):
        if "attn_implementation" in key and not isinstance(value, dict) and "/" in str(value):
            raise FormatError(
                f"{where}: {show(key)} is {show(value)}, a repository whose code would be fetched and run; remove the key, and pass "
                "attn_implementation to load if you trust it"
            )
        if "layer" in key and type(value) is int and value > max(_FEW, _LAYERS * tensors):
            raise FormatError(
                f"{where}: {show(key)} is {show(value)}, and the files hold {tensors} tensors, too few for that many layers; {DAMAGED}"
            )


def _entries(value: object) -> Iterator[tuple[str, object]]:
    """Yield every key with its value, those of nested objects included."""
    waiting = [value]
    while waiting:
        body = waiting.pop()
        if isinstance(body, dict):
            yield from body.items()
            waiting += body.values()
        elif isinstance(body, list):
            waiting += body
