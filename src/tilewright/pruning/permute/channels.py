"""Groups of channels that are to be pruned along: which weights each concerns, and the search for a better order of one."""

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
"""Seconds, steps and seed of a search."""

Scores = dict[int, Tensor]
"""By the identity of weights, as these are stored: names are not unique."""

Chosen = Sequence[tuple[Weight, Pattern]]
"""Weights that are to be pruned, and to what."""


@dataclass(frozen=True)
class Use:
    """A weight that will be pruned along the channels, its pattern, and where it has them."""

    weight: Weight
    pattern: Pattern
    place: Span


@dataclass(frozen=True)
class Channels:
    """Channels whose order matters to the patterns of some weights.

    Parameters
    ----------
    uses
        Where their order matters.
    size
        How many there are.
    group
        Everything that has them; None if they must stay where they are.
    reason
        Why they must.
    touched
        All weights to be pruned that have them on any axis.
    """

    uses: tuple[Use, ...]
    size: int
    group: Group | None = None
    reason: str = ""
    touched: Chosen = ()

    @property
    def chosen(self) -> Chosen:
        """The weights of the uses, each once."""
        return tuple({use.weight.name: (use.weight, use.pattern) for use in self.uses}.values())

    @property
    def work(self) -> int:
        """Elements of the weights, by which time is shared out."""
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
    return [_channels(coupling, atom, tuple(own), chosen) for atom, own in uses.items()] + absent


def _channels(coupling: Coupling, atom: int, uses: tuple[Use, ...], chosen: Chosen) -> Channels:
    size, reason = coupling.atoms.length(atom), coupling.atoms.reason(atom)
    group = None if reason else group_of(coupling, atom)
    if group is not None and any(place.term.count(atom) > 1 for place in group.places):
        reason = "one tensor has the channels twice on one axis"
    if reason or group is None:
        return Channels(uses, size, reason=reason)
    held = {id(coupling.tensors[place.name]) for place in group.places}
    return Channels(uses, size, group, touched=[pair for pair in chosen if id(pair[0].tensor) in held])


def _side(weight: Weight, pattern: Pattern) -> int:
    """Return the axis that a pattern groups: inputs for n:m, outputs for tiles; as the weight is stored."""
    inputs = isinstance(pattern, NM)
    return int(inputs) if weight.layout != "transposed" else int(not inputs)


def improve(coupling: Coupling, channels: Channels, scores: Scores, bounds: Bounds) -> NDArray[np.int64] | None:
    """Search an order for every head of a group and fold it in; None, and nothing changed, if the patterns keep no more.

    What counts in the end is what the patterns keep of the whole weights: where m does not divide the width of a head, say, the search
    prices groups that the pattern will cut elsewhere.
    """
    assert channels.group is not None
    pattern = channels.uses[0].pattern
    joint = _joint(coupling, channels, scores)
    if joint is not None:
        found = _together(*joint, pattern, bounds)
    else:
        found = _orders(_parts(coupling, channels, scores), pattern, bounds)
    if (found == np.arange(channels.size)).all():
        return None
    before = kept(channels.touched, scores)
    fold_(coupling, channels.group, found, scores)
    if kept(channels.touched, scores) > before:
        return found
    unfold_(coupling, channels.group, found, scores)
    return None


def _orders(parts: Sequence[NDArray[Any]], pattern: Pattern, bounds: Bounds) -> NDArray[np.int64]:
    """Search each head by itself, within an equal share of the time that is left."""
    seconds, steps, seed = bounds
    begin = time.perf_counter()
    orders = []
    for head, part in enumerate(parts):
        left = None if seconds is None else max(seconds - (time.perf_counter() - begin), 1e-3) / (len(parts) - head)
        orders.append(_search(part, pattern, left, steps, seed + head))
    return np.stack(orders)


def _joint(coupling: Coupling, channels: Channels, scores: Scores) -> tuple[NDArray[Any], NDArray[np.int64]] | None:
    """Return the scores of a whole axis, and its positions ``[heads, channels]``, where groups of m reach over several heads.

    None where every head is a problem of its own, or where the heads do not make up the axis of every weight in the same way.
    """
    assert channels.group is not None
    pattern = channels.uses[0].pattern
    if not isinstance(pattern, NM) or channels.size % pattern.m == 0 or not channels.group.heads:
        return None
    positions = [grid(coupling, channels.group, use.place) for use in channels.uses]
    seen = [_seen(use, scores[id(use.weight.tensor)]) for use in channels.uses]
    first = positions[0]
    alike = all(one.shape[1] == 1 and np.array_equal(one, first) for one in positions)
    if not alike or any(one.shape[1] != first.size for one in seen) or any(u.pattern != pattern for u in channels.uses):
        return None
    return np.concatenate(seen), first[:, 0]


def _together(seen: NDArray[Any], positions: NDArray[np.int64], pattern: Pattern, bounds: Bounds) -> NDArray[np.int64]:
    """Search all heads at once, exchanging channels within each."""
    seconds, steps, seed = bounds
    heads, inside = np.empty((2, seen.shape[1]), dtype=np.int64)
    heads[positions] = np.arange(len(positions))[:, None]
    inside[positions] = np.arange(positions.shape[1])
    assert isinstance(pattern, NM)
    inner = NM(pattern.n, pattern.m)
    order = permute_columns(seen, inner, classes=heads, seconds=seconds, steps=steps, seed=seed)
    found: NDArray[np.int64] = inside[order[positions]]
    return found


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
    """Return, for each head, the scores ``[rows, channels]`` of all weights that share the first one's pattern."""
    assert channels.group is not None
    pattern = channels.uses[0].pattern
    heads: list[list[NDArray[Any]]] = []
    for use in channels.uses:
        if use.pattern == pattern:
            seen = _seen(use, scores[id(use.weight.tensor)])
            positions = grid(coupling, channels.group, use.place)
            heads.append([seen[:, mine].reshape(-1, channels.size) for mine in positions])
    return [np.concatenate(parts) for parts in zip(*heads, strict=True)]


def _seen(use: Use, score: Tensor) -> NDArray[Any]:
    """Return the scores with the grouped axis last and all others in one; squares summed over the tiles that share positions."""
    array = score.cpu().numpy()
    if isinstance(use.pattern, NM) and use.pattern.tile > 1:
        outputs = 1 if use.weight.layout == "transposed" else 0
        starts = np.arange(0, array.shape[outputs], use.pattern.tile)
        array = np.add.reduceat(np.square(array), starts, axis=outputs)
    return np.moveaxis(array, use.place.axis, -1).reshape(-1, array.shape[use.place.axis])


def kept(chosen: Chosen, scores: Scores) -> float:
    """Return what the patterns keep of all the weights."""
    return sum(kept_score(_matrix(weight, scores), pattern) for weight, pattern in chosen)


def best(chosen: Chosen, scores: Scores) -> float | None:
    """Return what n:m patterns would keep of the weights if every row chose its inputs anywhere; None if one is no n:m."""
    total = 0.0
    for weight, pattern in chosen:
        if not isinstance(pattern, NM):
            return None
        total += best_of_rows(_matrix(weight, scores), pattern)
    return total


def _matrix(weight: Weight, scores: Scores) -> NDArray[Any]:
    return as_matrix(scores[id(weight.tensor)].cpu().numpy(), weight.layout)
