"""A set of positions below a known limit as bytes: bitmap, sorted (Elias-Fano), or the complement sorted (holes).

The positions are ``tile * units + unit``, so the limit is ``tiles * units``. Which encoding is smallest follows from the counts
alone: about H(d) + 0.6 d bits per position at density d, whatever the set looks like.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from .bits import (
    DAMAGED,
    bitmap_bytes,
    check_padding,
    fields_bytes,
    pack_bitmap,
    pack_fields,
    unpack_bitmap,
    unpack_fields,
)

__all__ = ["SET_ENCODINGS", "Grid", "decode_set", "encode_set", "set_bytes"]

SET_ENCODINGS = ("bitmap", "sorted", "holes")
"""Encodings, in the order that breaks ties."""

_MOST_LOW_BITS = 10


@dataclass(frozen=True)
class Grid:
    """Grid of positions numbered ``tile * units + unit``; it is empty if either side is 0."""

    tiles: int
    units: int

    @property
    def limit(self) -> int:
        """Number of positions."""
        return self.tiles * self.units


def set_bytes(encoding: str, count: int, grid: Grid) -> int:
    """Return the exact size in bytes of a set of `count` positions."""
    if grid.limit == 0:
        return 0
    if encoding == "bitmap":
        return bitmap_bytes(grid.limit)
    listed = grid.limit - count if encoding == "holes" else count
    low = _low_bits(listed, grid)
    return fields_bytes(listed, low) + bitmap_bytes(_high_bits(listed, low, grid))


def encode_set(positions: NDArray[np.int64], grid: Grid) -> tuple[str, NDArray[np.uint8]]:
    """Return the smallest encoding of ascending ``positions[P]`` and its bytes."""
    encoding = min(SET_ENCODINGS, key=lambda e: set_bytes(e, len(positions), grid))
    if grid.limit == 0:
        return encoding, np.zeros(0, dtype=np.uint8)
    if encoding == "sorted":
        return encoding, _encode_sorted(positions, grid)
    flags = np.zeros(grid.limit, dtype=np.bool_)
    flags[positions] = True
    if encoding == "bitmap":
        return encoding, pack_bitmap(flags)
    return encoding, _encode_sorted(np.flatnonzero(~flags), grid)


def decode_set(encoding: str, data: NDArray[np.uint8], count: int, grid: Grid, where: str) -> NDArray[np.int64]:
    """Return the ascending positions ``int64[count]`` of a set.

    The caller has bounded `count` by data that is actually in the file; all allocations here are within a fixed multiple of
    `count` and of the length of `data`.

    Raises
    ------
    FormatError
        If the length does not match the counts, or the bits are not a set of `count` positions.
    """
    if encoding not in SET_ENCODINGS:
        raise FormatError(f"{where}: unknown encoding {encoding!r}; expected one of {', '.join(SET_ENCODINGS)}")
    if not 0 <= count <= grid.limit:
        raise FormatError(f"{where}: the index claims {count} kept positions out of {grid.limit}; {DAMAGED}")
    expected = set_bytes(encoding, count, grid)
    if len(data) != expected:
        raise FormatError(
            f"{where}: {len(data)} bytes, but {count} of {grid.limit} positions as {encoding} take {expected}; {DAMAGED}"
        )
    if grid.limit == 0:
        return np.zeros(0, dtype=np.int64)
    if encoding == "bitmap":
        return _counted(unpack_bitmap(data, grid.limit, where), count, where)
    if encoding == "sorted":
        return _decode_sorted(data, count, grid, where)
    flags = np.ones(grid.limit, dtype=np.bool_)
    flags[_decode_sorted(data, grid.limit - count, grid, where)] = False
    return np.flatnonzero(flags)


def _low_bits(listed: int, grid: Grid) -> int:
    """Return the number of low bits of a position that are stored directly; the rest goes to the unary part.

    floor(log2(limit / listed)) is the usual optimum. It is limited to floor(log2(units)) and to 10, so that the unary part has
    at least one bit per tile and one bit per 1,024 positions. The length of the index then bounds the tiles and inputs that a
    file can claim, whatever else it says.
    """
    room = min(_MOST_LOW_BITS, grid.units.bit_length() - 1)
    return min(room, (grid.limit // listed).bit_length() - 1) if listed else room


def _high_bits(listed: int, low: int, grid: Grid) -> int:
    return listed + ((grid.limit - 1) >> low) + 1


def _encode_sorted(positions: NDArray[np.int64], grid: Grid) -> NDArray[np.uint8]:
    listed = len(positions)
    low = _low_bits(listed, grid)
    flags = np.zeros(_high_bits(listed, low, grid), dtype=np.bool_)
    flags[(positions >> low) + np.arange(listed)] = True
    return np.concatenate([pack_fields(positions & ((1 << low) - 1), low), pack_bitmap(flags)])


def _decode_sorted(data: NDArray[np.uint8], listed: int, grid: Grid, where: str) -> NDArray[np.int64]:
    low = _low_bits(listed, grid)
    cut = fields_bytes(listed, low)
    marks = _counted(unpack_bitmap(data[cut:], _high_bits(listed, low, grid), where), listed, where)
    positions = (marks - np.arange(listed)) << low
    if low:
        positions |= unpack_fields(data[:cut], listed, low, where).astype(np.int64)
    else:
        check_padding(data[:cut], 0, where)
    late = np.flatnonzero(positions[1:] <= positions[:-1])
    if len(late):
        first = int(late[0])
        raise FormatError(
            f"{where}: entry {first + 1} is position {int(positions[first + 1])} after position {int(positions[first])}; "
            f"positions must ascend strictly; {DAMAGED}"
        )
    if listed and int(positions[-1]) >= grid.limit:
        raise FormatError(
            f"{where}: the last position is {int(positions[-1])}, but there are only {grid.limit}; {DAMAGED}"
        )
    return positions


def _counted(flags: NDArray[Any], count: int, where: str) -> NDArray[np.int64]:
    """Return where the flags are set. They are counted first, because flatnonzero would allocate as much as the file says."""
    found = int(np.count_nonzero(flags))
    if found != count:
        raise FormatError(f"{where}: {found} bits are set, expected {count}; {DAMAGED}")
    return np.flatnonzero(flags)
