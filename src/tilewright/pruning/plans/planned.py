"""Budgets that look at the loss: how much to prune in each layer, decided from a sensitivity scan.

They turn the one pattern asked for into a pattern for each weight, all of one family, before masks are chosen.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from ...errors import ArgumentError, PatternError
from ...patterns import NM, Pattern, parse
from ...records import Report
from ..assignment import Assignment
from ..scores import Calibration
from .knapsack import convex_hull
from .plan import Candidate, Costs, candidates, plan
from .scan import DENSE, sensitivity_scan

__all__ = ["PLANNED", "Limit", "constrained", "decide", "family", "sensitivity"]

_SPARSITIES = (0.25, 0.5, 0.75, 0.875, 0.95)
Decided = Mapping[str, Pattern | None]
"""By weight name; None leaves it dense."""

_SMALL = 16
"""Largest m of which every n is tried; beyond, powers of two."""


@dataclass(frozen=True)
class Limit:
    """What the ``constrained`` budget holds to: one of size and latency.

    Parameters
    ----------
    size
        Most bytes on disk of the pruned weights together.
    latency
        Most seconds of the pruned layers together; needs `seconds`.
    seconds
        Time of each layer at each pattern, see `tilewright.pruning.candidates`.
    patterns
        What each layer may take besides dense; the family of its own pattern unless told.
    """

    size: float | None = None
    latency: float | None = None
    seconds: Costs | None = None
    patterns: Sequence[Pattern | str] = ()


def family(pattern: Pattern) -> tuple[Pattern, ...]:
    """Return the patterns a layer may take in place of one: other n of the same m, or other sparsities; densest first.

    Examples
    --------
    >>> [str(one) for one in family(NM(2, 4))]
    ['3:4', '2:4', '1:4']
    """
    if isinstance(pattern, NM):
        kept = range(1, pattern.m) if pattern.m <= _SMALL else (1 << k for k in range((pattern.m - 1).bit_length()))
        return tuple(replace(pattern, n=n) for n in sorted({*kept, pattern.n} - {pattern.m}, reverse=True))
    one: Any = pattern
    wanted = {*_SPARSITIES, one.sparsity, round((1 + one.sparsity) / 2, 4)}
    members = (_with_sparsity(one, sparsity) for sparsity in sorted(wanted))
    return tuple(member for member in members if member is not None)


def decide(
    model: nn.Module,
    choices: Sequence[Assignment],
    budget: str,
    score: str,
    data: Calibration | None,
    limit: Limit | None,
) -> list[Assignment]:
    """Replace the pattern of every choice by what a planned budget gives that weight; other budgets change nothing.

    Raises
    ------
    ArgumentError
        If the budget needs data or a limit and has none, takes no limit and has one, or cannot reach it.
    """
    if limit is not None and budget != "constrained":
        raise ArgumentError(
            f"limit goes with budget='constrained', and the budget is {budget!r}; leave one of them out"
        )
    if budget not in PLANNED:
        return list(choices)
    if data is None:
        raise ArgumentError(
            f"budget {budget!r} measures the loss of every layer; it needs data=Calibration(batches, loss)"
        )
    decided = PLANNED[budget](model, choices, score, data, limit)
    return [_redecided(choice, decided) for choice in choices]


def sensitivity(
    model: nn.Module, choices: Sequence[Assignment], score: str, data: Calibration, limit: Limit | None
) -> Decided:
    """Give each weight the member of its pattern's family that together raise the loss least at the density asked for."""
    decided: dict[str, Pattern | None] = {}
    for scan, pattern in _scans(model, choices, score, data, family):
        decided |= _members(scan, pattern) if pattern.fixed else _sparsities(scan, pattern)
    return decided


def constrained(
    model: nn.Module, choices: Sequence[Assignment], score: str, data: Calibration, limit: Limit | None
) -> Decided:
    """Give each weight the pattern, or none, that together raise the loss least within a size or a latency."""
    if limit is None:
        raise ArgumentError("budget 'constrained' needs limit=Limit(size=...) or Limit(latency=..., seconds=...)")
    named = tuple(parse(one) if isinstance(one, str) else one for one in limit.patterns)
    offers: dict[str, tuple[Candidate, ...]] = {}
    for scan, _ in _scans(model, choices, score, data, (lambda _: named) if named else family):
        offers |= candidates(scan, seconds=limit.seconds)
    found = plan(offers, latency=limit.latency, size=limit.size)
    return {name: one.pattern for name, one in found.chosen.items()}


PLANNED: dict[str, Callable[[nn.Module, Sequence[Assignment], str, Calibration, Limit | None], Decided]] = {
    "sensitivity": sensitivity,
    "constrained": constrained,
}


