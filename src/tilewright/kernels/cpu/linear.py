"""The launchers: check the arguments, choose the implementation and call it."""

import numpy as np
from numpy.typing import NDArray

from ...errors import ArgumentError
from ...formats import Packed
from .. import reference
from ..arrays import KernelArrays
from ..dispatch import choose, native, remember
from ..table import Activation, activation_code
from .checking import check, check_threads, output

__all__ = ["linear", "linear_arrays", "linear_panels", "pack_panels", "unpack_panels"]


def linear(
    x: NDArray[np.float32],
    packed: Packed,
    bias: NDArray[np.float32] | None = None,
    activation: Activation = "none",
    *,
    threads: int = 1,
    implementation: str | None = None,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return ``activation(x @ w.T + bias)`` for a packed weight w ``[N, K]``.

    Prepares the weight on every call. To use a weight more than once, keep a `KernelArrays` and call `linear_arrays`.

    Parameters
    ----------
    x
        Activations of M tokens, float32 ``[M, K]``, C-contiguous.
    packed
        The weight.
    bias
        Bias, float32 ``[N]``. Outputs whose weights were all pruned are activation(bias). Default: no bias.
    activation
        ``none``, ``relu``, ``gelu`` (exact), ``gelu_tanh``, ``silu`` or ``tanh``. Default: ``none``.
    threads
        Maximum number of threads, 1 to 1,024. Default: 1.
    implementation
        Name of one of `implementations`. Default: that of the environment variable TILEWRIGHT_KERNEL, or else the best
        available.
    out
        Output array, float32 ``[M, N]``, C-contiguous, sharing no memory with `x` or `bias`. Default: a new array.

    Returns
    -------
    ndarray
        The result, float32 ``[M, N]``; `out` if given.

    Raises
    ------
    ArgumentError
        If an array does not have the type, shape and layout stated above, or another argument is invalid.
    NotSupportedError
        If the implementation is unknown or cannot run here.

    Examples
    --------
    >>> from tilewright import NM
    >>> from tilewright.formats import pack
    >>> w = np.array([[1, 0, 0, 2], [0, 3, 4, 0]], dtype=np.float32)
    >>> linear(np.ones((1, 4), dtype=np.float32), pack(w, NM(2, 4)))
    array([[3., 7.]], dtype=float32)
    """
    return linear_arrays(
        x, KernelArrays.of(packed), bias, activation, threads=threads, implementation=implementation, out=out
    )


def linear_arrays(
    x: NDArray[np.float32],
    arrays: KernelArrays,
    bias: NDArray[np.float32] | None = None,
    activation: Activation = "none",
    threads: int = 1,
    implementation: str | None = None,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return the result of `linear` for a weight prepared by `KernelArrays.of`; all else is as for `linear`."""
    name = choose(implementation)
    code = activation_code(activation)
    check("x", x, (None, arrays.K), "[M, K]")
    out = output(out, (len(x), arrays.N), "[M, N]", x, bias)
    _check_bias(bias, arrays.N)
    check_threads(threads)
    if name == "reference":
        out[...] = reference.linear(x, arrays, bias, activation)
    else:
        name = native().linear(name, arrays.native, x, out, bias, code, threads)
    remember(name)
    return out


def linear_panels(
    x: NDArray[np.float32],
    arrays: KernelArrays,
    tokens: int,
    bias: NDArray[np.float32] | None = None,
    activation: Activation = "none",
    threads: int = 1,
    implementation: str | None = None,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return ``activation(x @ w.T + bias)`` with activations in and out as panels.

    Parameters
    ----------
    x
        Activations as panels, float32 ``[P, K, T]``, from `pack_panels` or an earlier call; T is a multiple of 16.
    arrays
        The weight.
    tokens
        Number of actual tokens among the ``P * T``, more than ``(P - 1) * T``.
    bias, activation, threads, implementation
        As for `linear`.
    out
        Output array, float32 ``[P, N, T]``, sharing no memory with `x` or `bias`. Default: a new array.

    Returns
    -------
    ndarray
        The result, float32 ``[P, N, T]``. Values beyond the actual tokens are unspecified.

    Raises
    ------
    ArgumentError, NotSupportedError
        As for `linear`.
    """
    name = choose(implementation)
    code = activation_code(activation)
    check("x", x, (None, arrays.K, None), "[panel, K, T]")
    P, _, T = x.shape
    _check_panels(P, T, tokens)
    out = output(out, (P, arrays.N, T), "[panel, N, T]", x, bias)
    _check_bias(bias, arrays.N)
    check_threads(threads)
    if name == "reference":
        out[...] = reference.linear_panels(x, arrays, tokens, bias, activation)
    else:
        name = native().linear_panels(name, arrays.native, x, out, tokens, bias, code, threads)
    remember(name)
    return out


def pack_panels(
    x: NDArray[np.float32],
    T: int,
    threads: int = 1,
    implementation: str | None = None,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return activations ``[M, K]`` as panels ``[ceil(M / T), K, T]`` with T contiguous tokens, zero beyond M.

    Raises
    ------
    ArgumentError, NotSupportedError
        As for `linear`; T must be a positive multiple of 16.
    """
    name = choose(implementation)
    check("x", x, (None, None), "[M, K]")
    M, K = x.shape
    _check_panels(-(-M // max(T, 1)), T, M)
    panels = output(out, (-(-M // T), K, T), "[panel, K, T]", x, None)
    check_threads(threads)
    if name == "reference":
        panels[...] = reference.pack_panels(x, T)
    else:
        name = native().pack_panels(name, x, panels, threads)
    remember(name)
    return panels


def unpack_panels(
    panels: NDArray[np.float32],
    tokens: int,
    threads: int = 1,
    implementation: str | None = None,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return the first `tokens` tokens of panels ``[P, K, T]`` as activations ``[tokens, K]``.

    Raises
    ------
    ArgumentError, NotSupportedError
        As for `linear_panels`.
    """
    name = choose(implementation)
    check("panels", panels, (None, None, None), "[panel, K, T]")
    P, K, T = panels.shape
    _check_panels(P, T, tokens)
    x = output(out, (tokens, K), "[tokens, K]", panels, None)
    check_threads(threads)
    if name == "reference":
        x[...] = reference.unpack_panels(panels, tokens)
    else:
        name = native().unpack_panels(name, panels, x, threads)
    remember(name)
    return x


def _check_bias(bias: NDArray[np.float32] | None, N: int) -> None:
    if bias is not None:
        check("bias", bias, (N,), "[N]")


def _check_panels(P: int, T: int, tokens: int) -> None:
    if T < 1 or T % 16:
        raise ArgumentError(f"T must be a positive multiple of 16, the tokens of a panel; got {T}")
    if not max(0, (P - 1) * T) + (P > 0) <= tokens <= P * T:
        raise ArgumentError(
            f"{P} panels of {T} tokens hold {max(0, (P - 1) * T) + (P > 0)} to {P * T} tokens, got {tokens}"
        )
