"""One colour for one kind of work, on every figure of every page."""

__all__ = ["KINDS", "colour_of"]

KINDS = ("linear", "matmul", "softmax", "norm", "elementwise", "embedding", "conv", "pool", "recurrent", "move")
"""In the order of their colours, ``k0`` to ``k9`` of the style sheet; the numbers are part of no file."""


def colour_of(kind: str) -> str:
    """Return the class of the style sheet that colours a kind of work."""
    return f"k{KINDS.index(kind)}" if kind in KINDS else "k9"
