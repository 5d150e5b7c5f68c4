"""The compressed operand of sparse tensor cores: kept values, and metadata in the layout that the instructions read.

The layout follows CUTLASS (``host_uncompress.h``, ``host_reorder.h``, ``mma_sparse_sm80.h``): a 4-bit nibble for each
group, nibbles in little-endian order in words that cover 256 bits of uncompressed weights, rows of words reordered, and
words stored by pairs of columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from .packed import Packed

__all__ = [
    "METADATA_KINDS",
    "Compressed24",
    "MetadataKind",
    "compress24",
    "decode_metadata",
    "deinterleave_metadata",
    "encode_metadata",
    "interleave_metadata",
    "reorder_metadata",
    "restore_metadata",
]

Words = NDArray[Any]
"""uint16 or uint32, depending on the kind."""


@dataclass(frozen=True)
class MetadataKind:
    """How weights of one type are compressed.

    Parameters
    ----------
    name
        Name of the type, such as ``"float16"``.
    bits
        Bits per value.
    group
        Number of neighbours along K described by one nibble; half of them are kept.
    unit
        Number of neighbours kept or pruned together: 2 for int4, otherwise 1.
    word
        Bits per metadata word.
    storage
        NumPy type that holds one value. bfloat16 and float8 are held as bits, int4 one per int8.
    """

    name: str
    bits: int
    group: int
    unit: int
    word: int
    storage: str

    @property
    def covers(self) -> int:
        """Number of inputs described by one word: 256 bits of them."""
        return 256 // self.bits

    @property
    def words(self) -> np.dtype[Any]:
        """NumPy type of the metadata words."""
        return np.dtype(np.uint16 if self.word == 16 else np.uint32)

    @property
    def group_bits(self) -> tuple[int, int, int]:
        """Bits per group as (dense, kept values, metadata)."""
        return self.group * self.bits, self.group // 2 * self.bits, 4


METADATA_KINDS: Mapping[str, MetadataKind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            MetadataKind("float16", 16, 4, 1, 16, "float16"),
            MetadataKind("bfloat16", 16, 4, 1, 16, "uint16"),
            MetadataKind("tf32", 32, 2, 1, 16, "float32"),
            MetadataKind("int8", 8, 4, 1, 32, "int8"),
            MetadataKind("float8", 8, 4, 1, 32, "uint8"),
            MetadataKind("int4", 4, 8, 2, 32, "int8"),
        )
    }
)
"""Supported types by name: 2:4 in 16 and 8 bits, 1:2 in tf32, 4:8 in pairs in int4."""

_POSITIONS = 4
"""A nibble holds two of the positions 0 to 3."""


@dataclass(frozen=True, eq=False)
class Compressed24:
    """A weight ``[N, K]`` as the operand of a sparse tensor core.

    Parameters
    ----------
    kind
        A name in `METADATA_KINDS`.
    values
        Kept values of each row in order, ``[N, K / 2]``.
    words
        Metadata words ``[N, K / covers]``, rows in natural order; see `memory` for the order in memory.
    """

    kind: str
    values: NDArray[Any]
    words: Words

    @property
    def nbytes(self) -> int:
        """Bytes of values and metadata on the device, where two int4 values share a byte."""
        return self.values.size * METADATA_KINDS[self.kind].bits // 8 + self.words.nbytes

    def mask(self) -> NDArray[np.bool_]:
        """Return the mask ``[N, K]``, True where a value is stored."""
        return decode_metadata(self.words, self.kind)

    def expand(self) -> NDArray[Any]:
        """Return the dense weight ``[N, K]``, with zeros where it was pruned."""
        mask = self.mask()
        dense = np.zeros(mask.shape, dtype=self.values.dtype)
        dense[mask] = self.values.ravel()
        return dense

    def memory(self) -> Words:
        """Return the metadata words in the order that the instructions load, as a one-dimensional array."""
        return interleave_metadata(reorder_metadata(self.words))


def compress24(weight: NDArray[Any] | Packed, kind: str, mask: NDArray[np.bool_] | None = None) -> Compressed24:
    """Return a pruned weight as values and metadata.

    Parameters
    ----------
    weight
        ``[N, K]`` in the storage type of the kind, or a packed weight of that value type (float32 for ``tf32``).
    kind
        A name in `METADATA_KINDS`.
    mask
        ``[N, K]``, True where an element is kept. Default: non-zero elements are kept.

    Returns
    -------
    Compressed24
        ``expand()`` equals ``where(mask, weight, 0)``.

    Raises
    ------
    FormatError
        If the type differs, the mask keeps more than the hardware can, or K is not a multiple of
        ``METADATA_KINDS[kind].covers``.

    Examples
    --------
    >>> weight = np.zeros((1, 16), dtype=np.float16)
    >>> weight[0, [1, 3, 4]] = [5, 6, 7]
    >>> compressed = compress24(weight, "float16")
    >>> compressed.values.tolist(), hex(compressed.words[0, 0])
    ([[5.0, 6.0, 7.0, 0.0, 0.0, 0.0, 0.0, 0.0]], '0x444d')
    """
    of = _kind(kind)
    if isinstance(weight, Packed):
        mask = weight.mask() if mask is None else mask
        dense = weight.unpack()
    else:
        dense = np.asarray(weight)
    if dense.dtype != np.dtype(of.storage) or dense.ndim != 2:
        raise FormatError(
            f"a weight compressed as {kind} must be a {of.storage} matrix, got {dense.dtype} {list(dense.shape)}"
        )
    if kind == "int4" and dense.size and (dense.min() < -8 or dense.max() > 7):
        raise FormatError(f"int4 holds -8 to 7, but the weight ranges from {dense.min()} to {dense.max()}")
    keep = dense != 0 if mask is None else mask
    words = encode_metadata(keep, kind)
    full = decode_metadata(words, kind)
    values = np.where(keep, dense, np.zeros((), dtype=dense.dtype))[full].reshape(len(dense), -1)
    return Compressed24(kind, values, words)


def encode_metadata(mask: NDArray[np.bool_] | Packed, kind: str) -> Words:
    """Return the metadata words ``[N, K / covers]`` of a mask, rows in natural order.

    Bits 0 and 1 of a nibble are the position of the first kept element of its group, bits 2 and 3 that of the second, in
    ascending order. Groups that keep fewer elements are filled with their lowest free positions. In tf32, element e of a
    pair is written as the positions 2e and 2e + 1. In int4, positions count pairs, and a pair is kept if either of its
    elements is.

    Parameters
    ----------
    mask
        ``[N, K]``, True where an element is kept, or a packed weight.
    kind
        A name in `METADATA_KINDS`.

    Raises
    ------
    FormatError
        If a group keeps more than half, or K is not a multiple of ``METADATA_KINDS[kind].covers``.
    """
    of = _kind(kind)
    keep = mask.mask() if isinstance(mask, Packed) else np.asarray(mask)
    if keep.ndim != 2 or keep.dtype != np.bool_:
        raise FormatError(f"the mask must be a boolean matrix, got {keep.dtype} {list(keep.shape)}")
    outputs, inputs = keep.shape
    if inputs == 0 or inputs % of.covers:
        raise FormatError(
            f"a {kind} weight has {inputs} inputs, which is not a multiple of the {of.covers} of a metadata word; pad K with zeros to "
            f"{max(1, -(-inputs // of.covers)) * of.covers}"
        )
    units = keep.reshape(outputs, -1, of.group // of.unit, of.unit).any(axis=3)
    allowed = units.shape[2] // 2
    counts = np.count_nonzero(units, axis=2)
    if (counts > allowed).any():
        row, group = (int(i) for i in np.argwhere(counts > allowed)[0])
        what = "pairs" if of.unit == 2 else "elements"
        raise FormatError(
            f"a sparse tensor core keeps {allowed} of {units.shape[2]} {what} in {kind}, but output {row} keeps {counts[row, group]} in "
            f"the group at input {group * of.group}"
        )
    # Kept elements first, then free positions from the lowest: the first `allowed` of these, sorted again.
    order = np.argsort(~units, axis=2, kind="stable")
    chosen = np.sort(order[..., :allowed], axis=2).astype(np.uint32)
    low, high = (2 * chosen[..., 0], 2 * chosen[..., 0] + 1) if allowed == 1 else (chosen[..., 0], chosen[..., 1])
    nibbles = (low | high << 2).reshape(outputs, -1, of.word // 4)
    places = np.arange(of.word // 4, dtype=np.uint32) * 4
    packed: Words = np.bitwise_or.reduce(nibbles << places, axis=2).astype(of.words)
    return packed


def decode_metadata(words: Words, kind: str) -> NDArray[np.bool_]:
    """Return the mask ``[N, K]`` described by words ``[N, K / covers]``, rows in natural order.

    Raises
    ------
    FormatError
        If the words have another type, or the positions of a nibble do not ascend (in tf32: are not 0, 1 or 2, 3).
    """
    of = _kind(kind)
    if words.ndim != 2 or words.dtype != of.words:
        raise FormatError(
            f"metadata of {kind} must be {of.words} [N, K / {of.covers}], got {words.dtype} {list(words.shape)}"
        )
    places = np.arange(of.word // 4, dtype=np.uint32) * 4
    nibbles = (words.astype(np.uint32)[..., None] >> places & 15).reshape(len(words), -1)
    low, high = nibbles & 3, nibbles >> 2
    halves = of.group // of.unit == 2
    bad = (high != low + 1) | (low & 1 == 1) if halves else low >= high
    if bad.any():
        row, group = (int(i) for i in np.argwhere(bad)[0])
        raise FormatError(
            f"metadata of output {row}, group {group} has the positions {low[row, group]} and {high[row, group]}; they must "
            + ("be 0 and 1, or 2 and 3" if halves else "ascend")
        )
    units = np.zeros((*nibbles.shape, _POSITIONS), dtype=np.bool_)
    np.put_along_axis(units, low[..., None].astype(np.int64), True, axis=2)
    np.put_along_axis(units, high[..., None].astype(np.int64), True, axis=2)
    if halves:
        units = units[..., ::2]
    return np.repeat(units, of.unit, axis=2).reshape(len(words), -1)


def reorder_metadata(words: Words) -> Words:
    """Return words ``[N, W]`` in the order of rows and columns that the load instruction expects.

    Row r of every 32 rows (16-bit words) or 16 rows (32-bit words) moves to ``(r mod 8) * 4 + r div 8`` (or ``* 2``); then
    the upper right and lower left word of every 2 x 2 block are swapped.

    Raises
    ------
    FormatError
        If the number of rows is not a multiple of 32 or 16, or the number of words in a row is odd.
    """
    rows = _rows(words)
    moved = np.empty_like(words)
    moved[rows] = words
    return _swapped(moved)


def restore_metadata(words: Words) -> Words:
    """Undo `reorder_metadata`; raises the same errors."""
    rows = _rows(words)
    return _swapped(words)[rows]


def interleave_metadata(words: Words) -> Words:
    """Return reordered words ``[N, W]`` as laid out in memory: by pairs of columns, each pair row by row."""
    _rows(words)
    return np.ascontiguousarray(words.reshape(len(words), -1, 2).transpose(1, 0, 2)).reshape(-1)


def deinterleave_metadata(memory: Words, outputs: int) -> Words:
    """Undo `interleave_metadata`: return words laid out in memory as reordered words ``[N, W]``.

    Raises
    ------
    FormatError
        If the words do not fill an even number of columns.
    """
    if memory.ndim != 1 or outputs < 1 or memory.size % (2 * outputs):
        raise FormatError(
            f"metadata in memory must be one-dimensional, with an even number of words per output; {list(memory.shape)} words do not "
            f"fit {outputs} outputs"
        )
    return np.ascontiguousarray(memory.reshape(-1, outputs, 2).transpose(1, 0, 2)).reshape(outputs, -1)


def _kind(name: str) -> MetadataKind:
    if name not in METADATA_KINDS:
        raise FormatError(f"unknown sparse tensor core type {name!r}; expected one of {', '.join(METADATA_KINDS)}")
    return METADATA_KINDS[name]


def _rows(words: Words) -> NDArray[np.int64]:
    """Return the destination of each row of words, checking that the shape can be reordered."""
    if words.dtype not in (np.uint16, np.uint32) or words.ndim != 2:
        raise FormatError(f"metadata words must be uint16 or uint32 [N, W], got {words.dtype} {list(words.shape)}")
    group, spread = (32, 4) if words.dtype == np.uint16 else (16, 2)
    outputs, columns = words.shape
    if outputs == 0 or outputs % group or columns == 0 or columns % 2:
        raise FormatError(
            f"metadata of {outputs} outputs x {columns} words cannot be reordered: {8 * words.itemsize}-bit words need outputs in "
            f"multiples of {group} and an even number of words per row; pad the weight with zeros"
        )
    row = np.arange(outputs)
    target: NDArray[np.int64] = row // group * group + row % 8 * spread + row % group // 8
    return target


def _swapped(words: Words) -> Words:
    """Return the words with the upper right and lower left of every 2 x 2 block swapped."""
    outputs, columns = words.shape
    blocks = words.reshape(outputs // 2, 2, columns // 2, 2)
    return np.ascontiguousarray(blocks.transpose(0, 3, 2, 1)).reshape(outputs, columns)
