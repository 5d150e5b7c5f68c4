"""`statistics`: how much a mask keeps and how evenly."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError

__all__ = ["MaskStatistics", "statistics"]


@dataclass(frozen=True, eq=False)
class MaskStatistics:
    """Density of a mask as a whole, per output, and per tile of outputs.

    Parameters
    ----------
    density, sparsity
        Kept elements over all elements, and one minus that.
    row_density
        Density of each output, ``[N]``.
    tile_density
        Density of each run of `tile` neighbouring outputs, ``[ceil(N / tile)]``.
    balance
        Mean over maximum of the tile densities: 1 when all tiles carry the same load, lower when the densest makes the others
        wait.
    empty_outputs, empty_inputs
        Number of outputs and inputs that keep nothing.
    """

    density: float
    sparsity: float
    row_density: NDArray[np.float64]
    tile_density: NDArray[np.float64]
    balance: float
    empty_outputs: int
    empty_inputs: int


def statistics(mask: NDArray[np.bool_], tile: int = 1) -> MaskStatistics:
    """Return the statistics of a mask ``[N, K]``.

    Parameters
    ----------
    mask
        ``[N, K]``, True where an element is kept.
    tile
        Number of neighbouring outputs in a tile. Default: 1.

    Raises
    ------
    ArgumentError
        If the mask is not a non-empty matrix, or the tile is not positive.

    Examples
    --------
    >>> statistics(np.array([[True, False], [True, True]])).density
    0.75
    """
    if mask.ndim != 2 or not mask.size or tile < 1:
        raise ArgumentError(
            f"`mask` must be a non-empty matrix and `tile` at least 1; got shape {list(mask.shape)} and tile {tile}"
        )
    rows = np.count_nonzero(mask, axis=1) / mask.shape[1]
    starts = np.arange(0, len(mask), tile)
    tiles = np.add.reduceat(rows, starts) / np.diff(np.append(starts, len(mask)))
    density = float(rows.mean())
    return MaskStatistics(
        density=density,
        sparsity=1 - density,
        row_density=rows,
        tile_density=tiles,
        balance=float(tiles.mean() / tiles.max()) if tiles.any() else 1.0,
        empty_outputs=int(np.count_nonzero(rows == 0)),
        empty_inputs=int(np.count_nonzero(~mask.any(axis=0))),
    )
