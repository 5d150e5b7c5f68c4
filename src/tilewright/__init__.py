"""Structured sparsity for neural networks: prune once, and the model really is smaller and faster.

The names in `__all__` are the public API; training lives in `tilewright.training`. Heavy dependencies are imported on first
use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import errors
from .hooks import register_with_transformers
from .patterns import NM, Banked, Block, TileElementWise, TileVectorWise, TileWise, Unstructured, mask, parse
from .records import Report

if TYPE_CHECKING:
    from .advice import advise
    from .hardware.simulate import simulate
    from .pruning import sparsify_
    from .runtime import explain, export_dense, load, load_, save, verify

__all__ = [
    "NM",
    "Banked",
    "Block",
    "Report",
    "TileElementWise",
    "TileVectorWise",
    "TileWise",
    "Unstructured",
    "advise",
    "errors",
    "explain",
    "export_dense",
    "load",
    "load_",
    "mask",
    "parse",
    "save",
    "simulate",
    "sparsify_",
    "verify",
]

__version__ = "0.1.0"

_LAZY = {
    "advise": ".advice",
    "simulate": ".hardware",
    "sparsify_": ".pruning",
    "explain": ".runtime",
    "export_dense": ".runtime",
    "load": ".runtime",
    "load_": ".runtime",
    "save": ".runtime",
    "verify": ".runtime",
}

register_with_transformers()


def __getattr__(name: str) -> Any:
    """Import the subpackages that need torch when one of their functions is first used."""
    if name not in _LAZY:
        raise AttributeError(f"tilewright has no public name {name!r}; expected one of {', '.join(__all__)}")
    value = getattr(import_module(_LAZY[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
