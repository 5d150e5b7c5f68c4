"""The index of a packed weight as bytes: which columns each tile keeps, and which of them each output uses.

Pointers are never stored: they are constant or follow from the columns.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from ..patterns import NM, Block, Pattern, TileVectorWise
from .bits import DAMAGED, bitmap_bytes, pack_bitmap, unpack_bitmap
from .packed import index_dtype
from .ranks import LARGEST_M, pack_ranks, ranks_bytes, unpack_ranks
from .sets import SET_ENCODINGS, Grid, decode_set, encode_set

__all__ = [
    "EncodedIndex",
    "decode_columns",
    "decode_inner",
    "encode_columns",
    "encode_inner",
    "encodings_of",
    "inner_counts",
]

_QUICK = 16
"""Largest m whose combination numbers always decode quickly, from tables or in a few steps."""


@dataclass(frozen=True, eq=False)
class EncodedIndex:
    """The bytes of an index, the name of its encoding, and the number of entries (kept columns, or kept blocks) it lists."""

    encoding: str
    count: int
    data: NDArray[np.uint8]


def encodings_of(pattern: Pattern) -> tuple[str, ...]:
    """Return the encodings a pattern's index may have; for practical n:m patterns `rank` is always the smallest."""
    return ("rank", "bitmap") if isinstance(pattern, NM) and pattern.m <= LARGEST_M else SET_ENCODINGS


