"""Budgets based on the loss: how much to prune in each layer, decided from a sensitivity scan.

They replace the requested pattern by a pattern of the same family for each weight, before masks are chosen.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from ...errors import ArgumentError, PatternError
from ...patterns import NM, Pattern, parse
from ..assignment import Assignment
from ..scores import Calibration
from .knapsack import convex_hull
from .plan import Candidate, Costs, candidates, plan
from .result import Scan
from .scan import sensitivity_scan

__all__ = ["PLANNED", "Limit", "constrained", "decide", "family", "sensitivity"]

_SPARSITIES = (0.25, 0.5, 0.75, 0.875, 0.95)
Decided = Mapping[str, Pattern | None]
"""Pattern by weight name; None leaves a weight dense."""

_SMALL = 16
"""Largest m for which every n is tried; above it only powers of two are."""


@dataclass(frozen=True)
class Limit:
    """Limit of the ``"constrained"`` budget: either a size or a latency.

    Parameters
    ----------
    size
        Limit on the total size of the targeted weights on disk, in bytes.
    latency
        Limit on the total time of the targeted layers, in seconds; needs `seconds`.
    seconds
        Time of each layer at each pattern, in seconds; see `tilewright.pruning.candidates`.
    patterns
        Patterns that each layer may take besides staying dense. Default: the family of its own pattern, that is, other n of the same
        m, or other sparsities.
    """

    size: float | None = None
    latency: float | None = None
    seconds: Costs | None = None
    patterns: Sequence[Pattern | str] = ()


def family(pattern: Pattern) -> tuple[Pattern, ...]:
    """Return the patterns a layer may take instead of a given one: other n of the same m, or other sparsities; densest first.

    Examples
    --------
    >>> [str(member) for member in family(NM(2, 4))]
    ['3:4', '2:4', '1:4']
    """
    if isinstance(pattern, NM):
        kept = range(1, pattern.m) if pattern.m <= _SMALL else (1 << k for k in range((pattern.m - 1).bit_length()))
        return tuple(replace(pattern, n=n) for n in sorted({*kept, pattern.n} - {pattern.m}, reverse=True))
    sparse: Any = pattern
    sparsities = {*_SPARSITIES, sparse.sparsity, round((1 + sparse.sparsity) / 2, 4)}
    members = (_with_sparsity(sparse, sparsity) for sparsity in sorted(sparsities))
    return tuple(member for member in members if member is not None)


def decide(
    model: nn.Module,
    assignments: Sequence[Assignment],
    budget: str,
    score: str,
    data: Calibration | None,
    limit: Limit | None,
) -> list[Assignment]:
    """Replace the pattern of every assignment by the one a planned budget gives that weight; other budgets change nothing.

    Raises
    ------
    ArgumentError
        If data or a limit is missing, a limit is given to a budget that takes none, or the limit cannot be met.
    """
    if limit is not None and budget != "constrained":
        raise ArgumentError(
            f"limit only applies to budget='constrained', not to {budget!r}; omit limit, or change the budget"
        )
    if budget not in PLANNED:
        return list(assignments)
    if data is None:
        raise ArgumentError(
            f"budget {budget!r} needs data=Calibration(batches, loss) to measure the loss with each layer pruned"
        )
    decided = PLANNED[budget](model, assignments, score, data, limit)
    return [_redecided(assignment, decided) for assignment in assignments]


def sensitivity(
    model: nn.Module, assignments: Sequence[Assignment], score: str, data: Calibration, limit: Limit | None
) -> Decided:
    """Choose a member of each weight's pattern family so that the loss rises least at the requested density."""
    decided: dict[str, Pattern | None] = {}
    for scan, pattern in _scans(model, assignments, score, data, family):
        decided |= _members(scan, pattern) if pattern.fixed else _sparsities(scan, pattern)
    return decided


def constrained(
    model: nn.Module, assignments: Sequence[Assignment], score: str, data: Calibration, limit: Limit | None
) -> Decided:
    """Choose a pattern, or dense, for each weight so that the loss rises least within a size or latency limit."""
    if limit is None:
        raise ArgumentError("budget 'constrained' needs limit=Limit(size=...) or Limit(latency=..., seconds=...)")
    named = tuple(parse(pattern) if isinstance(pattern, str) else pattern for pattern in limit.patterns)
    offers: dict[str, tuple[Candidate, ...]] = {}
    for scan, _ in _scans(model, assignments, score, data, (lambda _: named) if named else family):
        offers |= candidates(scan, seconds=limit.seconds)
    best = plan(offers, latency=limit.latency, size=limit.size)
    return {name: candidate.pattern for name, candidate in best.chosen.items()}


PLANNED: dict[str, Callable[[nn.Module, Sequence[Assignment], str, Calibration, Limit | None], Decided]] = {
    "sensitivity": sensitivity,
    "constrained": constrained,
}


