"""What a rule about one operation of a captured graph is given, and what it says where nothing is known."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import fx

from .axes import Atoms, Axis

__all__ = ["Axes", "Given", "Rule", "Walk", "mutated", "unknown"]

Axes = list[Axis]
Given = dict[str, Any]
"""Arguments by their names in the operation's schema."""


class Walk(Protocol):
    """What a rule sees of the walk through the graph."""

    atoms: Atoms
    where: str
    """The operation and the module it stands in, for reasons."""

    def axes(self, value: Any) -> Axes:
        """Return the axes of an operand; those of a number are none."""

    def shape(self) -> list[int]:
        """Return the shape of the (first) result."""

    def shapes(self) -> list[list[int]]:
        """Return the shapes of all results."""

    def uniform(self, node: fx.Node) -> bool:
        """Say whether an operand is a tensor of one value, in which every order is the same."""

    def uses_more_than_first(self) -> bool:
        """Say whether the graph uses any result but the first."""

    def note(self, axes: Axes) -> None:
        """Record a tensor that exists only inside the operation."""


Rule = Callable[[Walk, Given], Any]


def unknown(walk: Walk, given: Given) -> list[Axes]:
    """Fix all operands; each result starts afresh, fixed."""
    reason = f"unknown operation {walk.where}"
    for value in given.values():
        for node in value if isinstance(value, list | tuple) else [value]:
            for axis in walk.axes(node):
                walk.atoms.fix(axis, reason)
    return [[walk.atoms.new(size, reason) for size in shape] for shape in walk.shapes()]


def mutated(node: fx.Node) -> bool:
    """Say whether an operation writes into its first operand."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable
