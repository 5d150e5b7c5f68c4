"""The interface between the walk through a captured graph and the rules for its operations."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import fx

from .axes import Atoms, Axis

__all__ = ["Arguments", "Axes", "Rule", "Walk", "mutated", "unknown"]

Axes = list[Axis]
Arguments = dict[str, Any]
"""Arguments of an operation, by their names in its schema."""


class Walk(Protocol):
    """The part of the walk through the graph that rules may use."""

    atoms: Atoms
    where: str
    """The current operation and its module, for use in reasons."""

    def axes(self, value: Any) -> Axes:
        """Return the axes of an operand; a number has none."""

    def shape(self) -> list[int]:
        """Return the shape of the first result."""

    def shapes(self) -> list[list[int]]:
        """Return the shapes of all results."""

    def uniform(self, node: fx.Node) -> bool:
        """Return whether all elements of an operand are equal, so that any order will do."""

    def uses_more_than_first(self) -> bool:
        """Return whether the graph uses any result other than the first."""

    def note(self, axes: Axes) -> None:
        """Record a tensor that exists only inside the operation."""


Rule = Callable[[Walk, Arguments], Any]


def unknown(walk: Walk, arguments: Arguments) -> list[Axes]:
    """Fix all operands, and return new, fixed axes for each result."""
    reason = f"unknown operation {walk.where}"
    for value in arguments.values():
        for node in value if isinstance(value, list | tuple) else [value]:
            for axis in walk.axes(node):
                walk.atoms.fix(axis, reason)
    return [[walk.atoms.new(size, reason) for size in shape] for shape in walk.shapes()]


def mutated(node: fx.Node) -> bool:
    """Return whether an operation writes to its first operand."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable
