"""Checks of arguments shared by all launchers, before arrays reach the extension."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError, quoted
from ..table import MOST_THREADS

__all__ = ["aligned", "check", "check_threads", "output"]

_FLOAT32 = np.dtype(np.float32)
_LINE = 16  # floats per cache line


def check(name: str, array: Any, shape: tuple[int | None, ...], axes: str) -> None:
    """Raise unless this is a C-contiguous float32 array of the given shape (None: any length)."""
    if not isinstance(array, np.ndarray):
        raise ArgumentError(f"{name} must be a NumPy array {axes}, got {type(array).__name__}")
    if array.dtype != _FLOAT32:
        raise ArgumentError(f"{name} must be float32, got {array.dtype}; convert it with .astype(numpy.float32)")
    fits = array.ndim == len(shape) and all(w is None or w == g for w, g in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise ArgumentError(f"{name} must have shape {axes} = [{wanted}], got {list(array.shape)}")
    if not array.flags.c_contiguous:
        raise ArgumentError(f"{name} must be C-contiguous; pass numpy.ascontiguousarray({name})")


def output(
    out: Any,
    shape: tuple[int, ...],
    axes: str,
    x: NDArray[np.float32] | None = None,
    bias: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return `out`, or a new cache-aligned array if it is None; raise if it does not fit or shares memory with an input."""
    if out is None:
        return aligned(shape)
    check("out", out, shape, axes)
    if not out.flags.writeable:
        raise ArgumentError("out must be writeable, but is read-only")
    for name, other in (("x", x), ("bias", bias)):
        # Contiguous arrays share memory if and only if their extents overlap.
        if isinstance(other, np.ndarray) and np.may_share_memory(out, other):
            raise ArgumentError(f"out must not share memory with {name}; pass another array, or None to allocate one")
    checked: NDArray[np.float32] = out
    return checked


def aligned(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return an uninitialised array on a cache-line boundary; with NumPy's alignment every vector could straddle two lines."""
    size = int(np.prod(shape))
    buffer = np.empty(size + _LINE - 1, dtype=np.float32)
    skip = -(buffer.ctypes.data // 4) % _LINE
    return buffer[skip : skip + size].reshape(shape)


def check_threads(threads: int) -> None:
    """Raise unless `threads` is an integer in range."""
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= MOST_THREADS:
        raise ArgumentError(f"threads must be an integer from 1 to {MOST_THREADS:,}, got {quoted(threads)}")
