"""A packed weight as tensors and a config entry, and back with full validation."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError, PatternError
from ..patterns import NM, Block, Layout, Pattern, TileElementWise, TileVectorWise, TileWise, matrix_shape, parse
from .bits import DAMAGED, bitmap_bytes, pack_bitmap, unpack_bitmap
from .container import RawTensor
from .index import EncodedIndex, decode_columns, decode_inner, encode_columns, encode_inner, inner_counts
from .packed import Packed, Residual, ValueType, index_dtype
from .sets import Grid, decode_set, encode_set
from .text import show

__all__ = ["SUFFIXES", "StoredWeight", "decode_weight", "encode_weight", "guard_of"]

SUFFIXES = ("values", "index", "inner", "rows", "residual_values", "residual_index")
"""Suffixes that a parameter's tensors add to its name."""

LARGEST_SIDE = (1 << 31) - 1

_VALUE_TYPES: dict[ValueType, str] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_KEYS = {"pattern", "dtype", "shape", "layout", "original_shape", "encoding", "count"}
_OPTIONAL = {"stored", "residual"}


@dataclass(frozen=True, eq=False)
class StoredWeight:
    """A packed weight and the parameter it came from.

    Parameters
    ----------
    packed
        The weight, viewed as ``[N, K]``.
    layout
        How the parameter is viewed as ``[N, K]``; see `patterns.as_matrix`. Default: ``"linear"``.
    original_shape
        Shape of the parameter. Default: ``(N, K)``.

    Raises
    ------
    FormatError
        If layout and shape do not yield the packed weight's ``(N, K)``.
    """

    packed: Packed
    layout: Layout = "linear"
    original_shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "original_shape", tuple(self.original_shape) or self.packed.shape)
        _check_layout(self.layout, self.original_shape, self.packed.shape, "a stored weight")


def tile_of(pattern: Pattern) -> int:
    """Return the number of outputs in a tile of a pattern."""
    if isinstance(pattern, Block):
        return pattern.rows
    return pattern.tile if isinstance(pattern, NM | TileWise | TileElementWise | TileVectorWise) else 1


def guard_of(weight: StoredWeight) -> RawTensor:
    """Return the guard of a packed parameter: an empty tensor stored under the parameter's own name.

    A program that does not know the format finds it in place of the parameter, sees the wrong shape and stops, instead of
    treating the parameter as missing and initialising it with random values.
    """
    return RawTensor(_VALUE_TYPES[weight.packed.dtype], (0,), np.zeros(0, dtype=np.uint8))


def encode_weight(name: str, weight: StoredWeight) -> tuple[dict[str, Any], dict[str, RawTensor]]:
    """Return the config entry of the parameter `name`, and its tensors by full name.

    Raises
    ------
    FormatError
        If the weight exceeds what the format allows; the message names the parameter.
    """
    packed = weight.packed
    where = f"parameter {show(name)}"
    _check_limits(packed.pattern, packed.shape, where)
    if packed.tile != tile_of(packed.pattern):
        raise FormatError(
            f"{where}: tiles of {packed.tile} outputs, but {packed.pattern} has tiles of {tile_of(packed.pattern)}"
        )
    pattern, (outputs, inputs) = packed.pattern, packed.shape
    index = encode_columns(pattern, inputs, packed.pointers, packed.columns)
    entry: dict[str, Any] = {
        "pattern": pattern.canonical,
        "dtype": packed.dtype,
        "shape": [outputs, inputs],
        "layout": weight.layout,
        "original_shape": list(weight.original_shape),
        "encoding": index.encoding,
        "count": index.count,
    }
    tensors = {"values": _values(packed, packed.values), "index": _bytes(index.data)}
    if packed.rows is not None:
        flags = np.zeros(outputs, dtype=np.bool_)
        flags[packed.rows] = True
        entry["stored"] = packed.stored
        tensors["rows"] = _bytes(pack_bitmap(flags))
    if isinstance(pattern, TileVectorWise) and packed.positions is not None:
        tensors["inner"] = _bytes(
            encode_inner(pattern, _columns_of_outputs(packed.counts, packed.widths), packed.positions)
        )
    if packed.residual is not None:
        encoding, data = encode_set(_residual_positions(packed.residual, inputs), Grid(outputs, inputs))
        entry["residual"] = {"encoding": encoding, "count": len(packed.residual.columns)}
        tensors["residual_values"] = _values(packed, packed.residual.values)
        tensors["residual_index"] = _bytes(data)
    return entry, {f"{name}.{suffix}": tensor for suffix, tensor in tensors.items()}


