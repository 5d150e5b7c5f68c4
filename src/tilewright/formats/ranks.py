"""Combinations as numbers: which n of m positions are kept, in ``ceil(log2 C(m, n))`` bits.

This is the combinatorial number system in colexicographic order: positions ``p_1 < p_2 < ... < p_n`` have the number
``C(p_1, 1) + C(p_2, 2) + ... + C(p_n, n)``, and every number below ``C(m, n)`` stands for exactly one combination.
"""

from functools import cache, lru_cache
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from .bits import DAMAGED, fields_bytes, pack_fields, unpack_fields

__all__ = ["LARGEST_M", "pack_ranks", "rank_bits", "ranks_bytes", "unpack_ranks"]

LARGEST_M = 64
"""Largest m whose numbers fit in 64 bits: C(64, 32) is below 2**61."""

_TABLE = 1 << 14
"""Largest number of combinations for which a table of all of them (at most 1 MiB) is faster than a digit-by-digit search."""


@cache
def rank_bits(m: int, n: int) -> int:
    """Return the number of bits of a combination's number; 0 if there is only one combination."""
    return (comb(m, n) - 1).bit_length()


def ranks_bytes(count: int, m: int, n: int) -> int:
    """Return the size in bytes of `count` combinations."""
    return fields_bytes(count, rank_bits(m, n))


@cache
def _digits(m: int, i: int) -> NDArray[np.uint64]:
    """Return ``C(p, i)`` for every position p below m."""
    return np.array([comb(p, i) for p in range(m)], dtype=np.uint64)


@lru_cache(maxsize=16)
def _combinations(m: int, n: int) -> NDArray[np.uint8]:
    """Return all combinations in the order of their numbers, ``uint8[C(m, n), n]``."""
    return _search(np.arange(comb(m, n), dtype=np.uint64), m, n)


def _search(numbers: NDArray[np.uint64], m: int, n: int) -> NDArray[np.uint8]:
    """Return the combinations of the numbers: repeatedly take the largest position whose ``C(p, i)`` fits, and subtract it."""
    rest = numbers.copy()
    out = np.empty((len(rest), n), dtype=np.uint8)
    for i in range(n, 0, -1):
        digits = _digits(m, i)
        position = np.searchsorted(digits, rest, side="right") - 1
        out[:, i - 1] = position
        rest -= digits[position]
    return out


def pack_ranks(positions: NDArray[Any], m: int) -> NDArray[np.uint8]:
    """Return ``positions[F, n]``, ascending in each row and below m, as a stream of combination numbers."""
    count, n = positions.shape
    bits = rank_bits(m, n)
    if bits == 0 or count == 0:
        return np.zeros(0, dtype=np.uint8)
    numbers = np.zeros(count, dtype=np.uint64)
    for i in range(n):
        numbers += _digits(m, i + 1)[positions[:, i]]
    return pack_fields(numbers, bits)


def unpack_ranks(data: NDArray[np.uint8], count: int, m: int, n: int, where: str) -> NDArray[np.uint8]:
    """Return the positions ``uint8[count, n]`` of a stream of exactly `ranks_bytes` bytes.

    Raises
    ------
    FormatError
        If a number does not stand for a combination, or a padding bit is set.
    """
    bits = rank_bits(m, n)
    if bits == 0:
        return np.tile(np.arange(n, dtype=np.uint8), (count, 1))
    numbers = unpack_fields(data, count, bits, where)
    total = comb(m, n)
    if count and int(numbers.max()) >= total:
        group = int(np.argmax(numbers))
        raise FormatError(
            f"{where}: group {group} has combination number {int(numbers[group])}, but those of {n} of {m} are "
            f"0 to {total - 1}; {DAMAGED}"
        )
    if total <= _TABLE:
        positions: NDArray[np.uint8] = _combinations(m, n)[numbers]
        return positions
    return _search(numbers.astype(np.uint64), m, n)
