"""Random weights and activations for the kernel tests, drawn by Hypothesis with awkward sizes first."""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from tilewright.kernels import ACTIVATIONS, OPERATIONS, KernelArrays, implementations, operation_of

FAST = [i.name for i in implementations() if i.available and i.name != "reference"]
SENTINEL = np.float32(12345.678)

# Simplest first: Hypothesis tries the beginning of a list before the rest.
TOKENS = st.one_of(
    st.sampled_from([1, 0, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 48, 49, 97, 129, 200]), st.integers(1, 200)
)
TILES = st.one_of(st.sampled_from([4, 8, 16, 2, 3, 5, 7, 12, 17]), st.integers(2, 17))
INPUTS = st.one_of(st.sampled_from([1, 2, 5, 16, 17, 63, 64, 65, 130]), st.integers(1, 150))
OUTPUTS = st.one_of(st.sampled_from([1, 2, 7, 16, 17, 65, 130]), st.integers(1, 150))


@dataclass(frozen=True)
class Case:
    """A kernel call: a weight, activations, bias and options."""

    arrays: KernelArrays
    x: np.ndarray
    bias: np.ndarray | None
    activation: str
    threads: int
    T: int

    def __repr__(self) -> str:
        w = self.arrays
        return (
            f"Case(M={len(self.x)}, N={w.N}, K={w.K}, tile={w.tile}, stored={w.stored}, kept={len(w.values)}, nm={w.n}:{w.m}, "
            f"index={w.columns.dtype}, rows={w.rows is not None}, residual={w.residual_values is not None}, "
            f"bias={self.bias is not None}, activation={self.activation}, threads={self.threads}, T={self.T})"
        )


def unaligned(array: np.ndarray, shift: int) -> np.ndarray:
    """Return a copy that starts `shift` floats off NumPy's alignment."""
    buffer = np.empty(array.size + shift, dtype=np.float32)
    view = buffer[shift:].reshape(array.shape)
    view[...] = array
    return view


def guarded(shape: tuple[int, ...], shift: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (buffer, view): an output inside a buffer of sentinels, NaN where the kernel must write."""
    size = int(np.prod(shape))
    buffer = np.full(size + 64 + shift, SENTINEL, dtype=np.float32)
    view = buffer[32 + shift : 32 + shift + size].reshape(shape)
    view[...] = np.nan
    return buffer, view


def intact(buffer: np.ndarray, shape: tuple[int, ...], shift: int) -> bool:
    """Return True if nothing outside the view was written."""
    size = int(np.prod(shape))
    return bool((buffer[: 32 + shift] == SENTINEL).all() and (buffer[32 + shift + size :] == SENTINEL).all())


def _ascending(rng: np.random.Generator, limit: int, count: int, dtype: np.dtype) -> np.ndarray:
    return np.sort(rng.permutation(limit)[:count]).astype(dtype)


def _compressed(
    rng: np.random.Generator, parts: int, K: int, dtype: np.dtype, fill: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return (columns, pointers): none, all, or any number of columns kept in each part."""
    counts = {"none": np.zeros(parts), "all": np.full(parts, K)}.get(fill, rng.integers(0, K + 1, parts)).astype(
        np.int64
    )
    if fill == "some":
        counts[rng.random(parts) < 0.2] = 0
    columns = [_ascending(rng, K, int(c), dtype) for c in counts]
    return np.concatenate([*columns, np.zeros(0, dtype)]), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


@st.composite
def weights(draw: st.DrawFn, operation: str) -> KernelArrays:
    """Draw a weight that `linear` runs as the given operation for some number of tokens."""
    kind = operation if operation in ("nm", "rows", "tiles") else draw(st.sampled_from(["tiles", "nm", "rows"]))
    N, K = draw(OUTPUTS), draw(INPUTS)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = np.dtype(draw(st.sampled_from([np.uint16, np.uint32])))
    rows = None
    if kind != "nm" and draw(st.booleans()):
        rows = np.sort(rng.permutation(N)[: draw(st.sampled_from([N // 2, 0, N, max(0, N - 1)]))]).astype(np.int32)
    stored = N if rows is None else len(rows)
    if kind == "nm":
        m = draw(st.sampled_from([4, 2, 8, 3, 64, 65, 16, 1]))
        n = draw(st.integers(1, m))
        a_row = (
            [g + _ascending(rng, min(m, K - g), min(n, K - g), dtype) for g in range(0, K, m)]
            if m <= K or K > 0
            else []
        )
        lengths = sum(len(g) for g in a_row)
        columns = np.concatenate(
            [
                np.concatenate([g + _ascending(rng, min(m, K - g), min(n, K - g), dtype) for g in range(0, K, m)])
                for _ in range(N)
            ]
        ).astype(dtype)
        pointers = np.arange(N + 1, dtype=np.int64) * lengths
        return KernelArrays(N, K, 1, _values(rng, len(columns)), columns, pointers, None, n, m)
    tile = draw(TILES) if kind == "tiles" else 1
    tiles = -(-stored // tile)
    fill = draw(st.sampled_from(["some", "none", "all"]))
    columns, pointers = _compressed(rng, tiles, K, dtype, fill)
    widths = np.minimum(tile, stored - np.arange(0, stored, tile))
    size = int((np.diff(pointers) * widths).sum())
    residual: dict[str, np.ndarray] = {}
    if draw(st.booleans()):
        extra, at = _compressed(rng, N, min(K, 9), dtype, draw(st.sampled_from(["some", "none"])))
        residual = {"residual_values": _values(rng, len(extra)), "residual_columns": extra, "residual_pointers": at}
    return KernelArrays(N, K, tile, _values(rng, size), columns, pointers, rows, **residual)


def _values(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.standard_normal(count, dtype=np.float32)


@st.composite
def cases(draw: st.DrawFn, operation: str) -> Case:
    """Draw a call that runs the given operation."""
    arrays = draw(weights(operation))
    M = draw(TOKENS)
    if operation in ("tiles", "nm", "rows", "small"):
        names = [o.name for o in OPERATIONS]
        assert operation in names
        M = next(m for m in (M, M % 8 + 1, 1, M + 9) if operation_of(arrays, m).name == operation)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = unaligned(_values(rng, M * arrays.K).reshape(M, arrays.K), draw(st.integers(0, 3)))
    bias = unaligned(_values(rng, arrays.N), draw(st.integers(0, 3))) if draw(st.booleans()) else None
    return Case(
        arrays,
        x,
        bias,
        draw(st.sampled_from(ACTIVATIONS)),
        draw(st.sampled_from([1, 2])),
        draw(st.sampled_from([16, 48, 32, 64, 128, 144])),
    )
