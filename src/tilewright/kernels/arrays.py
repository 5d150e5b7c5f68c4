"""`KernelArrays`: a packed weight as the plain float32 arrays the kernels read, validated once."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FormatError, NotSupportedError
from ..formats import Packed
from ..patterns import NM, TileVectorWise

__all__ = ["KernelArrays", "few_tokens"]


def few_tokens(tile: int) -> int:
    """Return the largest number of tokens for which vector lanes hold outputs, so that the cost is one pass over the weight.

    With tile 1 the lanes must be tokens, and 2 to 8 tokens cost as much as one. Tiles under 8 fill too few lanes to win
    beyond 4.
    """
    return 8 if tile >= 8 else 4 if tile > 1 else 1


@dataclass(frozen=True, eq=False)
class KernelArrays:
    """The arrays of a weight ``[N, K]``, in the layout shared by all implementations.

    Create it with `KernelArrays.of`, which validates the contents; the kernels trust them and only check lengths.

    Parameters
    ----------
    N, K
        Number of outputs and inputs of the weight.
    tile
        Number of stored outputs that share their kept columns; 1 means compressed rows.
    values
        Kept weights, float32, tile by tile; a tile of w outputs and c columns is stored as ``[c, w]``.
    columns
        Kept inputs of each tile, uint16 or uint32.
    pointers
        Start of each tile in `columns`, and the end of the last; int64 ``[tiles + 1]``.
    rows
        Original output of each stored output, int32; None if all outputs are stored in order.
    n, m
        Set for n:m weights with tile 1 in which every group of m keeps exactly n (fewer in a short last group). These are
        processed in blocks that stay in the first-level cache. Otherwise 0.
    residual_values, residual_columns, residual_pointers
        Compressed rows over the original outputs, added to the product; None if there are none.
    """

    N: int
    K: int
    tile: int
    values: NDArray[np.float32]
    columns: NDArray[Any]
    pointers: NDArray[np.int64]
    rows: NDArray[np.int32] | None = None
    n: int = 0
    m: int = 0
    residual_values: NDArray[np.float32] | None = None
    residual_columns: NDArray[Any] | None = None
    residual_pointers: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, packed: Packed) -> "KernelArrays":
        """Return the arrays of a packed weight; float32 values are shared, not copied.

        Raises
        ------
        FormatError
            If the contents violate the layout, such as a column outside the weight or descending pointers.
        """
        N, K = packed.shape
        values, columns, pointers, tile = (
            _float32(packed.values, packed.dtype),
            packed.columns,
            packed.pointers,
            packed.tile,
        )
        if isinstance(packed.pattern, TileVectorWise):
            values, columns, pointers = _positions_as_rows(packed, packed.pattern, values)
            tile = 1
        n, m = _groups(packed, columns, pointers)
        rest: tuple[NDArray[Any], ...] = ()
        if packed.residual is not None:
            residual = packed.residual
            rest = (_float32(residual.values, packed.dtype), residual.columns, residual.pointers)
        found = cls(N, K, tile, values, columns, pointers, packed.rows, n, m, *rest)
        found.validate()
        return found

    @property
    def stored(self) -> int:
        """Number of stored outputs: N, or fewer if whole outputs were pruned."""
        return self.N if self.rows is None else len(self.rows)

    @property
    def kept(self) -> int:
        """Number of stored weights including the residual, which is the number of multiply-adds per token."""
        return len(self.values) + (0 if self.residual_values is None else len(self.residual_values))

    def validate(self) -> None:
        """Check every index against the weight, so that no kernel can access memory outside an array.

        Raises
        ------
        FormatError
            If an index is out of range; the message names the array and what it should contain.
        """
        _check_rows(self.rows, self.N)
        _check_compressed("", self.columns, self.pointers, -(-self.stored // self.tile), self.K)
        if self.residual_pointers is not None and self.residual_columns is not None:
            _check_compressed("residual ", self.residual_columns, self.residual_pointers, self.N, self.K)
        _ = self.native  # its constructor checks all lengths against each other

    @cached_property
    def native(self) -> Any:
        """Handle for the compiled extension; None if the extension is missing."""
        from .dispatch import native

        module = native()
        if module is None:
            return None
        try:
            return module.Arrays(
                self.N,
                self.K,
                self.tile,
                self.n,
                self.m,
                few_tokens(self.tile),
                self.values,
                self.columns,
                self.pointers,
                self.rows,
                self.residual_values,
                self.residual_columns,
                self.residual_pointers,
            )
        except (ValueError, TypeError) as error:
            raise FormatError(f"the arrays of this weight do not match each other: {error}") from None

    def __getstate__(self) -> dict[str, Any]:
        # The handle holds pointers of this process; a copy creates its own when first used.
        return _fields(self)


def _fields(arrays: KernelArrays) -> dict[str, Any]:
    return {name: getattr(arrays, name) for name in KernelArrays.__dataclass_fields__}


def _float32(values: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    if dtype == "float32":
        return values
    if dtype == "float16":
        return values.astype(np.float32)
    if dtype == "bfloat16":
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    raise NotSupportedError(f"the CPU kernels take float32, float16 and bfloat16 values, got {dtype!r}")


def _positions_as_rows(
    packed: Packed, pattern: TileVectorWise, values: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.int64]]:
    """Return a tile-vector-wise weight as compressed rows, with each position replaced by its column."""
    assert packed.positions is not None
    columns = np.empty(len(packed.positions), dtype=packed.columns.dtype)
    lengths: list[NDArray[np.int64]] = [np.zeros(1, dtype=np.int64)]
    done = 0
    for t, width in enumerate(packed.widths):
        tile = packed.columns[packed.pointers[t] : packed.pointers[t + 1]]
        q = len(tile) // pattern.m * pattern.n + min(pattern.n, len(tile) % pattern.m)
        block = packed.positions[done : done + width * q].reshape(width, q)
        columns[done : done + width * q] = tile[block + np.arange(q) // pattern.n * pattern.m].ravel()
        lengths.append(np.full(width, q, dtype=np.int64))
        done += width * q
    return values, columns, np.cumsum(np.concatenate(lengths))


def _groups(packed: Packed, columns: NDArray[Any], pointers: NDArray[np.int64]) -> tuple[int, int]:
    """Return (n, m) if this is an n:m weight with tile 1 and full groups, otherwise (0, 0)."""
    pattern = packed.pattern
    if not isinstance(pattern, NM) or packed.tile != 1:
        return 0, 0
    a_row = packed.shape[1] // pattern.m * pattern.n + min(pattern.n, packed.shape[1] % pattern.m)
    if a_row == 0 or not (np.diff(pointers) == a_row).all():
        return 0, 0
    group = np.arange(a_row) // pattern.n
    full = (columns.reshape(-1, a_row).astype(np.int64) // pattern.m == group).all()  # m may overflow uint16
    return (pattern.n, pattern.m) if full else (0, 0)


def _check_rows(rows: NDArray[np.int32] | None, N: int) -> None:
    if rows is None or not len(rows):
        return
    if rows[0] < 0 or rows[-1] >= N or (np.diff(rows) <= 0).any():
        raise FormatError(
            f"rows must ascend strictly within 0 to {N - 1}, but go from {rows[0]} to {rows[-1]} or descend in between"
        )


def _check_compressed(name: str, columns: NDArray[Any], pointers: NDArray[np.int64], parts: int, K: int) -> None:
    if len(pointers) != parts + 1 or pointers[0] != 0 or pointers[-1] != len(columns) or (np.diff(pointers) < 0).any():
        raise FormatError(f"{name}pointers must be {parts + 1} numbers that ascend from 0 to {len(columns)}")
    if len(columns) and int(columns.max()) >= K:
        raise FormatError(f"{name}columns must be in 0 to {K - 1}, but one is {int(columns.max())}")
