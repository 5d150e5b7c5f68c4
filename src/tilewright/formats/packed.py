"""`Packed`: a pruned weight without its zeros, as plain NumPy arrays shared by kernels, files and simulators."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError
from ..patterns import Pattern, TileVectorWise
from .unpacking import packed_mask, unpack

__all__ = ["Packed", "Residual", "ValueType", "index_dtype", "storage_dtype"]

ValueType = Literal["float32", "float16", "bfloat16"]
"""Type of the values. NumPy has no bfloat16, so its bits are held as uint16."""


def storage_dtype(dtype: ValueType) -> np.dtype[Any]:
    """Return the NumPy type that holds values of a `ValueType`."""
    if dtype not in get_args(ValueType):
        raise FormatError(f"unknown value type {dtype!r}; expected one of {', '.join(map(repr, get_args(ValueType)))}")
    return np.dtype(np.uint16 if dtype == "bfloat16" else dtype)


def index_dtype(inputs: int) -> np.dtype[Any]:
    """Return the type of column numbers for a weight with this many inputs: uint16 if it suffices, otherwise uint32."""
    return np.dtype(np.uint16 if inputs <= 1 << 16 else np.uint32)


@dataclass(frozen=True, eq=False)
class Residual:
    """Single elements kept in addition to the tiles (TEW), output by output.

    Parameters
    ----------
    pointers
        int64 ``[N + 1]``; output i has the elements ``pointers[i]`` up to ``pointers[i + 1]``.
    columns
        Input of each element, ``[E]``, ascending within an output; typed like `Packed.columns`.
    values
        Weight of each element, ``[E]``.
    """

    pointers: NDArray[np.int64]
    columns: NDArray[Any]
    values: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Packed:
    """A weight ``[N, K]`` in compressed form.

    Stored outputs are divided into tiles of `tile` neighbours (the last may be narrower) that share their kept columns. Tile t
    keeps ``columns[pointers[t]:pointers[t + 1]]``. Patterns without shared columns have ``tile == 1``.

    Parameters
    ----------
    pattern
        The pattern the weight was pruned to.
    shape
        ``(N, K)``.
    dtype
        Type of the values.
    tile
        Number of outputs in a tile.
    values
        Kept weights, tile by tile. A tile of w outputs and c columns is stored as ``[c, w]``: w weights for each kept column.
        With `positions` it is stored as ``[w, q]``: q weights for each output.
    columns
        Kept inputs of each tile, strictly ascending within a tile; uint16 if ``K <= 65536``, otherwise uint32.
    pointers
        Start of each tile in `columns`, and the end of the last; int64 ``[tiles + 1]``.
    rows
        Original output of each stored output, ascending; int32. None if all N outputs are stored in order.
    positions
        Position of each value inside its group of m compacted columns, strictly ascending within a group, in the order of
        `values`; uint8. Tile-vector-wise patterns only.
    residual
        Elements restored outside the tiles. Tile-element-wise patterns only.

    Raises
    ------
    FormatError
        If the arrays contradict each other. All contents are checked, so code that receives a `Packed` need not check again.
    """

    pattern: Pattern
    shape: tuple[int, int]
    dtype: ValueType
    tile: int
    values: NDArray[Any]
    columns: NDArray[Any]
    pointers: NDArray[np.int64]
    rows: NDArray[np.int32] | None = None
    positions: NDArray[np.uint8] | None = None
    residual: Residual | None = None

    def __post_init__(self) -> None:
        _validate(self)

    @property
    def stored(self) -> int:
        """Number of stored outputs: N, or fewer if whole outputs were pruned."""
        return self.shape[0] if self.rows is None else len(self.rows)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of kept columns of each tile, ``[tiles]``."""
        return np.diff(self.pointers)

    @property
    def widths(self) -> NDArray[np.int64]:
        """Number of outputs of each tile, ``[tiles]``: `tile`, or fewer for the last."""
        starts = np.arange(0, self.stored, self.tile, dtype=np.int64)
        return np.minimum(self.tile, self.stored - starts)

    @property
    def kept(self) -> int:
        """Number of stored weights."""
        return len(self.values) + (len(self.residual.values) if self.residual else 0)

    @property
    def density(self) -> float:
        """Number of stored weights over ``N * K``."""
        return self.kept / (self.shape[0] * self.shape[1])

    @property
    def nbytes(self) -> int:
        """Size of all arrays in memory, in bytes."""
        return sum(array.nbytes for array in self.arrays().values())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, without absent ones; those of the residual are named ``residual_values`` and so on."""
        found = {"values": self.values, "columns": self.columns, "pointers": self.pointers}
        found |= {"rows": self.rows} if self.rows is not None else {}
        found |= {"positions": self.positions} if self.positions is not None else {}
        if self.residual:
            found |= {f"residual_{name}": getattr(self.residual, name) for name in ("values", "columns", "pointers")}
        return found

    def unpack(self) -> NDArray[Any]:
        """Return the dense weight ``[N, K]`` in the storage type of the values, with zeros where it was pruned."""
        return unpack(self)

    def mask(self) -> NDArray[np.bool_]:
        """Return the mask ``[N, K]``, True where an element is stored."""
        return packed_mask(self)


def _validate(packed: Packed) -> None:
    """Check every array against the layout; error messages name the array and what it should be."""
    outputs, inputs = packed.shape
    if outputs < 1 or inputs < 1 or packed.tile < 1:
        raise FormatError(
            f"a packed weight needs N, K and tile of at least 1, got shape {packed.shape} and tile {packed.tile}"
        )
    _type("values", packed.values, storage_dtype(packed.dtype))
    if packed.rows is not None:
        _type("rows", packed.rows, np.dtype(np.int32))
        _ascending("rows", packed.rows, np.array([0, len(packed.rows)]), outputs)
    tiles = -(-packed.stored // packed.tile)
    _pointers("pointers", packed.pointers, tiles, len(packed.columns))
    _type("columns", packed.columns, index_dtype(inputs))
    _ascending("columns", packed.columns, packed.pointers, inputs)
    widths = packed.widths
    if (packed.positions is not None) != isinstance(packed.pattern, TileVectorWise):
        raise FormatError(
            f"tile-vector-wise weights must have positions, and no others; the pattern is {packed.pattern}"
        )
    if isinstance(packed.pattern, TileVectorWise) and packed.positions is not None:
        kept = _inner_counts(packed.counts, packed.pattern)
        _length("values", packed.values, int((kept * widths).sum()))
        _positions(packed.positions, packed, packed.pattern)
    else:
        _length("values", packed.values, int((packed.counts * widths).sum()))
    if packed.residual:
        _type("residual values", packed.residual.values, storage_dtype(packed.dtype))
        _type("residual columns", packed.residual.columns, index_dtype(inputs))
        _length("residual values", packed.residual.values, len(packed.residual.columns))
        _pointers("residual pointers", packed.residual.pointers, outputs, len(packed.residual.columns))
        _ascending("residual columns", packed.residual.columns, packed.residual.pointers, inputs)


def _inner_counts(counts: NDArray[np.int64], pattern: TileVectorWise) -> NDArray[np.int64]:
    """Return how many columns each output of a tile-vector-wise weight keeps, for tiles with ``counts[T]`` columns."""
    kept: NDArray[np.int64] = counts // pattern.m * pattern.n + np.minimum(pattern.n, counts % pattern.m)
    return kept


def _type(name: str, array: NDArray[Any], dtype: np.dtype[Any]) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1 or not array.flags.c_contiguous:
        got = f"{array.dtype} of shape {list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
        raise FormatError(f"{name} must be a contiguous one-dimensional {dtype} array, got {got}")


def _length(name: str, array: NDArray[Any], expected: int) -> None:
    if len(array) != expected:
        raise FormatError(f"{name} must have {expected} entries, got {len(array)}")


def _pointers(name: str, pointers: NDArray[np.int64], parts: int, total: int) -> None:
    _type(name, pointers, np.dtype(np.int64))
    _length(name, pointers, parts + 1)
    if pointers[0] != 0 or pointers[-1] != total or (np.diff(pointers) < 0).any():
        raise FormatError(
            f"{name} must ascend from 0 to {total}, but go from {pointers[0]} to {pointers[-1]} or descend in between"
        )


def _ascending(name: str, numbers: NDArray[Any], pointers: NDArray[np.int64], limit: int) -> None:
    """Check that numbers ascend strictly inside each part and are in 0 to limit - 1."""
    if not len(numbers):
        return
    if int(numbers.min()) < 0 or int(numbers.max()) >= limit:
        raise FormatError(f"{name} must be in 0 to {limit - 1}, but range from {numbers.min()} to {numbers.max()}")
    rising = np.ones(len(numbers), dtype=np.bool_)
    np.greater(numbers[1:], numbers[:-1], out=rising[1:])
    starts = pointers[:-1][np.diff(pointers) > 0]
    rising[starts] = True
    if not rising.all():
        at = int(np.argmin(rising))
        raise FormatError(f"{name} must ascend strictly, but entry {at} is {numbers[at]} after {numbers[at - 1]}")


def _positions(positions: NDArray[np.uint8], packed: Packed, pattern: TileVectorWise) -> None:
    """Check that the positions of each group of each output ascend strictly and stay inside the group."""
    _type("positions", positions, np.dtype(np.uint8))
    _length("positions", positions, len(packed.values))
    kept = _inner_counts(packed.counts, pattern)
    start = 0
    for count, width, q in zip(packed.counts, packed.widths, kept, strict=True):
        block = positions[start : start + int(width * q)].reshape(int(width), int(q)).astype(np.int16)
        start += int(width * q)
        slots = np.arange(int(q))
        length = np.minimum(pattern.m, count - slots // pattern.n * pattern.m)
        bad = block >= length
        inside = np.flatnonzero(slots % pattern.n)
        bad[:, inside] |= block[:, inside] <= block[:, inside - 1]
        if bad.any():
            output, slot = (int(i) for i in np.argwhere(bad)[0])
            raise FormatError(
                f"positions must ascend strictly inside each group of {pattern.m} and stay inside it; value {slot} of output {output} "
                f"of a tile of {count} columns has position {block[output, slot]}"
            )
