"""One colour per kind of work, the same in every figure of every page."""

__all__ = ["KINDS", "colour_of"]

KINDS = ("linear", "matmul", "softmax", "norm", "elementwise", "embedding", "conv", "pool", "recurrent", "move")
"""Kinds of work in the order of their colours, ``k0`` to ``k9`` in the style sheet."""


def colour_of(kind: str) -> str:
    """Return the CSS class that colours a kind of work."""
    return f"k{KINDS.index(kind)}" if kind in KINDS else "k9"