def encode_columns(pattern: Pattern, inputs: int, pointers: NDArray[np.int64], columns: NDArray[Any]) -> EncodedIndex:
    """Return the index of ``columns[P]``, which ascend within each of the T tiles delimited by ``pointers[T + 1]``."""
    tiles = len(pointers) - 1
    if isinstance(pattern, NM) and pattern.m <= LARGEST_M:
        table = columns.reshape(tiles, pattern.kept(inputs))
        ranks = _encode_nm(pattern, inputs, table)
        if not _bitmap_is_as_good(pattern, inputs, tiles, len(ranks)):
            return EncodedIndex("rank", columns.size, ranks)
        flags = np.zeros((tiles, inputs), dtype=np.bool_)
        np.put_along_axis(flags, table.astype(np.int64), True, axis=1)
        return EncodedIndex("bitmap", columns.size, pack_bitmap(flags.reshape(-1)))
    width = _unit(pattern)
    grid = Grid(tiles, -(-inputs // width))
    tile_of = np.repeat(np.arange(tiles, dtype=np.int64), np.diff(pointers))
    starts = columns if width == 1 else columns[columns % width == 0]
    if width > 1:
        tile_of = tile_of[columns % width == 0]
    positions = tile_of * grid.units + starts.astype(np.int64) // width
    encoding, data = encode_set(positions, grid)
    return EncodedIndex(encoding, len(positions), data)


def decode_columns(
    pattern: Pattern, inputs: int, tiles: int, index: EncodedIndex, most: int, where: str
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return ``pointers[T + 1]`` and ``columns[P]`` of an index of T tiles.

    `most` bounds P by the number of values actually in the file; nothing larger is allocated.

    Raises
    ------
    FormatError
        If the bytes are not an index of this pattern.
    """
    known = encodings_of(pattern)
    if index.encoding not in known:
        raise FormatError(
            f"{where}: unknown encoding {index.encoding!r} for {pattern}; expected one of {', '.join(known)}; {DAMAGED}"
        )
    if index.count > most:
        raise FormatError(
            f"{where}: the index claims {index.count} kept columns, but the stored values leave room for {most}; {DAMAGED}"
        )
    if isinstance(pattern, NM):
        kept = tiles * pattern.kept(inputs)
        if index.count != kept:
            raise FormatError(f"{where}: {index.count} kept columns, but {pattern} keeps {kept} here; {DAMAGED}")
    if index.encoding == "rank":
        assert isinstance(pattern, NM)
        table = _decode_nm(pattern, inputs, tiles, index.data, where)
        return np.arange(tiles + 1, dtype=np.int64) * table.shape[1], table.reshape(-1)
    if isinstance(pattern, NM) and pattern.m <= LARGEST_M:
        return _decode_nm_bitmap(pattern, inputs, tiles, index.data, where)
    width = _unit(pattern)
    grid = Grid(tiles, -(-inputs // width))
    positions = decode_set(index.encoding, index.data, index.count, grid, where)
    if width > 1:
        return _expand_blocks(positions, grid, width, inputs, most, where)
    edges = np.arange(tiles + 1, dtype=np.int64) * grid.units
    pointers = np.searchsorted(positions, edges).astype(np.int64)
    columns = (positions - np.repeat(edges[:-1], np.diff(pointers))).astype(index_dtype(inputs))
    if isinstance(pattern, NM):
        _check_groups(pattern, inputs, tiles, columns, where)
    return pointers, columns


def _bitmap_is_as_good(pattern: NM, inputs: int, tiles: int, ranks: int) -> bool:
    """Return True if a bitmap, which is read many times faster than combination numbers of m > 16, costs at most one byte in 200.

    The cost is relative to the whole weight at 16 bits per value, assuming full tiles.
    """
    values = 2 * tiles * pattern.tile * pattern.kept(inputs)
    return pattern.m > _QUICK and 200 * (bitmap_bytes(tiles * inputs) - ranks) <= values + ranks


def _unit(pattern: Pattern) -> int:
    return pattern.cols if isinstance(pattern, Block) else 1


def _encode_nm(pattern: NM, inputs: int, table: NDArray[Any]) -> NDArray[np.uint8]:
    n, m = pattern.n, pattern.m
    groups, rest = divmod(inputs, m)
    # If no group is short, the column after the last one may be 65,536, which overflows uint16: hence the wider type.
    wide = table.astype(np.uint32)
    whole = wide[:, : groups * n].reshape(len(table), groups, n) - (np.arange(groups, dtype=np.uint32) * m)[:, None]
    tail = wide[:, groups * n :] - np.uint32(groups * m)
    return np.concatenate([pack_ranks(whole.reshape(-1, n), m), pack_ranks(tail, rest)])


def _decode_nm(pattern: NM, inputs: int, tiles: int, data: NDArray[np.uint8], where: str) -> NDArray[Any]:
    n, m = pattern.n, pattern.m
    groups, rest = divmod(inputs, m)
    kept = min(n, rest)
    cut = ranks_bytes(tiles * groups, m, n)
    expected = cut + ranks_bytes(tiles, rest, kept)
    if len(data) != expected:
        raise FormatError(
            f"{where}: {len(data)} bytes, but {tiles} tiles of {inputs} inputs at {pattern} take {expected}; {DAMAGED}"
        )
    kind = index_dtype(inputs)
    table = np.empty((tiles, groups * n + kept), dtype=kind)
    whole = unpack_ranks(data[:cut], tiles * groups, m, n, where).reshape(tiles, groups, n)
    base = (np.arange(groups) * m).astype(kind)
    np.add(whole, base[:, None], out=table[:, : groups * n].reshape(tiles, groups, n), casting="unsafe")
    if kept:
        table[:, groups * n :] = unpack_ranks(data[cut:], tiles, rest, kept, where)
        table[:, groups * n :] += kind.type(groups * m)
    return table


def _decode_nm_bitmap(
    pattern: NM, inputs: int, tiles: int, data: NDArray[np.uint8], where: str
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    if len(data) != bitmap_bytes(tiles * inputs):
        raise FormatError(
            f"{where}: {len(data)} bytes, but a bitmap of {tiles} tiles of {inputs} inputs takes {bitmap_bytes(tiles * inputs)}; {DAMAGED}"
        )
    flags = unpack_bitmap(data, tiles * inputs, where).reshape(tiles, inputs)
    starts = np.arange(0, inputs, pattern.m)
    found = np.add.reduceat(flags, starts, axis=1, dtype=np.uint8)
    expected = np.minimum(pattern.n, np.diff(np.append(starts, inputs)))
    if (found != expected).any():
        tile, group = (int(i) for i in np.argwhere(found != expected)[0])
        raise FormatError(
            f"{where}: group {group} of tile {tile} keeps {int(found[tile, group])} columns, but {pattern} keeps "
            f"{int(expected[group])}; {DAMAGED}"
        )
    columns = (np.flatnonzero(flags) % inputs).astype(index_dtype(inputs))
    return np.arange(tiles + 1, dtype=np.int64) * int(expected.sum()), columns


def _check_groups(pattern: NM, inputs: int, tiles: int, columns: NDArray[Any], where: str) -> None:
    """Check that every group of an n:m index stored as a set keeps n; tiles x groups is at most the number of columns."""
    groups, rest = divmod(inputs, pattern.m)
    expected = np.full(groups + (rest > 0), pattern.n)
    if rest:
        expected[-1] = min(pattern.n, rest)
    tile_of = np.repeat(np.arange(tiles), pattern.kept(inputs)) if len(columns) else np.zeros(0, dtype=np.int64)
    groups_of = columns.astype(np.int64) // pattern.m  # m itself may overflow uint16
    found = np.bincount(tile_of * len(expected) + groups_of, minlength=tiles * len(expected))
    wrong = np.flatnonzero(found != np.tile(expected, tiles))
    if len(wrong):
        tile, group = divmod(int(wrong[0]), len(expected))
        raise FormatError(
            f"{where}: group {group} of tile {tile} keeps {int(found[wrong[0]])} columns, but {pattern} keeps "
            f"{int(expected[group])}; {DAMAGED}"
        )


def _expand_blocks(
    blocks: NDArray[np.int64], grid: Grid, width: int, inputs: int, most: int, where: str
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the columns of kept blocks; the last block of a row may be narrower than `width`."""
    tile_of, unit = np.divmod(blocks, grid.units)
    starts = unit * width
    lengths = np.minimum(width, inputs - starts)
    total = int(lengths.sum())
    if total > most:
        raise FormatError(
            f"{where}: the index claims blocks of {total} columns, but the stored values leave room for {most}; {DAMAGED}"
        )
    ends = np.cumsum(lengths)
    columns = np.repeat(starts - (ends - lengths), lengths) + np.arange(total)
    before = np.concatenate([np.zeros(1, dtype=np.int64), ends])
    pointers = before[np.searchsorted(tile_of, np.arange(grid.tiles + 1))]
    return pointers, columns.astype(index_dtype(inputs))


def inner_counts(pattern: TileVectorWise, columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many columns each output of a tile keeps, for tiles with ``columns[T]`` kept columns."""
    return columns // pattern.m * pattern.n + np.minimum(pattern.n, columns % pattern.m)


def _inner_parts(pattern: TileVectorWise, columns: NDArray[np.int64]) -> list[tuple[int, int, NDArray[np.bool_]]]:
    """Split the inner positions by the length of their group: m first, then short last groups of 1 to m - 1.

    ``columns[O]`` is the number of kept columns of each output's tile. Returns (length, kept, mask of positions) for each part.
    """
    n, m = pattern.n, pattern.m
    each = inner_counts(pattern, columns)
    starts = np.cumsum(each) - each
    total = int(each.sum())
    whole = np.arange(total) - np.repeat(starts, each) < np.repeat(columns // m * n, each)
    rest = np.repeat(columns % m, each)
    parts = [(m, n, whole)]
    parts += [(r, min(n, r), ~whole & (rest == r)) for r in np.unique(columns[columns % m > 0] % m).tolist()]
    return parts


def encode_inner(
    pattern: TileVectorWise, columns: NDArray[np.int64], positions: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Return TVW's second index: the positions inside each group of m kept columns, output after output.

    Parameters
    ----------
    pattern
        The pattern; its m is at most 64.
    columns
        ``int64[O]``, the number of columns kept by the tile of each stored output, without tiles that keep none.
    positions
        ``uint8[Q]``, as in `Packed`.
    """
    streams = [
        pack_ranks(positions[chosen].reshape(-1, kept), length)
        for length, kept, chosen in _inner_parts(pattern, columns)
    ]
    return np.concatenate(streams)


def decode_inner(
    pattern: TileVectorWise, columns: NDArray[np.int64], data: NDArray[np.uint8], where: str
) -> NDArray[np.uint8]:
    """Return the positions that `encode_inner` wrote; the caller has checked `columns` against the stored values.

    Raises
    ------
    FormatError
        If the bytes are not such an index.
    """
    parts = _inner_parts(pattern, columns)
    sizes = [ranks_bytes(int(np.count_nonzero(chosen)) // kept, length, kept) for length, kept, chosen in parts]
    if len(data) != sum(sizes):
        raise FormatError(
            f"{where}: {len(data)} bytes, but the {len(parts[0][2])} values of this weight take {sum(sizes)}; {DAMAGED}"
        )
    out = np.empty(len(parts[0][2]), dtype=np.uint8)
    start = 0
    for (length, kept, chosen), size in zip(parts, sizes, strict=True):
        count = int(np.count_nonzero(chosen)) // kept
        out[chosen] = unpack_ranks(data[start : start + size], count, length, kept, where).reshape(-1)
        start += size
    return out
