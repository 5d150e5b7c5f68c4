"""Groups of channels along which weights are pruned: the weights of each group, and the search for a better order."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...patterns import NM, Pattern, as_matrix
from ..weights import Weight
from .coupling import Coupling
from .folding import Group, Span, fold_, grid, group_of, unfold_
from .permutation import best_of_rows, kept_score, permute_columns, permute_rows

__all__ = ["Bounds", "Channels", "Chosen", "Scores", "Use", "best", "find", "improve", "kept"]

Bounds = tuple[float | None, int | None, int]
"""Time limit in seconds, maximum number of steps, and seed of a search."""

Scores = dict[int, Tensor]
"""Scores by the id of the weight's tensor, in stored shape; names are not unique."""

Chosen = Sequence[tuple[Weight, Pattern]]
"""Weights that will be pruned, with their patterns."""


@dataclass(frozen=True)
class Use:
    """A weight that will be pruned along the channels, its pattern, and where the channels are in it."""

    weight: Weight
    pattern: Pattern
    place: Span


@dataclass(frozen=True)
class Channels:
    """Channels whose order matters to the patterns of some weights.

    Parameters
    ----------
    uses
        Weights to whose patterns the order matters.
    size
        Number of channels.
    group
        All tensors with these channels; None if the channels must not be permuted.
    reason
        Why the channels must not be permuted; empty if they may be.
    touched
        All weights to be pruned that have the channels on any axis.
    """

    uses: tuple[Use, ...]
    size: int
    group: Group | None = None
    reason: str = ""
    touched: Chosen = ()

    @property
    def chosen(self) -> Chosen:
        """The weights of the uses, without duplicates."""
        return tuple({use.weight.name: (use.weight, use.pattern) for use in self.uses}.values())

    @property
    def work(self) -> int:
        """Number of elements of the weights, in proportion to which time is allotted."""
        return sum(use.weight.tensor.numel() for use in self.uses)


def find(coupling: Coupling, chosen: Chosen) -> list[Channels]:
    """Return all channels along which the chosen weights are pruned, in the order of the weights."""
    uses: dict[int, list[Use]] = {}
    absent: list[Channels] = []
    names = {id(tensor): name for name, tensor in coupling.tensors.items()}
    for weight, pattern in chosen:
        name = names.get(id(weight.tensor))
        side = _side(weight, pattern)
        if name is None:
            use = Use(weight, pattern, Span(weight.name, side, 0, ()))
            absent.append(Channels((use,), weight.tensor.shape[side], reason="the example never reaches it"))
            continue
        offset = 0
        for term in coupling.axes[name][side]:
            if term:  # the innermost atom decides which channels are neighbours
                uses.setdefault(term[-1], []).append(Use(weight, pattern, Span(name, side, offset, term)))
            offset += coupling.atoms.size((term,))
    return [_channels(coupling, atom, tuple(members), chosen) for atom, members in uses.items()] + absent


def _channels(coupling: Coupling, atom: int, uses: tuple[Use, ...], chosen: Chosen) -> Channels:
    size, reason = coupling.atoms.length(atom), coupling.atoms.reason(atom)
    group = None if reason else group_of(coupling, atom)
    if group is not None and any(place.term.count(atom) > 1 for place in group.places):
        reason = "one tensor has the channels twice on one axis"
    if reason or group is None:
        return Channels(uses, size, reason=reason)
    permuted = {id(coupling.tensors[place.name]) for place in group.places}
    return Channels(uses, size, group, touched=[pair for pair in chosen if id(pair[0].tensor) in permuted])


def _side(weight: Weight, pattern: Pattern) -> int:
    """Return the axis that a pattern groups: inputs for n:m, outputs for tiles; as the weight is stored."""
    inputs = isinstance(pattern, NM)
    return int(inputs) if weight.layout != "transposed" else int(not inputs)


def improve(coupling: Coupling, channels: Channels, scores: Scores, bounds: Bounds) -> NDArray[np.int64] | None:
    """Search an order for every head of a group and fold it in; return None, with nothing changed, if the patterns keep no more.

    The criterion is what the patterns keep of the whole weights, because the search may evaluate different groups than the pattern: if m
    does not divide the width of a head, for example, the pattern cuts its groups elsewhere.
    """
    assert channels.group is not None
    pattern = channels.uses[0].pattern
    joint = _joint(coupling, channels, scores)
    if joint is not None:
        orders = _together(*joint, pattern, bounds)
    else:
        orders = _orders(_parts(coupling, channels, scores), pattern, bounds)
    if (orders == np.arange(channels.size)).all():
        return None
    before = kept(channels.touched, scores)
    fold_(coupling, channels.group, orders, scores)
    if kept(channels.touched, scores) > before:
        return orders
    unfold_(coupling, channels.group, orders, scores)
    return None


