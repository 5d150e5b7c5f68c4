"""`digest`: one hash over everything that determines what a run computes."""

import hashlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

__all__ = ["digest"]


def digest(*values: Any) -> str:
    """Return a SHA-256 over the contents of nested containers, tensors, arrays and plain values."""
    sha = hashlib.sha256()
    _feed(sha.update, values)
    return sha.hexdigest()


def _feed(update: Callable[[Any], None], value: Any) -> None:
    # Every value is prefixed with its kind and size, so that different nestings cannot produce the same bytes.
    match value:
        case object(detach=_, untyped_storage=_):  # a tensor: torch is not imported for this
            plain = value.detach().cpu().contiguous()
            update(f"tensor {plain.dtype} {list(plain.shape)};".encode())
            update(plain.reshape(-1).view(sys.modules["torch"].uint8).numpy())
        case np.ndarray():
            update(f"array {value.dtype} {list(value.shape)};".encode())
            update(np.ascontiguousarray(value).data)
        case Mapping():
            update(f"mapping {len(value)};".encode())
            for key in value:
                _feed(update, str(key))
                _feed(update, value[key])
        case list() | tuple():
            update(f"list {len(value)};".encode())
            for item in value:
                _feed(update, item)
        case bytes():
            update(f"bytes {len(value)};".encode())
            update(value)
        case str() | bool() | int() | float() | None:
            text = repr(value)
            update(f"{type(value).__name__} {len(text)};{text}".encode())
        case _:
            update(f"object {type(value).__qualname__};".encode())
