"""`verify_mask`: whether a mask obeys a pattern, and where it first fails."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .tilewise import split_elements, tile_columns
from .values import NM, Block, Pattern, TileElementWise, TileVectorWise, TileWise, Unstructured

__all__ = ["Verdict", "verify_mask"]

_AT_ONCE = 1 << 20
"""Elements counted at once, so that temporary memory does not grow with the mask."""

_TELLING = 32
"""With fewer inputs, outputs keep so few elements that tile columns and restored elements cannot be told apart."""


@dataclass(frozen=True)
class Verdict:
    """Result of `verify_mask`; true if the mask obeys the pattern.

    Parameters
    ----------
    ok
        True if the mask obeys the pattern.
    message
        One sentence: what holds, or what fails and where.
    where
        ``(output, input)`` of the first violation; None if there is none or it concerns the mask as a whole.
    """

    ok: bool
    message: str
    where: tuple[int, int] | None = None

    def __bool__(self) -> bool:
        return self.ok


def verify_mask(
    pattern: Pattern, mask: NDArray[np.bool_], *, exact: bool = False, check_density: bool = True
) -> Verdict:
    """Return whether a mask obeys a pattern and, if not, where it first fails.

    Parameters
    ----------
    pattern
        The pattern to check against.
    mask
        ``[N, K]``, True where an element is kept (or not zero).
    exact
        Require that every group keeps exactly as many elements as the pattern allows. By default it may keep fewer, because
        kept weights can happen to be zero.
    check_density
        For patterns with a sparsity, also require that the mask is at least that sparse. Switch this off for a single layer
        of a globally ranked model, where only the model as a whole meets the target. Default: True.

    Examples
    --------
    >>> verify_mask(NM(2, 4), np.array([[True, True, True, False]])).message
    'output 0 keeps 3 of the inputs 0 to 3, but 2:4 allows 2'
    """
    refusal = pattern.refusal(mask.shape)
    if refusal:
        return Verdict(False, f"the weight cannot take {pattern}: {refusal}")
    match pattern:
        case NM():
            fault = _nm_fault(pattern, mask, exact)
        case TileWise():
            fault = _tile_fault(mask, pattern.tile) if exact else None
        case TileElementWise():
            # Elements are restored over all layers at once, so one layer may get most of them.
            fault = _element_fault(pattern, mask) if check_density else None
        case TileVectorWise():
            fault = _vector_fault(pattern, mask, exact)
        case Block():
            fault = _block_fault(pattern, mask) if exact else None
        case _:
            fault = None
    if fault is None and check_density and not pattern.fixed:
        fault = _density_fault(pattern, mask)
    if fault is not None:  # a Verdict that is false
        return fault
    return Verdict(True, f"{pattern} holds{' exactly' if exact else ''}")


def _nm_fault(pattern: NM, mask: NDArray[np.bool_], exact: bool) -> Verdict | None:
    starts = np.arange(0, len(mask), pattern.tile)
    shared = np.logical_or.reduceat(mask, starts, axis=0) if pattern.tile > 1 else mask
    fault = _group_fault(shared, pattern.n, pattern.m, exact)
    if fault:
        (tile, group), count, allowed = fault
        row, first = tile * pattern.tile, group * pattern.m
        last, top = min(first + pattern.m, mask.shape[1]) - 1, min(row + pattern.tile, len(mask)) - 1
        who = f"output {row} keeps" if pattern.tile == 1 else f"outputs {row} to {top} together keep"
        verb = "needs" if count < allowed else "allows"
        return Verdict(
            False,
            f"{who} {count} of the inputs {first} to {last}, but {pattern} {verb} {allowed}",
            (row, first),
        )
    if exact and pattern.tile > 1:
        ragged = np.argwhere(mask != np.repeat(shared, pattern.tile, axis=0)[: len(mask)])
        if len(ragged):
            row, column = (int(i) for i in ragged[0])
            return Verdict(
                False,
                f"output {row} prunes input {column}, which its tile of {pattern.tile} keeps",
                (row, column),
            )
    if pattern.transposable:
        fault = _group_fault(mask.T, pattern.n, pattern.m, exact)
        if fault:
            (column, group), count, allowed = fault
            return Verdict(
                False,
                f"input {column} is kept by {count} of the outputs {group * pattern.m} to {group * pattern.m + pattern.m - 1}, "
                f"but {pattern} allows {allowed}",
                (group * pattern.m, column),
            )
    return None


def _group_fault(mask: NDArray[np.bool_], n: int, m: int, exact: bool) -> tuple[tuple[int, int], int, int] | None:
    """Return ((row, group), kept, allowed) of the first group of m along the last axis that breaks n:m."""
    starts = np.arange(0, mask.shape[1], m)
    allowed = np.minimum(n, np.diff(np.append(starts, mask.shape[1])))
    step = max(1, _AT_ONCE // mask.shape[1])
    for first in range(0, len(mask), step):
        counts = np.add.reduceat(mask[first : first + step], starts, axis=1, dtype=np.int64)
        wrong = np.argwhere(counts != allowed if exact else counts > allowed)
        if len(wrong):
            row, group = (int(i) for i in wrong[0])
            return (first + row, group), int(counts[row, group]), int(allowed[group])
    return None


def _tile_fault(mask: NDArray[np.bool_], tile: int) -> Verdict | None:
    """Find the first output that prunes a column its tile keeps."""
    for rows, columns in tile_columns(mask, tile):
        missing = np.argwhere(~mask[np.ix_(rows, columns)])
        if len(missing):
            row, column = int(rows[missing[0][0]]), int(columns[missing[0][1]])
            return Verdict(
                False,
                f"output {row} prunes input {column}, which the other outputs of its tile ({rows[0]} to {rows[-1]}) keep",
                (row, column),
            )
    return None


def _element_fault(pattern: TileElementWise, mask: NDArray[np.bool_]) -> Verdict | None:
    if mask.shape[1] < _TELLING:
        return None
    _, restored = split_elements(mask, pattern.tile, fewest=True)
    # Some cut between outputs is the one that pruning made, and the fewest elements are found there or close by, so more than twice the
    # stated extra is a clear violation. Elements also replace tile columns that just missed the budget: up to a tile on each side.
    limit = 2 * (pattern.extra * mask.size + pattern.tile)
    count = int(np.count_nonzero(restored))
    if count <= limit:
        return None
    row, column = (int(i) for i in np.argwhere(restored)[0])
    return Verdict(
        False,
        f"{count} elements lie outside whole tile columns, {100 * count / mask.size:.1f}% of all, but {pattern} restores "
        f"{100 * pattern.extra:g}%",
        (row, column),
    )


def _vector_fault(pattern: TileVectorWise, mask: NDArray[np.bool_], exact: bool) -> Verdict | None:
    for rows, columns in tile_columns(mask, pattern.tile):
        fault = _group_fault(mask[np.ix_(rows, columns)], pattern.n, pattern.m, exact)
        if fault:
            (row, group), count, allowed = fault
            first = int(columns[group * pattern.m])
            return Verdict(
                False,
                f"output {rows[row]} keeps {count} of a group of {pattern.m} compacted inputs that starts at input {first}, but "
                f"{pattern} {'needs' if count < allowed else 'allows'} {allowed}",
                (int(rows[row]), first),
            )
    return None


def _block_fault(pattern: Block, mask: NDArray[np.bool_]) -> Verdict | None:
    rows = np.arange(0, mask.shape[0], pattern.rows)
    columns = np.arange(0, mask.shape[1], pattern.cols)
    counts = np.add.reduceat(np.add.reduceat(mask, rows, axis=0, dtype=np.int64), columns, axis=1)
    full = np.outer(np.diff(np.append(rows, mask.shape[0])), np.diff(np.append(columns, mask.shape[1])))
    wrong = np.argwhere((counts != 0) & (counts != full))
    if not len(wrong):
        return None
    row, column = int(rows[wrong[0][0]]), int(columns[wrong[0][1]])
    kept, size = int(counts[tuple(wrong[0])]), int(full[tuple(wrong[0])])
    return Verdict(
        False,
        f"the block at output {row}, input {column} keeps {kept} of its {size} elements, but {pattern} keeps or prunes whole blocks",
        (row, column),
    )


def _density_fault(pattern: Pattern, mask: NDArray[np.bool_]) -> Verdict | None:
    """Compare with the target, allowing TVW for its rounding: one last group per tile and a widened last tile."""
    slack = 0.5 / mask.size
    if isinstance(pattern, TileVectorWise):
        slack += pattern.n / mask.shape[1] + pattern.m / pattern.n / len(mask)
    density = np.count_nonzero(mask) / mask.size
    if density <= pattern.density + slack:
        return None
    kind = "elements" if isinstance(pattern, Unstructured) else "of all elements"
    return Verdict(
        False,
        f"the mask keeps {100 * density:.2f}% {kind} (sparsity {100 - 100 * density:.2f}%), but {pattern} asks for a sparsity of "
        f"{100 - 100 * pattern.density:g}%",
    )