def _scans(
    model: nn.Module,
    choices: Sequence[Assignment],
    score: str,
    data: Calibration,
    members: Callable[[Pattern], tuple[Pattern, ...]],
) -> list[tuple[Report, Pattern]]:
    """Scan the weights that share a pattern together; return the scans with their patterns."""
    groups: dict[Pattern, list[str]] = {}
    for choice in choices:
        if choice.pattern is not None:
            groups.setdefault(choice.pattern, []).append(choice.weight.name)
    return [
        (sensitivity_scan(model, members(pattern), data, targets=names, score=score), pattern)
        for pattern, names in groups.items()
    ]


def _redecided(choice: Assignment, decided: Decided) -> Assignment:
    if choice.pattern is None:
        return choice
    pattern = decided[choice.weight.name]
    return replace(choice, pattern=pattern, reason="" if pattern else "the budget leaves it dense")


def _members(scan: Report, pattern: Pattern) -> Decided:
    """Choose among whole patterns: as many elements kept as the one asked for keeps, or fewer.

    A layer that could do with fewer, but would not lose more at the pattern asked for, has that one while there is room: what looks free
    in one layer is not free in all.
    """
    sizes = {str(row["name"]): int(np.prod(np.array(row["shape"]))) for row in scan.rows}
    kept = {
        (str(row["name"]), str(row["pattern"])): float(str(row["density"])) * sizes[str(row["name"])]
        for row in scan.rows
        if row["density"] is not None
    }
    offers = candidates(scan, bytes=kept)  # what is limited is elements, and they count like bytes
    asked = {name: next(one for one in offers[name] if one.pattern == pattern) for name in sizes}
    allowed = sum(kept[name, str(pattern)] for name in sizes)
    found = plan(offers, size=allowed)
    decided = {name: one.pattern for name, one in found.chosen.items()}
    room = allowed - float(found.bytes or 0)
    for name, one in found.chosen.items():
        more = kept[name, str(pattern)] - float(one.bytes or 0)
        if 0 < more <= room and asked[name].loss <= one.loss:
            decided[name], room = pattern, room - more
    return decided


def _sparsities(scan: Report, pattern: Pattern) -> Decided:
    """Choose sparsities between the scanned ones: the loss of each layer is read off the convex hull of its measured points.

    On convex, piecewise linear curves the best split takes the steepest pieces first (per element) until the density is used up.
    """
    one: Any = pattern
    pieces: list[tuple[float, str, float]] = []
    density: dict[str, float] = {}
    sizes: dict[str, int] = {}
    curves = _curves(scan, one)
    for name, (kept, losses, size) in curves.items():
        hull = convex_hull(kept, losses)
        density[name], sizes[name] = float(kept[hull[0]]), size
        steps = zip(np.diff(kept[hull]), np.diff(losses[hull]), strict=True)
        pieces += [(dl / (dk * size), name, float(dk)) for dk, dl in steps]
    room = one.density * sum(sizes.values()) - sum(density[name] * sizes[name] for name in sizes)
    for _, name, more in sorted(pieces):
        taken = min(more, max(0.0, room) / sizes[name])
        density[name] += taken
        room -= taken * sizes[name]
    # What is left after every curve is flat would be kept for nothing; it is kept all the same, evenly, as the pattern asked.
    most = {name: float(kept.max()) for name, (kept, _, _) in curves.items()}
    even = _evened(density, most, sizes, room)
    chosen = {name: 1 - np.floor(1e4 * kept + 1e-6) / 1e4 for name, kept in even.items()}
    return {name: _with_sparsity(one, round(float(s), 4)) if s > 0 else None for name, s in chosen.items()}


def _evened(
    density: Mapping[str, float], most: Mapping[str, float], sizes: Mapping[str, int], room: float
) -> dict[str, float]:
    """Spread what may still be kept over all layers in proportion to what they could still keep."""
    free = sum((most[name] - density[name]) * sizes[name] for name in sizes)
    share = min(1.0, room / free) if room > 0 and free > 0 else 0.0
    return {name: kept + share * (most[name] - kept) for name, kept in density.items()}


def _curves(scan: Report, pattern: Any) -> dict[str, tuple[Any, Any, int]]:
    """Return by weight the densities asked for, the rise of the loss at each, and the number of elements."""
    found: dict[str, list[tuple[float, float, int]]] = {}
    zero = _with_sparsity(pattern, 0.0)
    for row in scan.rows:
        text, rise = str(row["pattern"]), row["loss increase"]
        if isinstance(rise, float) and (text != DENSE or zero is not None):
            kept = 1.0 if text == DENSE else parse(text).density
            found.setdefault(str(row["name"]), []).append((kept, max(0.0, rise), int(np.prod(np.array(row["shape"])))))
    return {
        name: (np.array([p[0] for p in points]), np.array([p[1] for p in points]), points[0][2])
        for name, points in found.items()
    }


def _with_sparsity(pattern: Any, sparsity: float) -> Pattern | None:
    """Return the pattern at another sparsity, None if it has none there."""
    try:
        changed: Pattern = replace(pattern, sparsity=sparsity)
    except PatternError:
        return None
    return changed
