"""`pack`: from a masked weight to `Packed`, exactly."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError, PatternError
from ..patterns import (
    NM,
    Block,
    Pattern,
    TileElementWise,
    TileVectorWise,
    TileWise,
    nm_mask,
    split_elements,
    tile_columns,
    verify_mask,
)
from .packed import Packed, Residual, ValueType, index_dtype, storage_dtype

__all__ = ["pack"]


def pack(
    weight: NDArray[Any],
    pattern: Pattern,
    mask: NDArray[np.bool_] | None = None,
    *,
    dtype: ValueType | None = None,
) -> Packed:
    """Return the packed form of a pruned weight.

    Parameters
    ----------
    weight
        ``[N, K]``, float32 or float16, or uint16 holding bfloat16 bits with ``dtype="bfloat16"``.
    pattern
        The pattern the weight obeys.
    mask
        ``[N, K]``, True where an element is kept, even if it is zero. By default non-zero elements are kept, and groups
        with fewer elements than the pattern allows are padded with zeros.
    dtype
        Type of the values. Default: that of `weight`.

    Returns
    -------
    Packed
        ``packed.unpack()`` equals ``where(mask, weight, 0)`` bit for bit.

    Raises
    ------
    FormatError
        If the weight is not a float matrix, or has values outside the mask.
    PatternError
        If the mask does not obey the pattern; the message names the first violation.

    Examples
    --------
    >>> packed = pack(np.array([[0, 1, 2, 0]], dtype=np.float32), NM(2, 4))
    >>> packed.columns, packed.values
    (array([1, 2], dtype=uint16), array([1., 2.], dtype=float32))
    """
    kind = dtype or _value_type(weight)
    if weight.ndim != 2 or weight.dtype != storage_dtype(kind):
        raise FormatError(
            f"a {kind} weight to pack must be a {storage_dtype(kind)} matrix; got {weight.dtype} {list(weight.shape)}"
        )
    keep = weight != 0 if mask is None else mask
    if mask is not None and (mask.shape != weight.shape or mask.dtype != np.bool_):
        raise FormatError(
            f"the mask must be boolean of shape {list(weight.shape)}, got {mask.dtype} {list(mask.shape)}"
        )
    if mask is not None and (weight != 0)[~mask].any():
        row, column = (int(i) for i in np.argwhere((weight != 0) & ~mask)[0])
        raise FormatError(
            f"the weight is {weight[row, column]} at output {row}, input {column}, which the mask prunes; apply the mask first"
        )
    verdict = verify_mask(pattern, keep, check_density=False)
    if not verdict:
        raise PatternError(f"the weight does not obey {pattern}: {verdict.message}")
    match pattern:
        case TileElementWise():
            base, extra = split_elements(keep, pattern.tile)
            return _tiled(weight, pattern, kind, base, pattern.tile, _residual(weight, extra))
        case TileVectorWise():
            return _vector(weight, pattern, kind, keep)
        case TileWise():
            return _tiled(weight, pattern, kind, keep, pattern.tile)
        case NM():
            full = _filled(keep, pattern)
            return _shared(weight, pattern, kind, full, pattern.tile)
        case Block():
            return _shared(weight, pattern, kind, _whole_blocks(keep, pattern), pattern.rows)
        case _:
            return _shared(weight, pattern, kind, keep, 1)


def _value_type(weight: NDArray[Any]) -> ValueType:
    if weight.dtype == np.float32:
        return "float32"
    if weight.dtype == np.float16:
        return "float16"
    raise FormatError(
        f"a weight to pack must be float32 or float16, or bfloat16 bits in uint16 with dtype='bfloat16'; got {weight.dtype}"
    )


def _shared(weight: NDArray[Any], pattern: Pattern, kind: ValueType, mask: NDArray[np.bool_], tile: int) -> Packed:
    """Pack a weight whose outputs are all stored in order, with columns shared by every `tile` of them."""
    starts = np.arange(0, len(mask), tile)
    columns = mask[starts]
    tiles, kept = np.nonzero(columns)
    pointers = np.append(0, np.cumsum(np.count_nonzero(columns, axis=1))).astype(np.int64)
    # All tiles but a narrow last one are [count, tile] blocks: gather those at once, then the last.
    whole = len(mask) // tile
    cut = int(pointers[whole])
    body = weight[: whole * tile].reshape(whole, tile, weight.shape[1])[tiles[:cut], :, kept[:cut]].ravel()
    tail = weight[whole * tile :, kept[cut:]].T.ravel()
    return Packed(
        pattern=pattern,
        shape=(weight.shape[0], weight.shape[1]),
        dtype=kind,
        tile=tile,
        values=np.concatenate([body, tail]),
        columns=kept.astype(index_dtype(weight.shape[1])),
        pointers=pointers,
    )


def _tiled(
    weight: NDArray[Any],
    pattern: Pattern,
    kind: ValueType,
    mask: NDArray[np.bool_],
    tile: int,
    residual: Residual | None = None,
) -> Packed:
    """Pack a tile-wise weight: the non-empty outputs, regrouped in order."""
    groups = tile_columns(mask, tile)
    blocks = [weight[np.ix_(rows, columns)].T.ravel() for rows, columns in groups]
    return _assemble(weight, pattern, kind, tile, groups, blocks, residual=residual)


def _vector(weight: NDArray[Any], pattern: TileVectorWise, kind: ValueType, mask: NDArray[np.bool_]) -> Packed:
    """Pack a tile-vector-wise weight: tiles of compacted columns, each output with its own n of every m."""
    groups = tile_columns(mask, pattern.tile)
    blocks, positions = [], []
    for rows, columns in groups:
        part = np.ix_(rows, columns)
        full = _filled(mask[part], pattern.inner)
        chosen = np.nonzero(full)[1].reshape(len(rows), -1)
        blocks.append(np.take_along_axis(weight[part], chosen, axis=1).ravel())
        positions.append((chosen % pattern.m).astype(np.uint8).ravel())
    inner = np.concatenate([np.zeros(0, dtype=np.uint8), *positions])
    return _assemble(weight, pattern, kind, pattern.tile, groups, blocks, positions=inner)


def _assemble(
    weight: NDArray[Any],
    pattern: Pattern,
    kind: ValueType,
    tile: int,
    groups: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
    blocks: list[NDArray[Any]],
    *,
    positions: NDArray[np.uint8] | None = None,
    residual: Residual | None = None,
) -> Packed:
    rows = np.concatenate([np.zeros(0, dtype=np.int64), *(rows for rows, _ in groups)])
    every = len(rows) == len(weight)
    columns = np.concatenate([np.zeros(0, dtype=np.int64), *(columns for _, columns in groups)])
    return Packed(
        pattern=pattern,
        shape=(weight.shape[0], weight.shape[1]),
        dtype=kind,
        tile=tile,
        values=np.concatenate([np.zeros(0, dtype=weight.dtype), *blocks]),
        columns=columns.astype(index_dtype(weight.shape[1])),
        pointers=np.cumsum([0, *(len(c) for _, c in groups)], dtype=np.int64),
        rows=None if every else rows.astype(np.int32),
        positions=positions,
        residual=residual,
    )


def _residual(weight: NDArray[Any], extra: NDArray[np.bool_]) -> Residual:
    outputs, inputs = np.nonzero(extra)
    return Residual(
        pointers=np.append(0, np.cumsum(np.count_nonzero(extra, axis=1))).astype(np.int64),
        columns=inputs.astype(index_dtype(weight.shape[1])),
        values=weight[outputs, inputs],
    )


def _filled(mask: NDArray[np.bool_], pattern: NM) -> NDArray[np.bool_]:
    """Return a mask with exactly n kept in every group, shared within each tile: those kept, then the lowest free indices."""
    starts = np.arange(0, len(mask), pattern.tile)
    shared = np.logical_or.reduceat(mask, starts, axis=0).astype(np.float32)
    full = nm_mask(shared, pattern.n, pattern.m)
    return np.repeat(full, np.diff(np.append(starts, len(mask))), axis=0)


def _whole_blocks(mask: NDArray[np.bool_], pattern: Block) -> NDArray[np.bool_]:
    """Return the mask with all non-empty blocks kept as a whole."""
    rows = np.arange(0, mask.shape[0], pattern.rows)
    columns = np.arange(0, mask.shape[1], pattern.cols)
    blocks = np.logical_or.reduceat(np.logical_or.reduceat(mask, rows, axis=0), columns, axis=1)
    tall = np.repeat(blocks, np.diff(np.append(rows, mask.shape[0])), axis=0)
    return np.repeat(tall, np.diff(np.append(columns, mask.shape[1])), axis=1)
