"""From the packed form back to the dense weight, the mask, and the coordinates of each stored value."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..patterns import NM, TileVectorWise

if TYPE_CHECKING:
    from .packed import Packed, Residual

__all__ = ["coordinates", "packed_mask", "unpack"]


def unpack(packed: "Packed") -> NDArray[Any]:
    """Return the dense weight ``[N, K]`` of a packed weight, in the storage type of its values."""
    dense = np.zeros(packed.shape, dtype=packed.values.dtype)
    outputs, inputs = coordinates(packed)
    dense[outputs, inputs] = packed.values
    if packed.residual:
        dense[_residual_rows(packed.residual), packed.residual.columns] = packed.residual.values
    return dense


def packed_mask(packed: "Packed") -> NDArray[np.bool_]:
    """Return the mask ``[N, K]`` of a packed weight, True where an element is stored."""
    mask = np.zeros(packed.shape, dtype=np.bool_)
    mask[coordinates(packed)] = True
    if packed.residual:
        mask[_residual_rows(packed.residual), packed.residual.columns] = True
    return mask


def coordinates(packed: "Packed") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the outputs and the inputs of all entries of ``packed.values``, in order."""
    counts, widths = packed.counts, packed.widths
    first = np.arange(len(counts)) * packed.tile
    columns = packed.columns.astype(np.int64)
    if isinstance(packed.pattern, TileVectorWise) and packed.positions is not None:
        stored, inputs = _vector_coordinates(packed, packed.pattern, columns)
    else:
        repeats = np.repeat(widths, counts)
        inputs = np.repeat(columns, repeats)
        within = np.arange(len(inputs)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        stored = np.repeat(np.repeat(first, counts), repeats) + within
    return (stored if packed.rows is None else packed.rows.astype(np.int64)[stored]), inputs


def _vector_coordinates(
    packed: "Packed", pattern: TileVectorWise, columns: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    stored, inputs, start = [], [], 0
    positions = packed.positions if packed.positions is not None else np.zeros(0, dtype=np.uint8)
    for t, (count, width) in enumerate(zip(packed.counts, packed.widths, strict=True)):
        q = NM(pattern.n, pattern.m).kept(int(count))
        block = positions[start : start + int(width) * q].reshape(int(width), q)
        start += int(width) * q
        compacted = block.astype(np.int64) + np.arange(q) // pattern.n * pattern.m
        inputs.append(columns[packed.pointers[t] + compacted].ravel())
        stored.append(np.repeat(t * packed.tile + np.arange(int(width)), q))
    empty = np.zeros(0, dtype=np.int64)
    return np.concatenate([empty, *stored]), np.concatenate([empty, *inputs])


def _residual_rows(residual: "Residual") -> NDArray[np.int64]:
    return np.repeat(np.arange(len(residual.pointers) - 1), np.diff(residual.pointers))