def _orders(parts: Sequence[NDArray[Any]], pattern: Pattern, bounds: Bounds) -> NDArray[np.int64]:
    """Search each head separately, within an equal share of the remaining time."""
    seconds, steps, seed = bounds
    begin = time.perf_counter()
    orders = []
    for head, part in enumerate(parts):
        left = None if seconds is None else max(seconds - (time.perf_counter() - begin), 1e-3) / (len(parts) - head)
        orders.append(_search(part, pattern, left, steps, seed + head))
    return np.stack(orders)


def _joint(coupling: Coupling, channels: Channels, scores: Scores) -> tuple[NDArray[Any], NDArray[np.int64]] | None:
    """Return the scores of a whole axis and its positions ``[heads, channels]`` if groups of m extend over several heads.

    None if every head is a separate problem, or if the heads are not arranged in the same way in every weight.
    """
    assert channels.group is not None
    pattern = channels.uses[0].pattern
    if not isinstance(pattern, NM) or channels.size % pattern.m == 0 or not channels.group.heads:
        return None
    positions = [grid(coupling, channels.group, use.place) for use in channels.uses]
    matrices = [_seen(use, scores[id(use.weight.tensor)]) for use in channels.uses]
    first = positions[0]
    alike = all(heads.shape[1] == 1 and np.array_equal(heads, first) for heads in positions)
    whole = all(matrix.shape[1] == first.size for matrix in matrices)
    if not (alike and whole and all(use.pattern == pattern for use in channels.uses)):
        return None
    return np.concatenate(matrices), first[:, 0]


def _together(
    matrix: NDArray[Any], positions: NDArray[np.int64], pattern: Pattern, bounds: Bounds
) -> NDArray[np.int64]:
    """Search all heads at once, exchanging channels only within each head."""
    seconds, steps, seed = bounds
    head_of, channel_of = np.empty((2, matrix.shape[1]), dtype=np.int64)
    head_of[positions] = np.arange(len(positions))[:, None]
    channel_of[positions] = np.arange(positions.shape[1])
    assert isinstance(pattern, NM)
    inner = NM(pattern.n, pattern.m)
    order = permute_columns(matrix, inner, classes=head_of, seconds=seconds, steps=steps, seed=seed)
    orders: NDArray[np.int64] = channel_of[order[positions]]
    return orders


def _search(
    part: NDArray[Any], pattern: Pattern, seconds: float | None, steps: int | None, seed: int
) -> NDArray[np.int64]:
    if isinstance(pattern, NM):
        inner = NM(pattern.n, pattern.m)
        if inner.refusal(part.shape):
            return np.arange(part.shape[1])
        return permute_columns(part, inner, seconds=seconds, steps=steps, seed=seed)
    return permute_rows(part.T, pattern, seconds=seconds, steps=steps, seed=seed)


def _parts(coupling: Coupling, channels: Channels, scores: Scores) -> list[NDArray[Any]]:
    """Return, for each head, the scores ``[rows, channels]`` of all weights with the same pattern as the first."""
    assert channels.group is not None
    pattern = channels.uses[0].pattern
    heads: list[list[NDArray[Any]]] = []
    for use in channels.uses:
        if use.pattern == pattern:
            matrix = _seen(use, scores[id(use.weight.tensor)])
            positions = grid(coupling, channels.group, use.place)
            heads.append([matrix[:, head].reshape(-1, channels.size) for head in positions])
    return [np.concatenate(parts) for parts in zip(*heads, strict=True)]


def _seen(use: Use, score: Tensor) -> NDArray[Any]:
    """Return the scores with the grouped axis last and the others flattened; with a tile, squares summed over the tile."""
    array = score.cpu().numpy()
    if isinstance(use.pattern, NM) and use.pattern.tile > 1:
        outputs = 1 if use.weight.layout == "transposed" else 0
        starts = np.arange(0, array.shape[outputs], use.pattern.tile)
        array = np.add.reduceat(np.square(array), starts, axis=outputs)
    return np.moveaxis(array, use.place.axis, -1).reshape(-1, array.shape[use.place.axis])


def kept(chosen: Chosen, scores: Scores) -> float:
    """Return the total score that the patterns keep of the weights."""
    return sum(kept_score(_matrix(weight, scores), pattern) for weight, pattern in chosen)


def best(chosen: Chosen, scores: Scores) -> float | None:
    """Return the total score if every row kept its best inputs, wherever they are; None if a pattern is not n:m."""
    total = 0.0
    for weight, pattern in chosen:
        if not isinstance(pattern, NM):
            return None
        total += best_of_rows(_matrix(weight, scores), pattern)
    return total


def _matrix(weight: Weight, scores: Scores) -> NDArray[Any]:
    return as_matrix(scores[id(weight.tensor)].cpu().numpy(), weight.layout)
