"""Folding a permutation into all tensors with the permuted channels: weights, biases, norms, statistics, embeddings."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .axes import Axis, Term
from .coupling import Coupling

__all__ = ["Group", "Span", "fold_", "grid", "group_of", "unfold_"]

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Span:
    """Where the channels of a group are in a tensor: a run of positions on one of its axes."""

    name: str
    axis: int
    offset: int
    term: Term


@dataclass(frozen=True)
class Group:
    """Channels that are permuted together, and every place where they occur.

    Parameters
    ----------
    atom
        Atom of the channels.
    size
        Number of channels.
    heads
        Atoms that accompany the channels everywhere; each combination of their positions gets its own permutation.
    places
        All places where the channels occur.
    """

    atom: int
    size: int
    heads: tuple[int, ...]
    places: tuple[Span, ...]


def group_of(coupling: Coupling, atom: int) -> Group:
    """Return the group of an atom that may be permuted."""
    places = tuple(place for place in _places(coupling) if atom in place.term)
    heads = set(coupling.context(atom)).intersection(*(place.term for place in places))
    return Group(atom, coupling.atoms.length(atom), tuple(sorted(heads)), places)


def _places(coupling: Coupling) -> Iterator[Span]:
    for name, axes in coupling.axes.items():
        for number, axis in enumerate(axes):
            yield from (Span(name, number, offset, term) for offset, term in _offsets(coupling, axis))


def _offsets(coupling: Coupling, axis: Axis) -> Iterator[tuple[int, Term]]:
    offset = 0
    for term in axis:
        yield offset, term
        offset += coupling.atoms.size((term,))


def grid(coupling: Coupling, group: Group, place: Span) -> Indices:
    """Return the positions of the channels in a place, ``[heads, others, channels]``."""
    sizes = [coupling.atoms.length(atom) for atom in place.term]
    positions = np.arange(int(np.prod(sizes))).reshape(sizes) + place.offset
    head_axes = [place.term.index(atom) for atom in group.heads]
    channel_axis = place.term.index(group.atom)
    other_axes = [i for i in range(len(sizes)) if i not in head_axes and i != channel_axis]
    heads = int(np.prod([sizes[i] for i in head_axes]))
    return positions.transpose(*head_axes, *other_axes, channel_axis).reshape(heads, -1, group.size)


def fold_(coupling: Coupling, group: Group, orders: Indices, scores: dict[int, Tensor]) -> None:
    """Permute a group everywhere in place, including the scores of its weights; `orders` is ``[heads, channels]``."""
    axes: dict[tuple[str, int], Indices] = {}
    for place in group.places:
        tensor = coupling.tensors[place.name]
        index = axes.setdefault((place.name, place.axis), np.arange(tensor.shape[place.axis]))
        old = grid(coupling, group, place)
        index[old] = np.take_along_axis(old, np.broadcast_to(orders[:, None], old.shape), axis=-1)
    for (name, axis), index in axes.items():
        tensor = coupling.tensors[name]
        _reorder(tensor, axis, index)
        if id(tensor) in scores:
            _reorder(scores[id(tensor)], axis, index)


@torch.no_grad()
def _reorder(tensor: Tensor, axis: int, index: Indices) -> None:
    tensor.copy_(tensor.index_select(axis, torch.from_numpy(index).to(tensor.device)))


def unfold_(coupling: Coupling, group: Group, orders: Indices, scores: dict[int, Tensor]) -> None:
    """Undo `fold_`."""
    fold_(coupling, group, np.argsort(orders, axis=-1), scores)
