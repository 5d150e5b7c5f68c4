"""What every launcher checks before arrays reach the extension, in sentences."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError, quoted
from ..table import MOST_THREADS

__all__ = ["aligned", "check", "check_threads", "output"]

_FLOAT32 = np.dtype(np.float32)
_LINE = 16  # floats a cache line


def check(name: str, array: Any, shape: tuple[int | None, ...], axes: str) -> None:
    """Refuse anything but a C-contiguous float32 array of this shape (None: any length)."""
    if not isinstance(array, np.ndarray):
        raise ArgumentError(f"{name} must be a NumPy array {axes}, and got {type(array).__name__}")
    if array.dtype != _FLOAT32:
        raise ArgumentError(f"{name} must be float32, and got {array.dtype}; convert it with .astype(numpy.float32)")
    fits = array.ndim == len(shape) and all(w is None or w == g for w, g in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise ArgumentError(f"{name} must have shape {axes} = [{wanted}], and got {list(array.shape)}")
    if not array.flags.c_contiguous:
        raise ArgumentError(f"{name} must be C-contiguous; pass numpy.ascontiguousarray({name})")


def output(
    out: Any,
    shape: tuple[int, ...],
    axes: str,
    x: NDArray[np.float32] | None = None,
    bias: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return `out`, or a new array on a cache line if it is None; refuse one that does not fit or shares memory with an input."""
    if out is None:
        return aligned(shape)
    check("out", out, shape, axes)
    if not out.flags.writeable:
        raise ArgumentError("out must be writeable, and is read-only")
    for name, other in (("x", x), ("bias", bias)):
        # Contiguous arrays share memory exactly when their extents overlap.
        if isinstance(other, np.ndarray) and np.may_share_memory(out, other):
            raise ArgumentError(f"out must not share memory with {name}; pass another array, or None to have one made")
    checked: NDArray[np.float32] = out
    return checked


def aligned(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return an uninitialised array on a cache-line boundary: NumPy's own would make every vector straddle two lines."""
    size = int(np.prod(shape))
    buffer = np.empty(size + _LINE - 1, dtype=np.float32)
    skip = -(buffer.ctypes.data // 4) % _LINE
    return buffer[skip : skip + size].reshape(shape)


def check_threads(threads: int) -> None:
    """Refuse anything but a whole number of threads in range."""
    if not isinstance(threads, int) or isinstance(threads, bool) or not 1 <= threads <= MOST_THREADS:
        raise ArgumentError(f"threads must be a whole number from 1 to {MOST_THREADS:,}, and got {quoted(threads)}")
