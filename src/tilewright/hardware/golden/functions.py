"""GELU as a table, and layer norm with an integer square root."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...errors import ArgumentError
from .requantise import round_shift

__all__ = ["LayerNormUnit", "gelu_table", "layer_norm_row", "look_up"]

Z_BITS = 12
"""Fraction bits of a normalised number."""

_WIDEST = 1 << 15


def gelu_table(scale_in: float, scale_out: float) -> NDArray[np.int8]:
    """Return GELU of every int8 as a table: entry ``x + 128`` is the GELU of ``x * scale_in`` in steps of `scale_out`.

    GELU(v) is ``v/2 (1 + erf(v / sqrt 2))``, computed in float64 with the exact erf, rounded with halves away from zero,
    and saturated.

    Parameters
    ----------
    scale_in, scale_out
        Step of the input and of the output.

    Raises
    ------
    ArgumentError
        If a scale is not positive and finite.

    Examples
    --------
    >>> table = gelu_table(1 / 32, 1 / 32)
    >>> len(table), [int(table[x + 128]) for x in (-128, -32, 0, 32, 127)]
    (256, [0, -5, 0, 27, 127])
    """
    if not (scale_in > 0 and scale_out > 0 and math.isfinite(scale_in) and math.isfinite(scale_out)):
        raise ArgumentError(f"a table needs positive scales, and got {scale_in} in and {scale_out} out")
    reals = [x * scale_in for x in range(-128, 128)]
    exact = [0.5 * real * (1 + math.erf(real / math.sqrt(2))) / scale_out for real in reals]
    rounded = [math.copysign(math.floor(abs(y) + 0.5), y) for y in exact]
    return np.clip(rounded, -128, 127).astype(np.int8)


def look_up(table: NDArray[np.int8], x: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return ``table[x + 128]`` for int8 x of any shape."""
    return table[x.astype(np.int16) + 128]


@dataclass(frozen=True, eq=False)
class LayerNormUnit:
    """Layer norm of int16 rows to int8.

    Parameters
    ----------
    gain
        int64 ``[D]``, 16 bits signed: gamma / output scale, times ``2**(shift - 12)``.
    offset
        int64 ``[D]``, 48 bits signed: beta / output scale, times ``2**shift``.
    shift
        Shift of the result, 1 to 46, the same for all features.
    epsilon
        ``round(eps * D**2 / input scale**2)``, below ``2**60``.
    """

    gain: NDArray[np.int64]
    offset: NDArray[np.int64]
    shift: int
    epsilon: int

    @classmethod
    def of(cls, gamma: ArrayLike, beta: ArrayLike, eps: float, scale_in: float, scale_out: float) -> "LayerNormUnit":
        """Return the unit for real gamma and beta.

        With g the largest ``|gamma| / scale_out`` and ``2**(e - 1) <= g < 2**e``, `shift` is ``27 - e``, at most 46.
        Gain, offset and epsilon are rounded with halves to even, and the gain saturates at 32767.

        Parameters
        ----------
        gamma, beta
            Real ``[D]``, with D up to 32,768.
        eps
            Epsilon added to the variance.
        scale_in, scale_out
            Step of the int16 input and of the int8 output.

        Raises
        ------
        ArgumentError
            If sizes differ, there are more than 32,768 features, or the output scale is too fine for gamma.
        """
        real, base = np.asarray(gamma, dtype=np.float64), np.asarray(beta, dtype=np.float64)
        if real.ndim != 1 or real.shape != base.shape or not 1 <= len(real) <= _WIDEST:
            raise ArgumentError(
                f"layer norm needs gamma and beta of one length from 1 to {_WIDEST}, and got {real.shape} and {base.shape}"
            )
        if not (scale_in > 0 and scale_out > 0 and eps >= 0):
            raise ArgumentError(f"layer norm needs positive scales, and got {scale_in}, {scale_out} and eps {eps}")
        peak = float(np.abs(real).max() / scale_out)
        shift = min(15 + Z_BITS - math.frexp(peak)[1], 46) if peak else 46
        epsilon = float(np.rint(eps * len(real) ** 2 / scale_in**2))
        if shift < 1 or epsilon >= 2.0**60 or float(np.abs(base).max() / scale_out) >= 2.0 ** (47 - shift):
            raise ArgumentError(
                f"layer norm cannot reach an output scale of {scale_out:g} with gamma up to {float(np.abs(real).max()):g}, beta up to "
                f"{float(np.abs(base).max()):g} and an input scale of {scale_in:g}; calibrate the scales again"
            )
        gain = np.minimum(np.rint(real / scale_out * 2.0 ** (shift - Z_BITS)), 32767).astype(np.int64)
        return cls(gain, np.rint(base / scale_out * 2.0**shift).astype(np.int64), shift, int(epsilon))

    def run(self, x: NDArray[Any]) -> NDArray[np.int8]:
        """Return the layer norm of each row of int16 x ``[..., D]`` as int8, as defined by `layer_norm_row`."""
        wide = np.asarray(x, dtype=np.int64)
        size = wide.shape[-1]
        _check_row(size, len(self.gain), wide)
        total = wide.sum(axis=-1, keepdims=True)
        spread = size * (wide * wide).sum(axis=-1, keepdims=True) - total * total + self.epsilon
        safe = np.maximum(spread, 1)
        k = (31 - bit_length(safe)) // 2
        level = np.where(k >= 0, safe << np.maximum(2 * k, 0), safe >> np.maximum(-2 * k, 0))
        root = np.sqrt(level.astype(np.float64)).astype(np.int64)  # exact: below 2**32
        inverse = (1 << 31) // root
        z = round_shift((size * wide - total) * inverse, 31 - Z_BITS - k)
        y = round_shift(z * self.gain + self.offset, self.shift)
        return np.clip(y, -128, 127).astype(np.int8)