def decode_weight(
    name: str,
    entry: object,
    tensors: Mapping[str, RawTensor],
    file: str,
    spelling: Mapping[str, Pattern] = MappingProxyType({}),
) -> StoredWeight:
    """Return the parameter `name` from its config entry and ``tensors``, all tensors of the checkpoint.

    A pattern whose text is in `spelling` prints as given there. Counts are compared with the bytes actually present before
    anything is allocated by them.

    Raises
    ------
    FormatError
        If entry and tensors are not exactly one weight of the format.
    """
    return _Decoder(name, entry, tensors, file, spelling).weight()


class _Decoder:
    """A parameter being read: the checked fields of its entry, and its tensors."""

    def __init__(
        self, name: str, entry: object, tensors: Mapping[str, RawTensor], file: str, spelling: Mapping[str, Pattern]
    ) -> None:
        self.name, self.file, self.tensors = name, file, tensors
        self.where = f"{file}: parameter {show(name)}"
        if not isinstance(entry, dict) or not _KEYS <= set(entry) <= _KEYS | _OPTIONAL:
            given = sorted(entry) if isinstance(entry, dict) else entry
            raise FormatError(
                f"{self.where}: its entry must have {', '.join(sorted(_KEYS))}, may have {', '.join(sorted(_OPTIONAL))} and "
                f"nothing else, but has {show(given)}; {DAMAGED}"
            )
        self.entry = entry
        self.pattern = self._pattern()
        self.pattern = spelling.get(self.pattern.canonical, self.pattern)
        self.shape = cast(tuple[int, int], self._sizes("shape", 2, 2))
        self.original = self._sizes("original_shape", 2, 8)
        self.dtype = self._one_of("dtype", get_args(ValueType))
        self.layout = self._one_of("layout", get_args(Layout))
        _check_layout(self.layout, self.original, self.shape, self.where)
        _check_limits(self.pattern, self.shape, self.where)
        self._announced()

    def weight(self) -> StoredWeight:
        outputs, inputs = self.shape
        values = self._floats("values")
        rows = self._rows()
        stored = outputs if rows is None else len(rows)
        tile = tile_of(self.pattern)
        if isinstance(self.pattern, NM):
            self._expect(len(values), outputs * self.pattern.kept(inputs))
        most = len(values) * (self.pattern.m if isinstance(self.pattern, TileVectorWise) else 1)
        index = EncodedIndex(self._text("encoding"), self._count("count", self.entry), self._raw("index").data)
        tiles = -(-stored // tile)
        pointers, columns = decode_columns(self.pattern, inputs, tiles, index, most, self._at("index"))
        counts = np.diff(pointers)
        widths = np.minimum(tile, stored - np.arange(tiles, dtype=np.int64) * tile)
        positions = None
        if isinstance(self.pattern, TileVectorWise):
            self._expect(len(values), int((inner_counts(self.pattern, counts) * widths).sum()))
            of_outputs = _columns_of_outputs(counts, widths)
            positions = decode_inner(self.pattern, of_outputs, self._raw("inner").data, self._at("inner"))
        else:
            self._expect(len(values), int((counts * widths).sum()))
        try:
            packed = Packed(
                pattern=self.pattern,
                shape=self.shape,
                dtype=cast(ValueType, self.dtype),
                tile=tile,
                values=values,
                columns=columns,
                pointers=pointers,
                rows=rows,
                positions=positions,
                residual=self._residual(),
            )
        except FormatError as error:
            raise FormatError(f"{self.where}: {error}; {DAMAGED}") from None
        _check_apart(packed, self.where)
        return StoredWeight(packed, cast(Layout, self.layout), self.original)

    def _pattern(self) -> Pattern:
        text = self.entry["pattern"]
        try:
            pattern = parse(text) if isinstance(text, str) and len(text) <= 200 else None
        except PatternError as error:
            raise FormatError(f"{self.where}: {show(str(error))}; {DAMAGED}") from None
        if pattern is None or pattern.canonical != text:
            raise FormatError(f"{self.where}: the pattern {show(text)} is not in its canonical form; {DAMAGED}")
        return pattern

    def _sizes(self, key: str, fewest: int, most: int) -> tuple[int, ...]:
        sizes = self.entry[key]
        good = isinstance(sizes, list) and all(type(size) is int and 1 <= size <= LARGEST_SIDE for size in sizes)
        if not good or not fewest <= len(sizes) <= most:
            raise FormatError(
                f"{self.where}: {key} is {show(sizes)}; it must be {fewest} to {most} integers from 1 to {LARGEST_SIDE}; "
                f"{DAMAGED}"
            )
        return tuple(sizes)

    def _text(self, key: str, entry: Mapping[str, Any] | None = None) -> str:
        text = (self.entry if entry is None else entry)[key]
        if not isinstance(text, str):
            raise FormatError(f"{self.where}: {key} must be a string, got {show(text)}; {DAMAGED}")
        return text

    def _one_of(self, key: str, known: tuple[str, ...]) -> str:
        text = self._text(key)
        if text not in known:
            raise FormatError(f"{self.where}: unknown {key} {show(text)}; expected {' or '.join(known)}; {DAMAGED}")
        return text

    def _count(self, key: str, entry: Mapping[str, Any]) -> int:
        count = entry[key]
        if type(count) is not int or not 0 <= count < 1 << 62:
            raise FormatError(f"{self.where}: {key} must be a non-negative integer, got {show(count)}; {DAMAGED}")
        return count

    def _announced(self) -> None:
        """Reject tensors that the entry or the pattern does not call for, before any is read."""
        tiled = isinstance(self.pattern, TileWise | TileElementWise | TileVectorWise)
        if "stored" in self.entry and not tiled:
            raise FormatError(
                f"{self.where}: only tile-wise patterns may leave out outputs, but this is {self.pattern}; {DAMAGED}"
            )
        if "residual" in self.entry and not isinstance(self.pattern, TileElementWise):
            raise FormatError(f"{self.where}: only tew patterns have a residual, but this is {self.pattern}; {DAMAGED}")
        expected = {"values", "index"}
        expected |= {"inner"} if isinstance(self.pattern, TileVectorWise) else set()
        expected |= {"rows"} if "stored" in self.entry else set()
        expected |= {"residual_values", "residual_index"} if "residual" in self.entry else set()
        found = {suffix for suffix in SUFFIXES if f"{self.name}.{suffix}" in self.tensors}
        if found != expected:
            raise FormatError(
                f"{self.where}: expected the tensors {', '.join(sorted(expected))}, but the checkpoint has "
                f"{', '.join(sorted(found)) or 'none'}; {DAMAGED}"
            )

    def _at(self, suffix: str) -> str:
        return f"{self.file}: tensor {show(f'{self.name}.{suffix}')}"

    def _tensor(self, suffix: str, dtype: str) -> RawTensor:
        tensor = self.tensors[f"{self.name}.{suffix}"]
        if tensor.dtype != dtype or len(tensor.shape) != 1:
            raise FormatError(
                f"{self._at(suffix)} must be one-dimensional {dtype}, got {tensor.dtype} of shape {show(list(tensor.shape))}; {DAMAGED}"
            )
        return tensor

    def _raw(self, suffix: str) -> RawTensor:
        return self._tensor(suffix, "U8")

    def _floats(self, suffix: str) -> NDArray[Any]:
        return self._tensor(suffix, _VALUE_TYPES[cast(ValueType, self.dtype)]).array()

    def _expect(self, found: int, expected: int) -> None:
        if found != expected:
            raise FormatError(f"{self._at('values')} has {found} values, but the index calls for {expected}; {DAMAGED}")

    def _rows(self) -> NDArray[np.int32] | None:
        if "stored" not in self.entry:
            return None
        outputs, stored = self.shape[0], self._count("stored", self.entry)
        data, at = self._raw("rows").data, self._at("rows")
        if stored >= outputs or len(data) != bitmap_bytes(outputs):
            raise FormatError(
                f"{at} has {len(data)} bytes for {stored} of {outputs} outputs; expected {bitmap_bytes(outputs)} bytes and fewer "
                f"than {outputs} outputs (or no rows at all if every output is stored); {DAMAGED}"
            )
        flags = unpack_bitmap(data, outputs, at)
        found = int(np.count_nonzero(flags))
        if found != stored:
            raise FormatError(f"{at}: {found} bits are set for {stored} stored outputs; {DAMAGED}")
        return np.flatnonzero(flags).astype(np.int32)

    def _residual(self) -> Residual | None:
        if "residual" not in self.entry:
            return None
        entry = self.entry["residual"]
        if not isinstance(entry, dict) or set(entry) != {"encoding", "count"}:
            raise FormatError(f"{self.where}: residual must have encoding and count, got {show(entry)}; {DAMAGED}")
        values, count = self._floats("residual_values"), self._count("count", entry)
        at = self._at("residual_index")
        if count != len(values):
            raise FormatError(
                f"{at}: the entry announces {count} elements, but residual_values has {len(values)}; {DAMAGED}"
            )
        outputs, inputs = self.shape
        grid = Grid(outputs, inputs)
        positions = decode_set(self._text("encoding", entry), self._raw("residual_index").data, count, grid, at)
        edges = np.arange(outputs + 1, dtype=np.int64) * inputs
        pointers = np.searchsorted(positions, edges).astype(np.int64)
        columns = positions - np.repeat(edges[:-1], np.diff(pointers))
        return Residual(pointers=pointers, columns=columns.astype(index_dtype(inputs)), values=values)


def _check_layout(layout: str, original: tuple[int, ...], shape: tuple[int, int], where: str) -> None:
    try:
        fits = math.prod(original) == math.prod(shape) and matrix_shape(original, cast(Layout, layout)) == shape
    except PatternError as error:
        raise FormatError(f"{where}: {error}") from None
    if not fits:
        raise FormatError(
            f"{where}: a {layout} parameter of shape {show(list(original))} does not match the weight {show(list(shape))}; pass the shape "
            "of the parameter in the model"
        )


def _check_limits(pattern: Pattern, shape: tuple[int, int], where: str) -> None:
    outputs, inputs = shape
    if max(shape) > LARGEST_SIDE:
        raise FormatError(f"{where}: shape {list(shape)} is too large; sides may be at most {LARGEST_SIDE}")
    if isinstance(pattern, NM) and pattern.transposable and (outputs % pattern.m or inputs % pattern.m):
        raise FormatError(f"{where}: {pattern} needs both sides to be multiples of {pattern.m}, got {list(shape)}")


def _check_apart(packed: Packed, where: str) -> None:
    """Check that no element is both in a tile and in the residual, where a product would count it twice."""
    if packed.residual is None or not len(packed.residual.columns):
        return
    inputs = packed.shape[1]
    stored = np.full(packed.shape[0], -1, dtype=np.int64)
    stored[slice(None) if packed.rows is None else packed.rows] = np.arange(packed.stored)
    rows = np.repeat(np.arange(packed.shape[0]), np.diff(packed.residual.pointers))
    in_tiles = stored[rows] >= 0
    wanted = stored[rows] // packed.tile * inputs + packed.residual.columns
    tiles = np.repeat(np.arange(len(packed.counts)), packed.counts)
    twice = np.flatnonzero(in_tiles & np.isin(wanted, tiles * inputs + packed.columns))
    if len(twice):
        at = int(twice[0])
        raise FormatError(
            f"{where}: the element at output {int(rows[at])}, input {int(packed.residual.columns[at])} is stored in a tile and in the "
            f"residual, but may be stored only once; {DAMAGED}"
        )


def _columns_of_outputs(counts: NDArray[np.int64], widths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of kept columns of each output, without empty tiles: at most one entry per stored value."""
    some = counts > 0
    return np.repeat(counts[some], widths[some])


def _residual_positions(residual: Residual, inputs: int) -> NDArray[np.int64]:
    rows = np.repeat(np.arange(len(residual.pointers) - 1, dtype=np.int64), np.diff(residual.pointers))
    positions: NDArray[np.int64] = rows * inputs + residual.columns
    return positions


def _values(packed: Packed, values: NDArray[Any]) -> RawTensor:
    plain = np.ascontiguousarray(values)
    return RawTensor(_VALUE_TYPES[packed.dtype], (len(plain),), plain.view(np.uint8))


def _bytes(data: NDArray[np.uint8]) -> RawTensor:
    return RawTensor("U8", (len(data),), data)
