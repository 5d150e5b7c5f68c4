"""Streams of fields of equal width, and bitmaps: the two ways bits are stored as bytes in a file.

Both count bits from the least significant bit of the first byte upwards and pad the last byte with zero bits.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError

__all__ = [
    "DAMAGED",
    "bitmap_bytes",
    "fields_bytes",
    "pack_bitmap",
    "pack_fields",
    "unpack_bitmap",
    "unpack_fields",
]

DAMAGED = "the file is damaged or was written incorrectly: download or write it again"
"""Advice at the end of messages about errors that no caller can repair."""

_PHASES = 8
"""Eight fields of b bits fill exactly b bytes, so field 8i + j always starts at the same bit of byte group i."""


def fields_bytes(count: int, bits: int) -> int:
    """Return the size in bytes of `count` fields of `bits` bits."""
    return (count * bits + 7) // 8


def bitmap_bytes(count: int) -> int:
    """Return the size in bytes of a bitmap of `count` bits."""
    return (count + 7) // 8


def _word(bits: int) -> type[np.unsignedinteger[Any]]:
    """Return the narrowest unsigned type that holds a field and the shift in front of it."""
    return np.uint16 if bits <= 8 else np.uint32 if bits <= 24 else np.uint64


def pack_fields(fields: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Return ``fields[F]``, each below ``2**bits``, as ``uint8[ceil(F * bits / 8)]``; `bits` from 0 to 63."""
    count = len(fields)
    if bits == 0 or count == 0:
        return np.zeros(0, dtype=np.uint8)
    word = _word(bits)
    groups = -(-count // _PHASES)
    padded = np.zeros((groups, _PHASES), dtype=word)
    padded.reshape(-1)[:count] = fields
    out = np.zeros((groups, bits), dtype=np.uint8)
    for phase in range(_PHASES):
        first, shift = divmod(phase * bits, 8)
        column = padded[:, phase]
        for byte in range((shift + bits + 7) // 8):
            move = 8 * byte - shift
            part = column >> word(move) if move >= 0 else column << word(-move)
            out[:, first + byte] |= part.astype(np.uint8)
    return out.reshape(-1)[: fields_bytes(count, bits)].copy()


def unpack_fields(data: NDArray[np.uint8], count: int, bits: int, where: str) -> NDArray[Any]:
    """Return the `count` fields of ``data``; the caller has checked that its length is `fields_bytes`.

    Raises
    ------
    FormatError
        If a padding bit is set.
    """
    if bits == 0 or count == 0:
        return np.zeros(count, dtype=np.uint8)
    word = _word(bits)
    groups = -(-count // _PHASES)
    check_padding(data, count * bits, where)
    if len(data) != groups * bits:
        data = np.concatenate([data, np.zeros(groups * bits - len(data), dtype=np.uint8)])
    bytes_of = data.reshape(groups, bits)
    out = np.empty((groups, _PHASES), dtype=word)
    low = word((1 << bits) - 1)
    for phase in range(_PHASES):
        first, shift = divmod(phase * bits, 8)
        value = bytes_of[:, first].astype(word) >> word(shift)
        for byte in range(1, (shift + bits + 7) // 8):
            value |= bytes_of[:, first + byte].astype(word) << word(8 * byte - shift)
        out[:, phase] = value & low
    return out.reshape(-1)[:count]


def pack_bitmap(flags: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return ``flags[B]`` as ``uint8[ceil(B / 8)]``."""
    return np.packbits(flags, bitorder="little")


def unpack_bitmap(data: NDArray[np.uint8], count: int, where: str) -> NDArray[np.bool_]:
    """Return the `count` flags of ``data``; the caller has checked that its length is `bitmap_bytes`.

    Raises
    ------
    FormatError
        If a padding bit is set.
    """
    check_padding(data, count, where)
    return np.unpackbits(data, count=count, bitorder="little").view(np.bool_)


def check_padding(data: NDArray[np.uint8], used: int, where: str) -> None:
    """Raise `FormatError` if a bit after the first `used` bits is set, so that each mask has one encoding only."""
    if used % 8 and int(data[-1]) >> used % 8:
        raise FormatError(
            f"{where}: the last byte is {int(data[-1]):#04x}, but only its low {used % 8} bits may be set; {DAMAGED}"
        )