def layer_norm_row(unit: LayerNormUnit, x: list[int]) -> list[int]:
    """Return the layer norm of one row, element by element; this is the definition of `LayerNormUnit.run`.

    Parameters
    ----------
    unit
        The unit with its gains, offsets, shift and epsilon.
    x
        D integers in the range of int16.
    """
    size = len(x)
    _check_row(size, len(unit.gain), np.array(x))
    total = sum(x)
    spread = max(size * sum(v * v for v in x) - total * total + unit.epsilon, 1)
    k = (31 - spread.bit_length()) // 2  # brings the spread to 30 or 31 bits, 4**k being an even shift
    root = math.isqrt(spread << 2 * k if k >= 0 else spread >> -2 * k)
    inverse = (1 << 31) // root
    result = []
    for i, v in enumerate(x):
        z = _half_away((size * v - total) * inverse, 31 - Z_BITS - k)
        y = _half_away(z * int(unit.gain[i]) + int(unit.offset[i]), unit.shift)
        result.append(max(-128, min(127, y)))
    return result


def _half_away(number: int, shift: int) -> int:
    magnitude = (abs(number) + (1 << shift - 1)) >> shift
    return -magnitude if number < 0 else magnitude


def bit_length(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the bit lengths of positive int64, in two halves because float64 rounds above 53 bits."""
    high = numbers >> 31
    of_high = np.frexp(high.astype(np.float64))[1] + 31
    of_low = np.frexp((numbers & ((1 << 31) - 1)).astype(np.float64))[1]
    return np.where(high > 0, of_high, of_low).astype(np.int64)


def _check_row(size: int, expected: int, x: NDArray[Any]) -> None:
    if size != expected:
        raise ArgumentError(f"layer norm of {expected} features got rows of {size}")
    if x.size and (int(x.min()) < -(1 << 15) or int(x.max()) >= 1 << 15):
        raise ArgumentError(f"layer norm takes int16, and {int(x.min())} to {int(x.max())} were given")