def _scans(
    model: nn.Module,
    assignments: Sequence[Assignment],
    score: str,
    data: Calibration,
    members: Callable[[Pattern], tuple[Pattern, ...]],
) -> list[tuple[Scan, Pattern]]:
    """Scan the weights that share a pattern together; return each scan with its pattern."""
    groups: dict[Pattern, list[str]] = {}
    for assignment in assignments:
        if assignment.pattern is not None:
            groups.setdefault(assignment.pattern, []).append(assignment.weight.name)
    return [
        (sensitivity_scan(model, members(pattern), data, targets=names, score=score), pattern)
        for pattern, names in groups.items()
    ]


def _redecided(assignment: Assignment, patterns: Decided) -> Assignment:
    if assignment.pattern is None:
        return assignment
    pattern = patterns[assignment.weight.name]
    return replace(assignment, pattern=pattern, reason="" if pattern else "the budget leaves it dense")


def _members(scan: Scan, pattern: Pattern) -> Decided:
    """Choose among patterns of fixed density so that no more elements are kept than with the requested pattern.

    A layer whose plan is sparser gets the requested pattern back, while there is room, if its measured loss is no higher there: pruning
    that looks free in single layers is not free in all of them together.
    """
    sizes = {point.name: point.elements for point in scan.points}
    kept = {
        (point.name, point.text): point.density * point.elements for point in scan.points if point.density is not None
    }
    offers = candidates(scan, bytes=kept)  # the limit is on elements, passed as bytes
    requested = {name: next(candidate for candidate in offers[name] if candidate.pattern == pattern) for name in sizes}
    allowed = sum(kept[name, str(pattern)] for name in sizes)
    best = plan(offers, size=allowed)
    decided = {name: candidate.pattern for name, candidate in best.chosen.items()}
    room = allowed - float(best.bytes or 0)
    for name, candidate in best.chosen.items():
        more = kept[name, str(pattern)] - float(candidate.bytes or 0)
        if 0 < more <= room and requested[name].loss <= candidate.loss:
            decided[name], room = pattern, room - more
    return decided


def _sparsities(scan: Scan, pattern: Pattern) -> Decided:
    """Choose sparsities between the scanned ones, with the loss of each layer interpolated on the convex hull of its measured points.

    On convex, piecewise linear curves the best split takes the steepest pieces (per element) first, until the density is used up.
    """
    sparse: Any = pattern
    pieces: list[tuple[float, str, float]] = []
    density: dict[str, float] = {}
    sizes: dict[str, int] = {}
    curves = _curves(scan, sparse)
    for name, (kept, losses, size) in curves.items():
        hull = convex_hull(kept, losses)
        density[name], sizes[name] = float(kept[hull[0]]), size
        steps = zip(np.diff(kept[hull]), np.diff(losses[hull]), strict=True)
        pieces += [(dl / (dk * size), name, float(dk)) for dk, dl in steps]
    room = sparse.density * sum(sizes.values()) - sum(density[name] * sizes[name] for name in sizes)
    for _, name, more in sorted(pieces):
        step = min(more, max(0.0, room) / sizes[name])
        density[name] += step
        room -= step * sizes[name]
    # Once every curve is flat, keeping more gains nothing. The rest is kept all the same, spread evenly, to meet the requested density.
    most = {name: float(kept.max()) for name, (kept, _, _) in curves.items()}
    even = _evened(density, most, sizes, room)
    chosen = {name: 1 - np.floor(1e4 * kept + 1e-6) / 1e4 for name, kept in even.items()}
    return {name: _with_sparsity(sparse, round(float(s), 4)) if s > 0 else None for name, s in chosen.items()}


def _evened(
    density: Mapping[str, float], most: Mapping[str, float], sizes: Mapping[str, int], room: float
) -> dict[str, float]:
    """Spread the remaining room over all layers, in proportion to how much more each could keep."""
    free = sum((most[name] - density[name]) * sizes[name] for name in sizes)
    share = min(1.0, room / free) if room > 0 and free > 0 else 0.0
    return {name: kept + share * (most[name] - kept) for name, kept in density.items()}


def _curves(scan: Scan, pattern: Any) -> dict[str, tuple[Any, Any, int]]:
    """Return, by weight name, the scanned densities, the loss increase at each, and the number of elements."""
    by_name: dict[str, list[tuple[float, float, int]]] = {}
    zero = _with_sparsity(pattern, 0.0)
    for point, rise in scan.measured():
        if point.pattern is not None or zero is not None:
            kept = 1.0 if point.pattern is None else point.pattern.density
            by_name.setdefault(point.name, []).append((kept, max(0.0, rise), point.elements))
    return {
        name: (np.array([p[0] for p in points]), np.array([p[1] for p in points]), points[0][2])
        for name, points in by_name.items()
    }


def _with_sparsity(pattern: Any, sparsity: float) -> Pattern | None:
    """Return the pattern at another sparsity, or None if the pattern does not allow it."""
    try:
        changed: Pattern = replace(pattern, sparsity=sparsity)
    except PatternError:
        return None
    return changed
